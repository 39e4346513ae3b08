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
      data_report: The object in ``data/mae_report.json``.

    Returns:
      Its ``turns``, ``kept``, and ``verdicts``, ``reasons``, ``categories`` as name -> count;
      empty if there are no turns.
    """
    if not number(data_report.get("turns")) > 0:
        return {}
    found: dict[str, Any] = {name: _count(data_report.get(name)) for name in ("turns", "kept")}
    for name in ("verdicts", "reasons", "categories"):
        counter = data_report.get(name)
        counter = counter if isinstance(counter, Mapping) else {}
        found[name] = {str(key): _count(value) for key, value in counter.items()}
    return found


def category_rows(data_report: Mapping[str, Any]) -> list[tuple[str, int, float]]:
    """Return ``(category, turns, percent of all turns)``, known categories first.

    The last rows are the turns whose outcome is not recorded and those without an error. Source:
    figure 1 of TL-Training (arXiv 2412.15495), the breakdown of calls by error type.
    """
    found = counts(data_report)
    if not found:
        return []
    errors = found["categories"]
    order = [*CATEGORY_LABELS, *(name for name in errors if name not in CATEGORY_LABELS)]
    rows = [(label(name), errors[name]) for name in order if errors.get(name)]
    rows.append(("no feedback recorded", found["verdicts"].get("no_feedback", 0)))
    rows.append((label(taxonomy.ALL_RIGHT), found["kept"]))
    return [(name, count, 100 * count / found["turns"]) for name, count in rows if count]


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
    """Draw the errors by category as bars, in percent of all turns."""
    errors = counts(data_report)["categories"]
    rows = [row for row in category_rows(data_report) if row[0] in map(label, errors)]
    colour = {label(name): figures.category_colour(name) for name in errors}
    shares = [share for _, _, share in rows]
    bars = axes.barh(
        [name for name, _, _ in rows], shares, 0.62, color=[colour[name] for name, _, _ in rows]
    )
    axes.bar_label(
        bars, [f"{share:.1f} %  ({count:,})" for _, count, share in rows], padding=4, fontsize=9
    )
    axes.invert_yaxis()
    axes.set_xlim(0, max(shares, default=1) * 1.35)
    axes.set_xlabel("percent of assistant turns")
    axes.grid(axis="y", visible=False)


def _count(value: Any) -> int:
    return int(found) if math.isfinite(found := number(value)) else 0
