"""What models still get wrong: replies of the evaluation, scores by tool, and sampled calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tl_jax.report import html, mae
from tl_jax.report.difference import marked
from tl_jax.report.read import PHASE_TITLES, RunData, Score, SetResult, number
from tl_jax.rewards import taxonomy
from tl_jax.screen import visible

WRONG = "What is still wrong"
BY_TOOL = "By tool"
SAMPLED = "Sampled calls"

_SHOWN = 24
_OPEN = 6
_SAMPLES_SHOWN = 8
_SAMPLES_OPEN = 4
_TOOLS_OPEN = 12
_TOOLS_SHOWN = 200
_LEGEND = (
    '<p class="note"><del>Underlined</del> is what is not in the right answer, '
    "<ins>dotted</ins> what the reply lacks; of several right answers the nearest is shown.</p>"
)


def wrong(run: RunData) -> str:
    """Return the section of wrong replies to the evaluation sets, each with its request."""
    found = run.failures
    if not found.replies:
        what = "No replies in results/*/*.replies.jsonl; `tl-jax evaluate` writes them."
        return html.section(WRONG, html.absent(what))
    if not found.wrong:
        said = f"All {found.replies:,} replies {PHASE_TITLES[found.phase]} are right."
        return html.section(WRONG, f"<p>{html.text(said)}</p>")
    shown = found.records[:_SHOWN]
    told = (
        f"{found.wrong:,} of {found.replies:,} replies {PHASE_TITLES[found.phase]} are wrong; "
        f"here are {len(shown)}, of each set and kind of error in turn."
    )
    cards = [_reply(record) for record in shown]
    return html.section(WRONG, f"<p>{html.text(told)}</p>", _LEGEND, html.cases(cards, open_=_OPEN))


def _reply(record: Mapping[str, Any]) -> str:
    golds = record.get("gold")
    golds = [str(gold) for gold in golds] if isinstance(golds, list) else [str(golds or "")]
    labels = html.label(mae.label(str(record.get("category", "–"))))
    place = " · ".join(str(record[key]) for key in ("set", "id") if record.get(key))
    labels += f'<span class="from">{html.text(place, 120)}</span>'
    detail = [("why", html.text(record["detail"]))] if record.get("detail") else []
    asked = visible(str(record.get("request") or "")).strip()
    return html.case(labels, asked, _compared(record.get("reply", ""), golds) + detail)


def _compared(reply: Any, golds: Sequence[str]) -> list[tuple[str, str]]:
    said, due = marked(visible(str(reply)), [visible(gold) for gold in golds])
    nothing = '<span class="range">nothing</span>'
    words = '<span class="range">an answer in words</span>'
    return [("reply", said or nothing), ("right", due or words)]


def by_tool(run: RunData) -> str:
    """Return the section of scores by the tool that is right, the worst first."""
    if not run.tools:
        what = "No scores by tool in results/*/*.json; `tl-jax evaluate` writes them."
        return html.section(BY_TOOL, html.absent(what))
    parts = []
    for name, tools in run.tools.items():
        rows = sorted(tools.items(), key=lambda entry: _order(entry[1]))
        title = f"{name}: {len(rows):,} tools"
        parts.append(f"<h3>{html.text(title)}</h3>{_tool_table(rows[:_TOOLS_OPEN])}")
        if rest := rows[_TOOLS_OPEN:_TOOLS_SHOWN]:
            more = f"<summary>{len(rest)} more</summary>{_tool_table(rest)}"
            parts.append(f"<details>{more}</details>")
    phase = PHASE_TITLES[run.failures.phase] if run.failures.phase else ""
    note = (
        f'<p class="note">Calls {html.text(phase)} for which the tool is right, in percent with '
        "95 % Wilson intervals; the worst first.</p>"
    )
    return html.section(BY_TOOL, note, *parts)


def _order(result: SetResult) -> tuple[float, int]:
    """Order by the share of right calls; of equals, what more calls say comes first."""
    percent = result.scores["cf"].percent
    return percent if percent == percent else 101.0, -result.items


def _tool_table(rows: Sequence[tuple[str, SetResult]]) -> str:
    cells = [
        [
            f"<code>{html.text(name, 80)}</code>",
            f"{result.items:,}",
            html.number(result.scores["ts"].percent),
            html.number(result.scores["pi"].percent),
            _share(result.scores["cf"]),
        ]
        for name, result in rows
    ]
    return html.table(["tool", "calls", "TS %", "PI %", "CF %"], cells, numeric=[1, 2, 3, 4])


def _share(score: Score) -> str:
    return html.share(score.percent, (score.low, score.high))


def sampled(run: RunData) -> str:
    """Return the section of the worst and the best calls that reward training has sampled."""
    if not run.samples:
        return html.section(SAMPLED, html.absent("No sampled calls in samples.jsonl."))
    worst, best = run.samples[:_SAMPLES_SHOWN], run.best_samples[:_SAMPLES_SHOWN]
    note = (
        '<p class="note">Of each prompt the sample of the lowest and of the highest reward, the '
        f"latest first among equals; of {len(run.samples):,} prompts.</p>"
    )
    return html.section(
        SAMPLED,
        note,
        _LEGEND,
        f"<h3>Worst</h3>{html.cases([_sample(row) for row in worst], open_=_SAMPLES_OPEN)}",
        f"<h3>Best</h3>{html.cases([_sample(row) for row in best], open_=_SAMPLES_OPEN)}",
    )


def _sample(row: Mapping[str, Any]) -> str:
    category = str(row.get("category", "–"))
    kind = "good" if category == taxonomy.ALL_RIGHT else ""
    figures = f"reward {html.number(number(row.get('reward')), 2)}"
    if (advantage := number(row.get("advantage"))) == advantage:
        figures += f", advantage {advantage:+.2f}"
    place = f"step {row.get('step', '–')} · {row.get('prompt_id', '–')}"
    labels = (
        f"{html.label(mae.label(category), kind)} {html.label(figures, 'plain')}"
        f'<span class="from">{html.text(place, 120)}</span>'
    )
    return html.case(labels, "", _compared(row.get("sampled", ""), [str(row.get("gold", ""))]))
