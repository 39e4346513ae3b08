"""Show an ablation in the paper's layout, with intervals, beside the paper's own numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tl_jax.report import figures, html
from tl_jax.report.read import METRICS

_TOOLALPACA_ROTBENCH = {
    "none": (74.56, 70.18, 42.98, 76.19, 55.24, 38.10),
    "MAE": (73.68, 64.91, 43.68, 78.10, 57.14, 40.95),
    "PKT": (77.78, 71.72, 43.86, 82.86, 63.81, 48.57),
    "IRM": (88.60, 84.21, 57.02, 79.05, 59.05, 44.76),
    "MAE + PKT": (73.68, 64.91, 43.86, 80.95, 56.19, 40.00),
    "MAE + IRM": (87.72, 78.95, 57.89, 82.86, 56.19, 45.71),
    "PKT + IRM": (86.84, 79.82, 57.02, 82.86, 63.81, 48.57),
    "MAE + PKT + IRM": (87.72, 78.07, 57.89, 83.81, 54.29, 42.86),
}
"""Ablation of the paper: CodeLLaMA-2 7B, one run a row; TS, PI, CF on ToolAlpaca, then RoTBench."""

_VERDICT_COLOURS = {"helps": figures.BLUE, "hurts": figures.ORANGE}


def write_ablation(content: Mapping[str, Any], stem: Path) -> list[Path]:
    """Write ``stem`` with ``.json``, ``.html`` and ``.png``.

    Args:
      content: As ``evaluate.ablation.compare`` returns it.
      stem: Path without an ending.

    Returns:
      The three paths.
    """
    seeds = content["seeds"]
    name = f"Ablation: {len(seeds)} seed{'s' if len(seeds) > 1 else ''}"
    page = html.page(
        name,
        "the model without each component of the method, and what each adds",
        [
            html.section(
                "What each component adds",
                html.image(
                    figures.svg_uri(lambda axes: draw_components(axes, content), width=9.4),
                    "gain of each component by set and metric",
                ),
                _components(content),
                '<p class="note">The same tasks with and without the component, everything else '
                "being equal, over all cells and seeds. Better and worse count tasks that only one "
                "of the two has right; p is of the exact McNemar test on them. A verdict needs "
                "the seeds to agree: their 95 % t interval leaves out 0, too.</p>",
            ),
            *(
                html.section(f"Cells: {set_name}", _cells(entry["cells"]))
                for set_name, entry in content["sets"].items()
            ),
            html.section("The paper's cells", _paper()),
        ],
    )
    paths = [stem.with_suffix(ending) for ending in (".json", ".html", ".png")]
    paths[0].write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    paths[1].write_text(page, encoding="utf-8")
    with figures.style():
        figure = Figure(figsize=(9.0, 3.4), layout="constrained")
        axes = figure.subplots()
        draw_components(axes, content)
        axes.set_title(name)
        figure.savefig(paths[2], format="png", dpi=110)
    return paths


def draw_components(axes: Axes, content: Mapping[str, Any]) -> None:
    """Draw the gain of each component on every set and metric, with its interval over seeds."""
    bars = [
        (component, set_name, metric, entry["components"][component][metric])
        for component in next(iter(content["sets"].values()))["components"]
        for set_name, entry in content["sets"].items()
        for metric in METRICS
        if entry["components"][component]
    ]
    components = [component for component, *_ in bars]
    breaks = np.cumsum([0, *(a != b for a, b in zip(components, components[1:], strict=False))])
    places = np.arange(len(bars)) + 0.8 * breaks[: len(bars)]
    gains = np.array([effect["gain"] for *_, effect in bars])
    colours = [_VERDICT_COLOURS.get(effect["verdict"], figures.MUTED) for *_, effect in bars]
    axes.bar(places, gains, 0.72, color=colours)
    for place, (*_, effect) in zip(places, bars, strict=True):
        if effect["low"] is not None:
            axes.plot([place, place], [effect["low"], effect["high"]], color=figures.INK, lw=1)
    axes.axhline(0, color=figures.MUTED, lw=0.8)
    middle = list(METRICS)[1]
    labels = [
        f"{metric.upper()}\n{figures.plain(set_name.rpartition('/')[2])}"
        if metric == middle
        else metric.upper()
        for _, set_name, metric, _ in bars
    ]
    axes.set_xticks(places, labels, fontsize=8)
    axes.set_ylabel("gain in points")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.12 * (high - low))  # room for the components' names
    for component in dict.fromkeys(components):
        of_it = [p for p, c in zip(places, components, strict=True) if c == component]
        above = axes.get_xaxis_transform()
        place = float(np.mean(of_it))
        axes.text(place, 0.98, component, transform=above, ha="center", va="top", weight="bold")


def _components(content: Mapping[str, Any]) -> str:
    rows, starts = [], []
    for set_name, entry in content["sets"].items():
        for component, effects in entry["components"].items():
            starts.append(len(rows))
            for metric, effect in effects.items():
                first = metric == next(iter(METRICS))
                interval = "–"
                if effect["low"] is not None:
                    interval = f"{effect['low']:+.1f} to {effect['high']:+.1f}"
                rows.append(
                    [
                        html.text(set_name if first else ""),
                        html.text(component if first else ""),
                        metric.upper(),
                        f"{effect['gain']:+.1f}",
                        interval,
                        str(effect["better"]),
                        str(effect["worse"]),
                        f"{effect['p']:.3g}",
                        html.text(effect["verdict"]),
                    ]
                )
    head = ("set", "component", "", "gain", "95 %", "better", "worse", "p", "verdict")
    return html.table(head, rows, numeric=range(3, 8), group_starts=starts)


def _cells(cells: Mapping[str, Any]) -> str:
    rows = []
    for name, scores in cells.items():
        shown = [_score(scores[metric]) for metric in METRICS]
        rows.append([html.text(name), str(scores["seeds"]), str(scores["items"]), *shown])
    head = ("cell", "seeds", "calls", *(metric.upper() for metric in METRICS))
    return html.table(head, rows, numeric=range(1, 6))


def _score(score: Mapping[str, float]) -> str:
    interval = f"{score['low']:.0f} to {score['high']:.0f}"
    return f'{html.number(score["percent"])}<span class="range">{interval}</span>'


def _paper() -> str:
    rows = [
        [html.text(name), *(html.number(value, 2) for value in values)]
        for name, values in _TOOLALPACA_ROTBENCH.items()
    ]
    sets = ("ToolAlpaca", "RoTBench")
    head = ("cell", *(f"{name} {metric.upper()}" for name in sets for metric in METRICS))
    note = (
        '<p class="note">Ye et al. 2025, CodeLLaMA-2 7B, one run a row: one item of RoTBench is '
        "0.95 points, one of ToolAlpaca 0.88.</p>"
    )
    return html.table(head, rows, numeric=range(1, 7)) + note
