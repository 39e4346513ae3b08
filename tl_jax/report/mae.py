"""Show what mitigating adverse effects kept and left out, and which errors the data hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes

from tl_jax.report import figures
from tl_jax.report.read import number
from tl_jax.rewards import taxonomy

CATEGORY_LABELS = {
    **{name: name.replace("_", " ") for name in taxonomy.CATEGORIES},
    "service": "service failed",
    "nothing_found": "nothing found",
    "unknown": "other error",
}
"""Category of a feedback -> how tables call it, in the order of tables."""


def counts(data_report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the turn counts of a prepare report.

    Args:
      data_report: The object in ``data/report.json``; the counts are under ``"mae"`` or at the
        top: ``turns``, ``kept``, ``verdicts``, ``reasons``, ``categories``.

    Returns:
      These five entries, the last three as name -> count; empty if there are no turns.
    """
    entry = data_report.get("mae", data_report)
    if not isinstance(entry, Mapping) or not number(entry.get("turns")) > 0:
        return {}
    found: dict[str, Any] = {
        "turns": int(entry["turns"]),
        "kept": int(_finite(entry.get("kept"))),
    }
    for name in ("verdicts", "reasons", "categories"):
        counter = entry.get(name)
        counter = counter if isinstance(counter, Mapping) else {}
        found[name] = {str(key): int(_finite(value)) for key, value in counter.items()}
    return found


def category_rows(data_report: Mapping[str, Any]) -> list[tuple[str, int, float]]:
    """Return ``(category, turns, percent of all turns)``, known categories first.

    The last row, ``all right``, counts the turns without an error. Source: figure 1 of
    TL-Training (arXiv 2412.15495), the breakdown of calls by error type.
    """
    found = counts(data_report)
    if not found:
        return []
    errors = dict(found["categories"])
    errors.pop(taxonomy.ALL_RIGHT, None)
    order = [*CATEGORY_LABELS, *(name for name in errors if name not in CATEGORY_LABELS)]
    rows = [(name, errors[name]) for name in order if errors.get(name)]
    rows.append((taxonomy.ALL_RIGHT, found["turns"] - sum(errors.values())))
    return [(label(name), count, 100 * count / found["turns"]) for name, count in rows]


def reason_rows(data_report: Mapping[str, Any]) -> list[tuple[str, int, float]]:
    """Return ``(verdict and rule, turns, percent of all turns)`` of what is not trained."""
    found = counts(data_report)
    return [
        (reason, count, 100 * count / found["turns"])
        for reason, count in found.get("reasons", {}).items()
    ]


def label(category: str) -> str:
    """Return how tables call a category."""
    return CATEGORY_LABELS.get(category, category.replace("_", " "))


def table(data_report: Mapping[str, Any]) -> str:
    """Return the tables of kept turns, errors by category and rules as plain text."""
    found = counts(data_report)
    if not found:
        return "no turn counts: run `tl-jax prepare` first"
    percent = 100 * found["kept"] / found["turns"]
    lines = [f"{found['kept']} of {found['turns']} assistant turns are trained ({percent:.1f} %)"]
    blocks = {
        "errors by category": category_rows(data_report),
        "not trained, by rule": reason_rows(data_report),
    }
    for title, rows in blocks.items():
        lines += ["", title]
        width = max((len(name) for name, _, _ in rows), default=0)
        lines += [f"  {name:<{width}}  {count:>7}  {share:5.1f} %" for name, count, share in rows]
    return "\n".join(lines)


def draw_categories(axes: Axes, data_report: Mapping[str, Any]) -> None:
    """Draw the error categories as bars, in percent of all turns, worst kind on top."""
    rows = [row for row in category_rows(data_report) if row[0] != label(taxonomy.ALL_RIGHT)]
    names = [name for name, _, _ in rows]
    shares = [share for _, _, share in rows]
    colours = [figures.category_colour(name.replace(" ", "_")) for name in names]
    bars = axes.barh(names, shares, color=colours, height=0.62)
    axes.bar_label(
        bars, [f"{share:.1f} %  ({count})" for _, count, share in rows], padding=4, fontsize=9
    )
    axes.invert_yaxis()
    axes.set_xlim(0, max(shares, default=1) * 1.35)
    axes.set_xlabel("percent of assistant turns")
    axes.grid(axis="y", visible=False)


def _finite(value: Any) -> float:
    return found if math.isfinite(found := number(value)) else 0.0
