"""Write the report of a run: one HTML page without outside parts, and one picture."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from tl_jax.data.tokenize.tokenizer import Tokenizer
from tl_jax.report import example, figures, funnel, glance, html, replies, samples, speed
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
    rows = results_rows(run)
    if not rows:
        return html.section(
            "Results",
            html.absent("No results/*/*.json in this run; `tl-jax evaluate` writes them."),
        )
    cells, starts = [], []
    for index, (name, phase, items, scores) in enumerate(rows):
        first = index == 0 or rows[index - 1][0] != name
        if first and index:
            starts.append(index)
        values = [_score(scores[metric]) for metric in METRICS]
        cells.append([html.text(name) if first else "", html.text(phase), f"{items:,}", *values])
    missing = [f"results/{phase}/*.json" for phase in PHASE_TITLES if phase not in run.results]
    return html.section(
        "Results",
        html.table(
            ["set", "model", "calls", *(f"{metric.upper()} %" for metric in METRICS)],
            cells,
            numeric=[2, 3, 4, 5],
            group_starts=starts,
        ),
        '<p class="note">'
        + "; ".join(f"{metric.upper()} {meaning}" for metric, meaning in METRICS.items())
        + ". Each counts only calls that are right in the one before it; the texts of "
        "finish and ask_to_user are not compared, so service calls are the figure to read. "
        "Brackets: 95 % Wilson interval.</p>",
        *(f'<p class="note">{html.text(sentence)}.</p>' for sentence in run.too_long),
        html.absent(f"Not in this run: {', '.join(missing)}.") if missing else "",
    )


def _score(score: Score) -> str:
    interval = f"[{html.number(score.low)}, {html.number(score.high)}]"
    return f'{html.number(score.percent)}<span class="range">{interval}</span>'


def _curves(run: RunData) -> str:
    plots = [
        ("Supervised loss", figures.draw_loss, run.series("supervised", "ce_loss")),
        ("Reward", figures.draw_reward, run.series("reward", "reward_mean")),
    ]
    halves = []
    for title, draw, points in plots:
        content = _figure(lambda axes, draw=draw: draw(axes, run), title, width=5.4)
        if not points[0]:
            content = html.absent("No rows of this stage in metrics.jsonl.")
        halves.append(f"<div><h3>{title}</h3>{content}</div>")
    for stage in ("supervised", "reward"):
        if run.series(stage, "held_out_cf")[0]:
            title = f"Held-out calls while the {stage} phase trains"
            content = _figure(
                lambda axes, stage=stage: figures.draw_held_out(axes, run, stage), title, width=5.4
            )
            halves.append(f"<div><h3>{title}</h3>{content}</div>")
    if figures.category_shares(run):
        stacked = _figure(
            lambda axes: figures.draw_categories(axes, run), "reward categories", width=7.2
        )
    else:
        stacked = html.absent("No reward categories in metrics.jsonl.")
    return html.section(
        "Training",
        f'<div class="pair">{"".join(halves)}</div>',
        "<h3>Sampled calls by category</h3>",
        stacked,
    )


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


def _figure(
    draw: Callable[[Axes], None], alternative: str, *, width: float, height: float = 3.2
) -> str:
    return html.image(figures.svg_uri(draw, width=width, height=height), alternative)
