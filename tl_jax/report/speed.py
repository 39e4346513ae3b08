"""How fast a run was, what memory it took, and where its time went."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from tl_jax.report import html
from tl_jax.report.read import PHASE_TITLES, RunData, number

TITLE = "Speed, memory, time"

_SPEEDS = {
    "tokens_per_s": "tokens/s",
    "rollout_tokens_per_s": "sampled tokens/s",
    "update_tokens_per_s": "trained tokens/s in updates",
}
_PARTS = {
    "step": "steps",
    "compile": "compiling",
    "data": "waiting for data",
    "save": "saving",
    "evaluation": "evaluating",
    "restore": "starting and restoring",
    "lost": "done again after stops",
}
_GIB = 1024**3


def section(run: RunData) -> str:
    """Return the section; parts that nothing measured are left out."""
    if not run.metrics and not run.tokens_per_s:
        return html.section(TITLE, html.absent("No rows in metrics.jsonl."))
    rows = [_stage(run, stage) for stage in run.metrics]
    for phase, speed in run.tokens_per_s.items():
        rows.append([html.text(f"evaluation {PHASE_TITLES[phase]}"), "–", html.number(speed, 0)])
    width = 5 if run.metrics else 3
    head = ["stage", "steps", "tokens/s (median)", "a step, s", "first to last row"][:width]
    cells = [[*row, *["–"] * (width - len(row))] for row in rows]
    parts = [html.table(head, cells, numeric=range(1, width))]
    for stage, entries in run.metrics.items():
        parts += _times(stage, entries)
    if memory := _memory(run.metrics):
        parts.append("<h3>Memory, at most</h3>")
        parts.append(html.table(["stage", "", "GiB"], memory, numeric=[2]))
    return html.section(TITLE, *parts)


def _stage(run: RunData, stage: str) -> list[str]:
    entries = run.metrics[stage]
    speeds = []
    for name, unit in _SPEEDS.items():
        values = run.series(stage, name)[1]
        if values:
            speeds.append(f"{html.number(statistics.median(values), 0)} {unit}")
    times, step_s = _clock(entries), step_seconds(entries)
    wall = times[-1][1] - times[0][1] if times else math.nan
    return [
        html.text(stage, 40),
        f"{entries[-1]['step']:,}",
        "<br>".join(speeds) or "–",
        html.number(step_s, 2),
        _duration(wall),
    ]


def step_seconds(entries: Sequence[Mapping[str, Any]]) -> float:
    """Return the median time of a step between rows of metrics; NaN with less than two rows."""
    times = _clock(entries)
    between = [
        (late - early) / (last - first)
        for (first, early), (last, late) in zip(times, times[1:], strict=False)
        if last > first
    ]
    return statistics.median(between) if between else math.nan


def _clock(entries: Sequence[Mapping[str, Any]]) -> list[tuple[int, float]]:
    rows = [(row["step"], number(row.get("time_s"))) for row in entries]
    return [(step, time) for step, time in rows if math.isfinite(time)]


def _times(stage: str, entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return where the time of a stage went, as its newest row has it."""
    parts = wall_parts(entries)
    if not parts:
        return []
    total = sum(parts.values())
    rows = [
        (name, seconds, f"{_duration(seconds)}, {100 * seconds / total:.1f} %", "")
        for name, seconds in sorted(parts.items(), key=lambda part: -part[1])
    ]
    title = html.text(f"Where the time went: {stage}, {_duration(total)}", 120)
    return [f"<h3>{title}</h3>{html.bars(rows, most=total)}"]


def wall_parts(entries: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the seconds of each part of a stage's time, restarts included.

    Rows have them added up since the beginning (``tl_jax.train.goodput``), so the newest row that
    has them has them all.
    """
    for row in reversed(entries):
        parts = {
            _PARTS.get(cause := name.removeprefix("seconds/"), cause): seconds
            for name, value in row.items()
            if name.startswith("seconds/") and (seconds := number(value)) > 0
        }
        if parts:
            return parts
    return {}


def _memory(metrics: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[list[str]]:
    most: dict[tuple[str, str], float] = {}
    for stage, entries in metrics.items():
        for row in entries:
            for name, value in row.items():
                amount = number(value)
                if math.isfinite(amount) and name.endswith(("_gib", "_bytes")):
                    gib = amount / _GIB if name.endswith("_bytes") else amount
                    label = name.rpartition("_")[0].replace("_", " ").replace("/", ": ")
                    most[stage, label] = max(gib, most.get((stage, label), gib))
    return [
        [html.text(stage, 40), html.text(name, 60), html.number(gib, 2)]
        for (stage, name), gib in most.items()
    ]


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "–"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 120 else f"{minutes / 60:,.1f} h"
