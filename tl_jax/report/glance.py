"""Whether training worked, at a glance: the scores before and after, and what went wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from tl_jax.report import html, length
from tl_jax.report.read import PHASE_TITLES, RunData, Score, is_headline, number

_TILES = 6
_METRIC = "cf"

CSS = """
.verdict { font-size: 20px; line-height: 1.35; font-weight: 650; margin: 0 0 14px; }
.tiles { display: grid; gap: 12px;
  grid-template-columns: repeat(auto-fit, minmax(min(270px, 100%), 1fr)); }
.tile { border: 1px solid var(--edge); border-radius: 8px; padding: 12px 14px; min-width: 0; }
.tile h3 { margin: 0; overflow-wrap: anywhere; }
.big { font-size: 32px; line-height: 1.2; font-weight: 700; font-variant-numeric: tabular-nums; }
.big small { font-size: 15px; font-weight: 500; color: var(--soft); }
.phase { display: grid; grid-template-columns: 6em 1fr 3em; gap: 8px; align-items: center;
  font-size: 12.5px; color: var(--soft); }
.phase .span { margin: 0; min-width: 40px; height: 7px; }
.phase .span i, .phase .span b { height: 7px; }
.facts { display: flex; flex-wrap: wrap; gap: 4px 22px; margin: 14px 0 10px; padding: 0;
  list-style: none; font-size: 13.5px; color: var(--soft); }
.facts b { color: var(--ink); font-weight: 600; }
.facts .wrong, .facts .wrong b { color: var(--bad); }
"""


class Change(NamedTuple):
    """How a set was scored by the phases of a run, in order.

    Attributes:
      name: Name of the set.
      items: Its calls.
      scores: Title of a phase and its score.
    """

    name: str
    items: int
    scores: list[tuple[str, Score]]

    @property
    def outcome(self) -> str:
        """``better``, ``worse`` or ``even`` by the intervals of first and last; else nothing."""
        first, last = self.scores[0][1], self.scores[-1][1]
        if len(self.scores) < 2 or not all(map(math.isfinite, (*vars(first).values(), last.low))):
            return ""
        return "better" if last.low > first.high else "worse" if last.high < first.low else "even"


def changes(run: RunData) -> list[Change]:
    """Return the first row of each evaluation set with its scores by phase."""
    found: dict[str, Change] = {}
    for phase, title in PHASE_TITLES.items():
        for name, result in run.results.get(phase, {}).items():
            score = result.scores[_METRIC]
            if is_headline(name) and math.isfinite(score.percent):
                change = found.setdefault(name, Change(name, result.items, []))
                change.scores.append((title, score))
    return list(found.values())


def verdict(run: RunData) -> str:
    """Return in a sentence whether training worked, as far as the run says it."""
    found = changes(run)
    outcomes = [change.outcome for change in found if change.outcome]
    if outcomes:
        better, worse = outcomes.count("better"), outcomes.count("worse")
        of = f"of {len(outcomes)} evaluation set{'s' if len(outcomes) > 1 else ''}"
        if better and worse:
            return f"Mixed: right calls rose on {better} {of} and fell on {worse}."
        if better:
            return f"Training worked: right calls rose on {better} {of}, and fell on none."
        if worse:
            return f"Training did harm: right calls fell on {worse} {of}, and rose on none."
        return f"No difference seen on any {of}."
    if found:
        return "Scored once, so that there is nothing to compare with."
    for stage, name, what in (
        ("reward", "held_out_cf", "Right held-out calls went from {:.1f} to {:.1f} %"),
        ("supervised", "held_out_cf", "Right held-out calls went from {:.1f} to {:.1f} %"),
        ("supervised", "validation_loss", "The held-out loss went from {:.3g} to {:.3g}"),
        ("supervised", "ce_loss", "The loss went from {:.3g} to {:.3g}"),
        ("reward", "reward_mean", "The mean reward went from {:.2f} to {:.2f}"),
    ):
        values = run.series(stage, name)[1]
        if len(values) > 1:
            return f"{what.format(values[0], values[-1])}; the models are not evaluated."
    return "Nothing is trained or evaluated yet."


def section(run: RunData) -> str:
    """Return the first section of the page."""
    found = changes(run)
    tiles = "".join(map(_tile, found[:_TILES]))
    note = (
        '<p class="note">Calls that are right in every value (CF), with 95 % intervals. "Rose" and '
        '"fell": the intervals of the first and the last model do not meet.</p>'
        if found
        else ""
    )
    facts = "".join(
        f"<li{' class=wrong' if wrong else ''}>{html.text(name)} <b>{html.text(value, 60)}</b></li>"
        for name, value, wrong in _facts(run)
    )
    return html.section(
        "At a glance",
        f'<p class="verdict">{html.text(verdict(run))}</p>',
        f'<div class="tiles">{tiles}</div>' if tiles else "",
        f'<ul class="facts">{facts}</ul>' if facts else "",
        note,
    )


def _tile(change: Change) -> str:
    first, last = change.scores[0][1], change.scores[-1][1]
    gain = ""
    if len(change.scores) > 1:
        kind = {"better": "good", "worse": ""}.get(change.outcome, "plain")
        gain = html.label(f"{last.percent - first.percent:+.1f}", kind)
    phases = "".join(
        f'<div class="phase"><span>{html.text(_short(title))}</span>'
        f"{html.scale(score.percent, (score.low, score.high))}"
        f'<span class="num">{html.number(score.percent)}</span></div>'
        for title, score in change.scores
    )
    return (
        f'<div class="tile"><h3>{html.text(change.name, 80)}</h3><div class="big">'
        f"{html.number(last.percent)}<small> % of {change.items:,} calls</small> {gain}</div>"
        f"{phases}</div>"
    )


def _short(title: str) -> str:
    return title.removeprefix("after ").removesuffix(" training")


def _facts(run: RunData) -> list[tuple[str, str, bool]]:
    found = []
    for stage, rows in run.metrics.items():
        done, asked = rows[-1]["step"], length.asked_steps(run.directory, run.config, stage)
        of = f" of {asked:,}" if asked else ""
        early = length.ended_early(run.directory, stage, done, asked)
        of += ", ended as its score got no better" if early else ""
        found.append((f"{stage} steps", f"{done:,}{of}", done < asked and not early))
        skipped = [value for row in rows if math.isfinite(value := number(row.get("skipped")))]
        if skipped and skipped[-1]:
            found.append((f"{stage} steps skipped, not finite", f"{skipped[-1]:,.0f}", True))
    trained = run.data_report.get("trained_tokens")
    if isinstance(trained, Mapping) and math.isfinite(count := number(trained.get("train"))):
        found.append(("trained tokens in the data", f"{count:,.0f}", False))
    if run.failures.replies:
        right = f"{run.failures.wrong:,} of {run.failures.replies:,}"
        found.append(("replies still wrong", right, False))
    return found
