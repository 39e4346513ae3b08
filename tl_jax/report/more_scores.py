"""Scores of suites that are no TS, PI and CF, such as BFCL's categories."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tl_jax.report import html
from tl_jax.report.read import METRICS, PHASE_TITLES, Score, number, phase_results


class MoreScore(NamedTuple):
    """A score of a suite.

    Attributes:
      items: What it is a share of; 0 where it is made of several shares.
      score: In percent, the interval NaN where it has none.
    """

    items: int
    score: Score


def more_scores(result: Mapping[str, Any]) -> dict[str, MoreScore]:
    """Return the scores of a result of a run beside TS, PI and CF, as ``SUITE: SCORE``.

    Args:
      result: Content of a file of ``read.phase_results``.
    """
    scores, intervals, counts = (result.get(k) for k in ("scores", "intervals", "counts"))
    if not isinstance(scores, Mapping):
        return {}
    found = {}
    for name, value in scores.items():
        percent = number(value)
        if name.rpartition("/")[2] in METRICS or not math.isfinite(percent):
            continue
        low, high = pair(intervals, name)
        _, count = pair(counts, name)
        items = int(count) if math.isfinite(count) else 0
        found[f"{result.get('suite', '')}: {name}"] = MoreScore(items, Score(percent, low, high))
    return found


def pair(entries: Any, name: str) -> tuple[float, float]:
    """Return the two numbers that ``entries`` has for a score; NaN where it has none."""
    entry = entries.get(name) if isinstance(entries, Mapping) else None
    if not isinstance(entry, list) or len(entry) != 2:
        return math.nan, math.nan
    return number(entry[0]), number(entry[1])


def table(run_dir: Path) -> str:
    """Return the table of these scores, a column for each phase; empty if there are none."""
    found: dict[str, dict[str, MoreScore]] = {}
    for phase in PHASE_TITLES:
        for result in phase_results(run_dir, phase):
            if scores := more_scores(result):
                found.setdefault(phase, {}).update(scores)
    rows = []
    for name in dict.fromkeys(name for scores in found.values() for name in scores):
        entries = [scores.get(name) for scores in found.values()]
        items = next(entry.items for entry in entries if entry is not None)
        cells = [_cell(entry) for entry in entries]
        rows.append([html.text(name), f"{items:,}" if items else "", *cells])
    if not rows:
        return ""
    head = ["score", "items", *(PHASE_TITLES[phase] for phase in found)]
    numeric = range(1, len(head))
    return f"<h3>Other scores, percent</h3>{html.table(head, rows, numeric=numeric)}"


def _cell(entry: MoreScore | None) -> str:
    if entry is None:
        return "–"
    percent, *bounds = vars(entry.score).values()
    return html.share(percent, bounds)
