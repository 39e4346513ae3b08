"""Write the report of a run: one HTML page without outside parts, and one picture."""

from __future__ import annotations

import json
import math
import os
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from tl_jax.report import figures, html, mae
from tl_jax.report.read import METRICS, PHASE_TITLES, RunData, Score, number, read_run

_SAMPLES_SHOWN = 12
_ROWS_SHOWN = 25
_PREPARED = (
    "rows",
    "bad_rows",
    "trajectories",
    "examples",
    "prompts",
    "tokens",
    "trained_tokens",
    "samples_shortened",
    "feedbacks_elided",
    "messages_dropped",
    "turns_skipped",
)
_UNSEEN = {"unread_keys": "Keys that nothing read", "repairs": "Repairs made to read rows"}


def write_report(run_dir: str | os.PathLike[str]) -> Path:
    """Write ``report.html`` and ``report.png`` from what is in a run directory.

    Parts that are missing are named in their section; nothing is computed anew.

    Returns:
      The path of ``report.html``.

    Raises:
      ConfigError: There is no such directory.
    """
    directory = Path(run_dir)
    run = read_run(directory)
    title = f"TL-Training run: {run.name}"
    page = html.page(
        title,
        _subtitle(run),
        [
            _results(run),
            _curves(run),
            _samples(run),
            _data(run),
            _throughput(run),
            _settings("Configuration", run.config, "config.json"),
            _settings("Versions", run.versions, "versions.json"),
        ],
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
        "Brackets: 95 % bootstrap interval.</p>",
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
    if figures.category_shares(run):
        stacked = _figure(lambda axes: figures.draw_categories(axes, run), "reward categories")
    else:
        stacked = html.absent("No reward categories in metrics.jsonl.")
    return html.section(
        "Training",
        f'<div class="pair">{"".join(halves)}</div>',
        "<h3>Sampled calls by category</h3>",
        stacked,
    )


def _samples(run: RunData) -> str:
    title = "Worst sampled calls"
    if not run.samples:
        return html.section(title, html.absent("No sampled calls in samples.jsonl."))
    shown = run.samples[:_SAMPLES_SHOWN]
    rows = [
        [
            html.text(row.get("step", "–"), 12),
            html.text(row.get("prompt_id", "–"), 60),
            html.text(row.get("sampled", "")),
            html.text(row.get("gold", "")),
            html.text(mae.label(str(row.get("category", "–"))), 40),
            html.number(number(row.get("reward")), 2),
            html.number(number(row.get("advantage")), 2),
        ]
        for row in shown
    ]
    return html.section(
        title,
        '<p class="note">The lowest reward of each prompt, latest first among equals; '
        f"{len(shown)} of {len(run.samples):,} prompts.</p>",
        html.table(
            ["step", "prompt", "sampled", "gold", "category", "reward", "advantage"],
            rows,
            numeric=[0, 5, 6],
            code=[1, 2, 3],
        ),
    )


def _data(run: RunData) -> str:
    counts = mae.counts(run.data_report)
    parts = []
    if counts:
        share = 100 * counts["kept"] / counts["turns"]
        parts.append(
            f"<p>{counts['kept']:,} of {counts['turns']:,} assistant turns are trained "
            f"({share:.1f} %).</p>"
        )
        tables = {
            "Calls by kind of error": ("calls", mae.category_rows(run.data_report)),
            "Not trained, by rule": ("turns", mae.reason_rows(run.data_report)),
        }
        halves = []
        for title, (unit, rows) in tables.items():
            cells = [
                [html.text(name, 120), f"{count:,}", html.number(percent)]
                for name, count, percent in rows[:_ROWS_SHOWN]
            ]
            body = html.table(["", unit, "%"], cells, numeric=[1, 2])
            halves.append(f"<div><h3>{title}</h3>{body}</div>")
        parts.append(f'<div class="pair">{"".join(halves)}</div>')
        if mae.error_share(run.data_report):
            parts.append(_figure(lambda axes: mae.draw_categories(axes, run.data_report), "errors"))
    else:
        parts.append(
            html.absent("No turn counts in data/mae_report.json; `tl-jax prepare` writes it.")
        )
    prepared = _flat({key: run.data_report[key] for key in _PREPARED if key in run.data_report})
    if prepared:
        cells = [
            [html.text(name.replace("_", " ").replace(".", ", "), 120), html.text(value, 20)]
            for name, value in prepared[:_ROWS_SHOWN]
        ]
        parts.append("<h3>Prepared</h3>" + html.table(["", ""], cells, numeric=[1]))
    parts += [part for name, title in _UNSEEN.items() for part in _counts(run, name, title)]
    parts.append("<h3>Weights of trained targets</h3>")
    if run.weights:
        parts.append(_figure(lambda axes: figures.draw_weights(axes, run), "weights", height=2.6))
        parts.append(f'<p class="note">Of the first {run.examples_read:,} examples.</p>')
    else:
        parts.append(html.absent("No data/examples in this run."))
    return html.section("Data: errors left out, key tokens weighted", *parts)


def _counts(run: RunData, name: str, title: str) -> list[str]:
    """Return the table of the counts of every source, most frequent first, if there are any."""
    sources = run.data_report.get("sources")
    rows = [
        [html.text(source, 60), html.text(what, 120), html.text(count, 20)]
        for source, entry in (sources.items() if isinstance(sources, Mapping) else ())
        for what, count in list((entry.get(name) or {}).items())[:_ROWS_SHOWN]
    ]
    return [f"<h3>{title}</h3>" + html.table(["source", "", ""], rows, numeric=[2])] if rows else []


def _throughput(run: RunData) -> str:
    rows = []
    for stage, entries in run.metrics.items():
        steps, speeds = run.series(stage, "tokens_per_s")
        times = [t for row in entries if math.isfinite(t := number(row.get("time_s")))]
        skipped = run.series(stage, "skipped")[1]
        rows.append(
            [
                html.text(stage, 40),
                f"{entries[-1]['step']:,}",
                html.number(statistics.median(speeds) if steps else math.nan, 0),
                html.number(times[-1] - times[0] if times else math.nan, 0),
                html.number(skipped[-1] if skipped else math.nan, 0),
            ]
        )
    for phase, speed in run.tokens_per_s.items():
        label = f"evaluation {PHASE_TITLES[phase]}"
        rows.append([html.text(label), "–", html.number(speed, 0), "–", "–"])
    if not rows:
        return html.section("Throughput", html.absent("No rows in metrics.jsonl."))
    return html.section(
        "Throughput",
        html.table(
            ["stage", "steps", "tokens/s (median)", "first to last row, s", "skipped steps"],
            rows,
            numeric=[1, 2, 3, 4],
        ),
    )


def _settings(title: str, content: Mapping[str, Any], file: str) -> str:
    if not content:
        return html.section(title, html.absent(f"No {file} in this run."))
    rows = [[html.text(name, 120), html.text(value)] for name, value in _flat(content)]
    return html.section(title, html.table(["", ""], rows, code=[0, 1]), folded=True)


def _flat(tree: Any, prefix: str = "") -> list[tuple[str, str]]:
    if isinstance(tree, Mapping):
        return [
            pair
            for key, value in tree.items()
            for pair in _flat(value, f"{prefix}.{key}" if prefix else str(key))
        ]
    return [(prefix, json.dumps(tree, ensure_ascii=False))]


def _figure(
    draw: Callable[[Axes], None], alternative: str, *, width: float = 9.4, height: float = 3.2
) -> str:
    return html.image(figures.svg_uri(draw, width=width, height=height), alternative)
