"""Show what mitigating adverse effects kept and left out, and which errors the data hold."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tl_jax.report import figures
from tl_jax.report.read import number
from tl_jax.rewards import taxonomy

CATEGORY_LABELS = {
    **{name: name.replace("_", " ") for name in taxonomy.CATEGORIES if name != taxonomy.ALL_RIGHT},
    "service": "service failed",
    "unknown": "other error",
    "nothing_found": "nothing found",
    "no_feedback": "no feedback recorded",
    taxonomy.ALL_RIGHT: "all right",
}
"""Category of a call -> how tables call it, in the order of tables."""

NO_ERRORS = ("nothing_found", "no_feedback", taxonomy.ALL_RIGHT)
"""Categories of calls that are no mistake, or not known to be one."""


def counts(data_report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the turn counts of a prepare report.

    Args:
      data_report: The object in ``data/mae_report.json``.

    Returns:
      Its ``turns``, ``kept``, and ``verdicts``, ``reasons``, ``calls`` as name -> count; empty if
      there are no turns.
    """
    if not number(data_report.get("turns")) > 0:
        return {}
    found: dict[str, Any] = {name: _count(data_report.get(name)) for name in ("turns", "kept")}
    for name in ("verdicts", "reasons", "calls"):
        counter = data_report.get(name)
        counter = counter if isinstance(counter, Mapping) else {}
        found[name] = {str(key): _count(value) for key, value in counter.items()}
    return found


def category_rows(data_report: Mapping[str, Any]) -> list[tuple[str, int, float]]:
    """Return ``(category, calls, percent of all calls)``: errors first, then what is no error.

    Source: figure 1 of TL-Training (arXiv 2412.15495), the breakdown of calls by error type.
    """
    return [(label(name), calls, share) for name, calls, share in _shares(data_report)]


def error_share(data_report: Mapping[str, Any]) -> float:
    """Return the percentage of calls that are wrong; 0 if there are none."""
    return sum(share for name, _, share in _shares(data_report) if name not in NO_ERRORS)


def _shares(data_report: Mapping[str, Any]) -> list[tuple[str, int, float]]:
    calls = counts(data_report).get("calls", {})
    order = [*(name for name in calls if name not in CATEGORY_LABELS), *CATEGORY_LABELS]
    total = sum(calls.values())
    return [(name, calls[name], 100 * calls[name] / total) for name in order if calls.get(name)]


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


def draw_categories(axes: Axes, data_report: Mapping[str, Any]) -> None:
    """Draw the mistakes by category as bars, in percent of all calls."""
    rows = [row for row in _shares(data_report) if row[0] not in NO_ERRORS]
    shares = [share for _, _, share in rows]
    bars = axes.barh(
        [figures.plain(label(name)) for name, _, _ in rows],
        shares,
        0.62,
        color=[figures.category_colour(name) for name, _, _ in rows],
    )
    axes.bar_label(
        bars, [f"{share:.1f} %  ({count:,})" for _, count, share in rows], padding=4, fontsize=9
    )
    axes.invert_yaxis()
    axes.set_xlim(0, max(shares, default=1) * 1.35)
    axes.set_xlabel("percent of calls")
    axes.grid(axis="y", visible=False)


def write_chart(data_report: Mapping[str, Any], path: str | os.PathLike[str], title: str) -> None:
    """Write the chart of ``draw_categories`` as a PNG image."""
    with figures.style():
        figure = Figure(figsize=(7.0, 3.4), layout="constrained")
        axes = figure.subplots()
        draw_categories(axes, data_report)
        axes.set_title(title)
        figure.savefig(path, format="png", dpi=140)


def _count(value: Any) -> int:
    return int(found) if math.isfinite(found := number(value)) else 0
