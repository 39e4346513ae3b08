"""Show what reward training added in several runs, with intervals: one page and one picture."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tl_jax.report import figures, html
from tl_jax.report.read import METRICS, is_headline, labelled_sets

Gains = Mapping[str, Any]


def write_gains(content: Mapping[str, Any], stem: Path) -> list[Path]:
    """Write ``stem`` with ``.json``, ``.html`` and ``.png``.

    Args:
      content: ``{"runs": {name: gains}, "mean": gains, "same": {setting: value}, "differ":
        {setting: values}}`` with gains as in ``evaluate.gains``; versions are settings, too.
      stem: Path without an ending.

    Returns:
      The three paths.
    """
    runs, mean = content["runs"], content["mean"]
    title = f"What reward training adds: {len(runs)} run{'s' if len(runs) > 1 else ''}"
    differ = "; ".join(
        f"{name} {', '.join(map(str, values))}" for name, values in content["differ"].items()
    )
    page = html.page(
        title,
        f"supervised model and the same after reward training · {differ}",
        [
            html.section(
                "Held-out calls",
                html.image(
                    figures.svg_uri(lambda axes: draw_gains(axes, runs, mean), width=9.4),
                    "gains by set and metric",
                ),
                _table(runs, mean),
                '<p class="note">Percent of the calls before and after, and the difference in '
                "points. In a run the bracket is the 95 % bootstrap interval over its tasks, each "
                "task's two replies drawn together; beside a mean it is the 95 % t interval over "
                "the runs. The texts of finish and ask_to_user are not compared.</p>",
            ),
            _settings("What all runs share", content["same"]),
        ],
    )
    paths = [stem.with_suffix(ending) for ending in (".json", ".html", ".png")]
    paths[0].write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    paths[1].write_text(page, encoding="utf-8")
    with figures.style():
        figure = Figure(figsize=(9.0, 3.4), layout="constrained")
        axes = figure.subplots()
        draw_gains(axes, runs, mean)
        axes.set_title(title)
        figure.savefig(paths[2], format="png", dpi=110)
    return paths


def draw_gains(axes: Axes, runs: Mapping[str, Gains], mean: Gains) -> None:
    """Draw the gains of every set's first row: the mean with its interval, each run as a dot."""
    means = labelled_sets(mean)
    names = [name for name in means if is_headline(name)]
    groups = [(name, metric) for name in names for metric in METRICS]
    places = np.array([i + 0.6 * (i // len(METRICS)) for i in range(len(groups))])
    found = [means[name][metric] for name, metric in groups]
    gains = np.array([entry["gain"] for entry in found])
    ends = np.array([[entry["low"], entry["high"]] for entry in found])
    axes.bar(
        places,
        gains,
        0.72,
        # A percentile interval can leave its mean out.
        yerr=np.maximum([gains - ends[:, 0], ends[:, 1] - gains], 0),
        color=figures.BLUE,
        label="mean and its 95 % interval",
        error_kw={"ecolor": figures.INK, "elinewidth": 0.9, "capsize": 3},
    )
    for number, run in enumerate(runs.values()):
        sets = labelled_sets(run)
        values = [sets[name][metric]["gain"] for name, metric in groups]
        label = "one run" if number == 0 else None
        axes.plot(places, values, "o", color=figures.ORANGE, markersize=4.5, label=label)
    axes.axhline(0, color=figures.MUTED, linewidth=0.9)
    axes.set_xticks(places, [metric.upper() for _, metric in groups])
    for number, name in enumerate(names):
        axes.text(
            places[number * len(METRICS) : (number + 1) * len(METRICS)].mean(),
            -0.13,
            figures.plain(name.replace(": ", ":\n")[:40]),
            ha="center",
            va="top",
            transform=axes.get_xaxis_transform(),
        )
    axes.set_ylabel("gain, points")
    axes.grid(axis="x", visible=False)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _table(runs: Mapping[str, Gains], mean: Gains) -> str:
    cells, starts = [], []
    for name in labelled_sets(mean):
        starts.append(len(cells))
        rows = [*runs.items(), ("mean", mean)] if len(runs) > 1 else [*runs.items()]
        for number, (run, gains) in enumerate(rows):
            entry = labelled_sets(gains)[name]
            first = html.text(name) if number == 0 else ""
            values = [_cell(entry[metric]) for metric in METRICS]
            cells.append([first, html.text(run, 60), f"{entry['items']:,}", *values])
    return html.table(
        ["set", "run", "calls", *(f"{metric.upper()} %" for metric in METRICS)],
        cells,
        numeric=[2, 3, 4, 5],
        group_starts=starts[1:],
    )


def _cell(entry: Mapping[str, float]) -> str:
    interval = f"[{entry['low']:+.1f}, {entry['high']:+.1f}]"
    return (
        f"{html.number(entry['before'])} → {html.number(entry['after'])} "
        f'<b>{entry["gain"]:+.1f}</b><span class="range">{interval}</span>'
    )


def _settings(title: str, content: Mapping[str, Any]) -> str:
    rows = [[html.text(name, 120), html.text(value)] for name, value in content.items()]
    return html.section(title, html.table(["", ""], rows, code=[0, 1]), folded=True)
