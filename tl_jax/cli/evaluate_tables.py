"""Tables of results of suites, and of their comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

_LEVELS = ("ts", "pi", "cf")


def show_results(results: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print the scores of suites: TS / PI / CF in one cell, each other score in a row."""
    table = Table(title="percent, with 95 % intervals")
    for column in ("suite", "items", "score", "percent", "interval"):
        # On a narrow screen a name goes on in the next line, whole.
        justify = "right" if column in ("items", "percent") else "left"
        table.add_column(column, justify=justify, overflow="fold")
    for result in results:
        for name, score, interval in _rows(result):
            counts = result["counts"].get(name) or result["counts"].get(f"{name}/ts".lstrip("/"))
            items = str(counts[1]) if counts else str(result["items"])
            shown = name if name not in _LEVELS and name else "all"
            label = "TS / PI / CF" if "/" in score else ""
            named = f"{shown} {label}".strip()
            table.add_row(escape(result["suite"]), items, escape(named), score, interval)
    console.print(table)
    for result in results:
        for problem, count in result["problems"].items():
            told = f"{count} of {result['items']} items of {result['suite']}: {problem}"
            console.print(f"{told}; they count as wrong", markup=False)
        if "note" in result:
            console.print(f"{result['suite']}: {result['note']}", markup=False)


def _rows(result: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    scores, intervals = result["scores"], result["intervals"]
    found: list[tuple[str, str, str]] = []
    for name, score in scores.items():
        part, _, last = name.rpartition("/")
        prefix = f"{part}/" if part else ""
        levels = [f"{prefix}{level}" for level in _LEVELS]
        if last in _LEVELS and all(level in scores for level in levels):
            if last == "ts":
                found.append(
                    (
                        part,
                        " / ".join(f"{scores[level]:.2f}" for level in levels),
                        " / ".join(_interval(intervals.get(level)) for level in levels),
                    )
                )
            continue
        found.append((name, f"{score:.2f}", _interval(intervals.get(name))))
    return found


def _interval(bounds: Sequence[float] | None) -> str:
    return "" if bounds is None else f"{bounds[0]:.1f}-{bounds[1]:.1f}"


def show_comparison(found: Mapping[str, Any], console: Console) -> None:
    """Print what ``compare_results`` found."""
    first, second = found["runs"]
    table = Table(title=f"{escape(found['suite'])}: {first} results before, {second} after")
    for column in ("score", "before", "after", "gain", "better / worse", "p"):
        justify = "left" if column == "score" else "right"
        table.add_column(column, justify=justify, overflow="fold")
    for name, row in found["scores"].items():
        gain = f"{row['gain']:+.2f} ({row['low']:+.2f} to {row['high']:+.2f})"
        p = f"{row['p']:.3g}" if "p" in row else ""
        pairs = f"{row['better']} / {row['worse']}"
        table.add_row(escape(name), f"{row['before']:.2f}", f"{row['after']:.2f}", gain, pairs, p)
    console.print(table)
    for difference in found["differ"]:
        console.print(f"the results differ in {difference}", markup=False)
