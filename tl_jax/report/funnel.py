"""What became of the data: rows in, what was left out and why, and how much of it is trained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tl_jax.report import figures, html, mae
from tl_jax.report.read import RunData, number

TITLE = "Data: errors left out, key tokens weighted"

_ROWS_SHOWN = 25
_FUNNEL = (
    "rows",
    "bad_rows",
    "turns",
    "kept",
    "reasons",
    "calls",
    "categories",
    "verdicts",
    "sources",
)
"""Entries of the prepare report that have a place of their own."""
_UNSEEN = {"unread_keys": "Keys that nothing read", "repairs": "Repairs made to read rows"}


def section(run: RunData) -> str:
    """Return the section about the data."""
    report = run.data_report
    parts = [_funnel(report)] if report else []
    counts = mae.counts(report)
    if counts:
        parts.append(_errors(report))
    else:
        what = "No turn counts in data/mae_report.json; `tl-jax prepare` writes it."
        parts.append(html.absent(what))
    parts += [part for name, title in _UNSEEN.items() for part in _by_source(report, name, title)]
    parts.append("<h3>Weights of trained targets</h3>")
    if run.weights:
        drawn = figures.svg_uri(lambda axes: figures.draw_weights(axes, run), width=5.4, height=2.6)
        note = f'<p class="note">Of the first {run.examples_read:,} examples.</p>'
        parts.append(f'<div class="pair"><div>{html.image(drawn, "weights")}</div>{note}</div>')
    else:
        parts.append(html.absent("No data/examples in this run."))
    rest = html.flat({key: value for key, value in report.items() if key not in _FUNNEL})
    if rest:
        cells = [
            [html.text(name.replace("_", " ").replace(".", ", "), 120), html.text(value, 60)]
            for name, value in rest[: 4 * _ROWS_SHOWN]
        ]
        table = html.table(["", ""], cells, numeric=[1])
        parts.append(f"<details><summary>All counts</summary>{table}</details>")
    return html.section(TITLE, *parts)


def _funnel(report: Mapping[str, Any]) -> str:
    """Return the bars from rows to trained tokens, each group on a scale of its own."""
    return "".join(
        f"<h3>{html.text(title)}</h3>{html.bars(rows, most=max(row[1] for row in rows))}"
        for title, rows in (
            ("Rows", _row_bars(report)),
            ("Assistant turns", _turn_bars(report)),
            ("Tokens", _token_bars(report)),
        )
        if rows
    )


_REMOVED = {"contamination": "overlap with evaluation sets"}
_NO_ERRORS = tuple(map(mae.label, mae.NO_ERRORS))
Bars = list[tuple[str, float, str, str]]


def _row_bars(report: Mapping[str, Any]) -> Bars:
    rows = number(report.get("rows"))
    if not rows > 0:
        return []
    found = [_bar("read", rows, rows)]
    out = {"could not be read (quarantined)": number(report.get("bad_rows"))}
    out["not drawn"] = sum(_sum_of(entry, "not_drawn") for entry in _sources(report).values())
    removed = report.get("removed")
    for name, count in removed.items() if isinstance(removed, Mapping) else ():
        out[_REMOVED.get(name, f"removed: {name}")] = number(count)
    found += [_bar(name, count, rows, "sub") for name, count in out.items() if count > 0]
    for part in ("train", "validation"):
        if (count := _part(report, "trajectories", part)) > 0:
            name = {"train": "to train on", "validation": "held out"}[part]
            found.append(_bar(name, count, rows))
    repaired = _sum(report.get("schema_repairs")) + sum(
        _sum(entry.get("repairs")) for entry in _sources(report).values()
    )
    if repaired:
        found.append(("repairs to read them", 0.0, f"{repaired:,.0f}", "out"))
    return found


def _turn_bars(report: Mapping[str, Any]) -> Bars:
    counts = mae.counts(report)
    if not counts:
        return []
    turns = counts["turns"]
    found = [_bar("judged", turns, turns)]
    verdicts = {name: count for name, count in counts["verdicts"].items() if name != "keep"}
    for name, count in sorted(verdicts.items(), key=lambda entry: -entry[1])[:6]:
        found.append(_bar(name.replace("_", " "), count, turns, "sub"))
    return [*found, _bar("trained", counts["kept"], turns)]


def _token_bars(report: Mapping[str, Any]) -> Bars:
    tokens, trained = (_part(report, key, "train") for key in ("tokens", "trained_tokens"))
    if not tokens > 0:
        return []
    found = [_bar("in samples", tokens, tokens)]
    return [*found, _bar("trained", trained, tokens)] if trained >= 0 else found


def _bar(name: str, count: float, most: float, kind: str = "") -> tuple[str, float, str, str]:
    return name, count, f"{count:,.0f} ({100 * count / most:.1f} %)", kind


def _part(report: Mapping[str, Any], key: str, part: str) -> float:
    entry = report.get(key)
    return number(entry.get(part)) if isinstance(entry, Mapping) else math.nan


def _sum_of(entry: Mapping[str, Any], name: str) -> float:
    count = number(entry.get(name))
    return count if math.isfinite(count) else 0.0


def _sum(entry: Any) -> float:
    values = map(number, entry.values()) if isinstance(entry, Mapping) else ()
    return sum(value for value in values if math.isfinite(value))


def _sources(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    sources = report.get("sources")
    entries = sources.items() if isinstance(sources, Mapping) else ()
    return {str(name): entry for name, entry in entries if isinstance(entry, Mapping)}


def _errors(report: Mapping[str, Any]) -> str:
    counts = mae.counts(report)
    share = 100 * counts["kept"] / counts["turns"]
    parts = [
        f"<p>{counts['kept']:,} of {counts['turns']:,} assistant turns are trained "
        f"({share:.1f} %).</p>"
    ]
    calls = mae.category_rows(report)
    if calls:
        rows = [
            (name, percent, f"{count:,} ({percent:.1f} %)", "" if right else "sub")
            for name, count, percent in calls
            for right in [name in _NO_ERRORS]
        ]
        drawn = html.bars(rows, most=max(row[1] for row in rows))
        parts.append(f"<h3>Calls by kind of error</h3>{drawn}")
    reasons = mae.reason_rows(report)
    if reasons:
        cells = [
            [html.text(name, 120), f"{count:,}", html.number(percent)]
            for name, count, percent in reasons[:_ROWS_SHOWN]
        ]
        table = html.table(["", "turns", "%"], cells, numeric=[1, 2])
        parts.append(f"<h3>Not trained, by rule</h3>{table}")
    return "".join(parts)


def _by_source(report: Mapping[str, Any], name: str, title: str) -> list[str]:
    """Return the table of the counts of every source, most frequent first, if there are any."""
    rows = [
        [html.text(source, 60), html.text(what, 120), html.text(count, 20)]
        for source, entry in _sources(report).items()
        if isinstance(found := entry.get(name), Mapping)
        for what, count in list(found.items())[:_ROWS_SHOWN]
    ]
    return [f"<h3>{title}</h3>" + html.table(["source", "", ""], rows, numeric=[2])] if rows else []
