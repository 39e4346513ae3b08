"""Write the report of a run: one HTML page without outside parts, and one picture."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tl_jax.data.tokenize.tokenizer import Tokenizer
from tl_jax.report import (
    example,
    figures,
    funnel,
    glance,
    html,
    more_scores,
    replies,
    samples,
    speed,
)
from tl_jax.report.read import METRICS, PHASE_TITLES, RunData, Score, read_run
from tl_jax.report.suites import by_noise

_NOISE = "Noise"


def write_report(run_dir: str | os.PathLike[str], tokenizer: Tokenizer | None = None) -> Path:
    """Write ``report.html`` and ``report.png`` from what is in a run directory.

    Parts that are missing are named in their section; nothing is computed anew.

    Args:
      run_dir: The run directory.
      tokenizer: That of its model, to show samples; None where the model is not at hand.

    Returns:
      The path of ``report.html``.

    Raises:
      ConfigError: There is no such directory.
    """
    directory = Path(run_dir)
    run = read_run(directory)
    title = f"TL-Training run: {run.name}"
    sections = [
        glance.section(run),
        _results(run),
        *([_noise(run)] if run.noisy else []),
        _curves(run),
        replies.wrong(run),
        replies.by_tool(run),
        replies.sampled(run),
        samples.section(run, tokenizer),
        funnel.section(run),
        speed.section(run),
        _settings("Configuration", run.config, "config.json"),
        _settings("Versions", run.versions, "versions.json"),
    ]
    page = html.page(
        title,
        _subtitle(run),
        sections,
        style=glance.CSS + example.CSS,
        head=html.contents(sections),
    )
    (directory / "report.png").write_bytes(figures.overview_png(run, title))
    draft = directory / "report.html.tmp"
    draft.write_text(page, encoding="utf-8")
    return draft.replace(directory / "report.html")


def results_rows(run: RunData) -> list[tuple[str, str, int, Mapping[str, Score]]]:
    """Return ``(evaluation set, phase, items, scores)``, grouped by set, phases in order."""
    sets = dict.fromkeys(name for results in run.results.values() for name in results)
    return [
        (name, PHASE_TITLES[phase], run.results[phase][name].items, run.results[phase][name].scores)
        for name in sets
        for phase in PHASE_TITLES
        if name in run.results.get(phase, {})
    ]


def _subtitle(run: RunData) -> str:
    def found(section: str, key: str) -> Any:
        entry = run.config.get(section)
        return entry.get(key) if isinstance(entry, Mapping) else None

    parts = [
        ("model", found("model", "path")),
        ("data", found("data", "path")),
        ("seed", run.config.get("seed")),
        ("on", run.versions.get("device_kind")),
    ]
    return " · ".join(f"{name} {value}" for name, value in parts if value is not None)


def _results(run: RunData) -> str:
    rows, more = results_rows(run), more_scores.table(run.directory)
    if not rows and not more:
        return html.section(
            "Results",
            html.absent("No results/*/*.json in this run; `tl-jax evaluate` writes them."),
        )
    missing = [f"results/{phase}/*.json" for phase in PHASE_TITLES if phase not in run.results]
    return html.section(
        "Results",
        *([_levels(rows)] if rows else []),
        more,
        *(f'<p class="note">{html.text(sentence)}.</p>' for sentence in run.too_long),
        html.absent(f"Not in this run: {', '.join(missing)}.") if missing else "",
    )


def _levels(rows: Sequence[tuple[str, str, int, Mapping[str, Score]]]) -> str:
    cells, last = [], ""
    for name, phase, items, scores in rows:
        if name != last:
            cells.append([html.text(name)])
            last = name
        values = [_score(scores[metric]) for metric in METRICS]
        cells.append([html.text(phase), f"{items:,}", *values])
    head = ["model", "calls", *(f"{metric.upper()} %" for metric in METRICS)]
    return (
        html.table(head, cells, numeric=[1, 2, 3, 4])
        + '<p class="note">'
        + "; ".join(f"{metric.upper()} {meaning}" for metric, meaning in METRICS.items())
        + ". Each counts only calls that are right in the one before it; the texts of "
        "finish and ask_to_user are not compared, so service calls are the figure to read. "
        "Brackets: 95 % Wilson interval.</p>"
    )


def _score(score: Score) -> str:
    interval = f"[{html.number(score.low)}, {html.number(score.high)}]"
    return f'{html.number(score.percent)}<span class="range">{interval}</span>'


def _curves(run: RunData) -> str:
    plots = [
        ("Supervised loss", figures.draw_loss, bool(run.series("supervised", "ce_loss")[0])),
        ("Reward", figures.draw_reward, bool(run.series("reward", "reward_mean")[0])),
        ("Sampled calls by category", figures.draw_categories, bool(figures.category_shares(run))),
    ]
    for stage in ("supervised", "reward"):
        if len(run.series(stage, "held_out_cf")[0]) > 1:
            title = f"Held-out calls while the {stage} phase trains"
            plots.append((title, functools.partial(figures.draw_held_out, stage=stage), True))
    halves = []
    for title, draw, there in plots:
        content = html.absent(f"{title}: no rows of it in metrics.jsonl.")
        if there:
            drawn = figures.svg_uri(functools.partial(draw, run=run), width=5.4, height=3.2)
            content = html.image(drawn, title)
        halves.append(f"<div><h3>{title}</h3>{content}</div>")
    return html.section("Training", f'<div class="pair">{"".join(halves)}</div>')


def _noise(run: RunData) -> str:
    """Return the tables of what was scored under noise, each suite's levels side by side."""
    parts = []
    by_suite: dict[str, list[Mapping[str, Any]]] = {}
    for result in run.noisy:
        by_suite.setdefault(str(result.get("suite", "")), []).append(result)
    for suite, found in by_suite.items():
        parts.append(f"<h3>{html.text(suite)}</h3>{by_noise(found)}")
    note = (
        '<p class="note">Results of `tl-jax evaluate --suite` in results/. Percent with 95 % '
        "Wilson intervals; in brackets is the difference to the first column.</p>"
    )
    return html.section(_NOISE, *parts, note)


def _settings(title: str, content: Mapping[str, Any], file: str) -> str:
    if not content:
        return html.section(title, html.absent(f"No {file} in this run."))
    rows = [[html.text(name, 120), html.text(value)] for name, value in html.flat(content)]
    return html.section(title, html.table(["", ""], rows, code=[0, 1]), folded=True)
