"""Draw the curves and bars of a run; every function draws on the axes it is given."""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from tl_jax.report.read import METRICS, PHASE_TITLES, RunData, is_headline
from tl_jax.rewards import taxonomy

INK = "#1f2933"
MUTED = "#7b8794"
BLUE = "#2f6690"
ORANGE = "#d98324"

_MOST = 600  # points of a line

_CATEGORY_COLOURS: Mapping[str, str] = {
    taxonomy.FORMAT_ERROR: "#6d1a36",
    taxonomy.EXTRA_CALL: "#7d3c66",
    taxonomy.MISSING_CALL: "#a0628c",
    taxonomy.TOOL_HALLUCINATION: "#a23048",
    taxonomy.WRONG_TOOL: "#cf4d50",
    taxonomy.PARAMETER_HALLUCINATION: "#e2714f",
    taxonomy.PARAMETER_REDUNDANCY: "#ec9559",
    taxonomy.PARAMETER_MISSING: "#f2b76b",
    taxonomy.CONTENT_FILLING: "#f6d98b",
    taxonomy.ALL_RIGHT: "#5f9e7f",
}
_PHASE_COLOURS = {"before": "#cbd2d9", "supervised": "#7fa7c4", "reward": BLUE}

_STYLE: dict[Any, Any] = {
    "figure.facecolor": "white",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#cbd2d9",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e9edf1",
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "legend.fontsize": 9,
    # The same run gives the same bytes.
    "svg.hashsalt": "tl_jax",
}


@contextmanager
def style() -> Iterator[None]:
    """Draw in the report's style."""
    with matplotlib.rc_context(_STYLE):
        yield


def plain(text: str) -> str:
    """Return a text that is drawn as it is: between dollar signs would stand a formula."""
    return text.encode("utf-8", "replace").decode().replace("$", r"\$")


def category_colour(category: str) -> str:
    """Return the colour of a category; grey if it is none of the reward's."""
    return _CATEGORY_COLOURS.get(category, "#9aa5b1")


def svg_uri(draw: Callable[[Axes], None], *, width: float = 7.0, height: float = 3.2) -> str:
    """Draw one figure (size in inches) and return it as a ``data:`` URI of an SVG image."""
    with style():
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure.subplots())
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def overview_png(run: RunData, title: str) -> bytes:
    """Draw loss, reward, categories and scores as one picture."""
    panels = {
        "Supervised loss": (draw_loss, bool(run.series("supervised", "ce_loss")[0])),
        "Reward per call": (draw_reward, bool(run.series("reward", "reward_mean")[0])),
        "What sampled calls get wrong": (draw_categories, bool(category_shares(run))),
        "Held-out calls, % right": (draw_scores, bool(run.results)),
    }
    with style():
        engine = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
        figure = Figure(figsize=(12.5, 7.6), layout=engine)
        figure.suptitle(plain(title), x=0.01, ha="left", fontsize=14, fontweight="bold")
        # One row per subfigure: a legend beside a plot narrows its own row only.
        halves: Any = figure.subfigures(2, 1, height_ratios=[1, 1.12], hspace=0.02)
        axes_of = [axes for half in halves for axes in half.subplots(1, 2)]
        for axes, (name, (draw, present)) in zip(axes_of, panels.items(), strict=True):
            if present:
                draw(axes, run)
            else:
                axes.axis("off")
                axes.text(0, 0.9, "not in this run", color=MUTED, transform=axes.transAxes)
            axes.set_title(name)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def draw_loss(axes: Axes, run: RunData) -> None:
    """Draw training and validation loss over supervised steps."""
    steps, loss = run.series("supervised", "ce_loss")
    _faint_and_smooth(axes, steps, loss, BLUE, "training")
    steps, loss = run.series("supervised", "validation_loss")
    if steps:
        axes.plot(*_thinned(steps, loss), "o-", color=ORANGE, markersize=4, label="validation")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("optimiser step")
    axes.set_ylabel("weighted cross-entropy")
    axes.legend()


def draw_reward(axes: Axes, run: RunData) -> None:
    """Draw the mean reward, and the divergence from the supervised model on a second axis."""
    steps, reward = run.series("reward", "reward_mean")
    _faint_and_smooth(axes, steps, reward, BLUE, "mean reward")
    axes.set_xlabel("reward-training step")
    axes.set_ylabel("reward")
    handles, labels = axes.get_legend_handles_labels()
    steps, kl = run.series("reward", "kl_k3")
    if steps:
        right = axes.twinx()
        points = _thinned(steps, kl)
        right.plot(*points, color=ORANGE, linewidth=1.2, label="KL to supervised (right)")
        right.set_ylim(0, max(max(kl) * 1.6, 1e-3))
        right.set_ylabel("nats per token", color=ORANGE)
        right.grid(False)
        handles += right.get_legend_handles_labels()[0]
        labels += right.get_legend_handles_labels()[1]
    axes.legend(handles, labels, loc="lower right")


def draw_held_out(axes: Axes, run: RunData, stage: str) -> None:
    """Draw TS, PI and CF of held-out calls over the steps of a stage."""
    for metric, colour in zip(METRICS, ("#9db8cc", "#5b8fb5", BLUE), strict=True):
        points = _thinned(*run.series(stage, f"held_out_{metric}"))
        axes.plot(*points, "o-", color=colour, markersize=4, label=metric.upper())
    axes.set_ylim(0, 102)
    axes.set_xlabel("step")
    axes.set_ylabel("percent right")
    axes.legend(loc="lower right")


def category_shares(run: RunData) -> dict[str, tuple[list[int], list[float]]]:
    """Return the share of each reward category over steps, categories that occur only."""
    found = {
        name: run.series("reward", f"category/{name}") for name in reversed(taxonomy.CATEGORIES)
    }
    return {name: points for name, points in found.items() if any(points[1])}


def draw_categories(axes: Axes, run: RunData) -> None:
    """Stack the shares of the reward categories: right calls below, errors melting on top."""
    shares = category_shares(run)
    steps = sorted(set(itertools.chain.from_iterable(points[0] for points in shares.values())))
    steps = steps[:: max(len(steps) // _MOST, 1)]
    layers = []
    for own_steps, values in shares.values():
        at = dict(zip(own_steps, values, strict=True))
        layers.append([100 * at.get(step, 0.0) for step in steps])
    axes.stackplot(
        steps,
        layers,
        colors=[category_colour(name) for name in shares],
        labels=[name.replace("_", " ") for name in shares],
        edgecolor="white",
        linewidth=0.4,
    )
    if len(steps) > 1:
        axes.set_xlim(steps[0], steps[-1])
    axes.set_ylim(0, 100)
    axes.set_xlabel("reward-training step")
    axes.set_ylabel("% of sampled calls")
    axes.legend(
        loc="upper left", bbox_to_anchor=(1.0, 1.02), reverse=True, fontsize=8, handlelength=1
    )


def draw_scores(axes: Axes, run: RunData) -> None:
    """Draw TS, PI and CF of the first row of every evaluation set by phase, with intervals."""
    names = dict.fromkeys(name for phase in run.results.values() for name in phase)
    sets = [name for name in names if is_headline(name)]
    phases = [phase for phase in PHASE_TITLES if phase in run.results]
    width = 0.8 / max(len(phases), 1)
    groups = [(name, metric) for name in sets for metric in METRICS]
    places = np.array([i + 0.5 * (i // len(METRICS)) for i in range(len(groups))])
    for number, phase in enumerate(phases):
        heights, below, above = [], [], []
        for name, metric in groups:
            result = run.results[phase].get(name)
            percent, low, high = (
                (s.percent, s.low, s.high) if result and (s := result.scores[metric]) else (0, 0, 0)
            )
            heights.append(np.nan_to_num(percent))
            below.append(np.nan_to_num(max(percent - low, 0.0)))
            above.append(np.nan_to_num(max(high - percent, 0.0)))
        axes.bar(
            places + (number - (len(phases) - 1) / 2) * width,
            heights,
            width * 0.92,
            yerr=[below, above],
            color=_PHASE_COLOURS[phase],
            label=PHASE_TITLES[phase],
            error_kw={"ecolor": INK, "elinewidth": 0.8, "capsize": 2},
        )
    axes.set_xticks(places, [metric.upper() for _, metric in groups])
    for number, name in enumerate(sets):
        centre = places[number * len(METRICS) : (number + 1) * len(METRICS)].mean()
        axes.text(
            centre,
            -0.13,
            plain(name.replace(": ", ":\n")[:40]),
            ha="center",
            va="top",
            transform=axes.get_xaxis_transform(),
        )
    axes.set_ylim(0, 109)
    axes.set_yticks(range(0, 101, 20))
    axes.grid(axis="x", visible=False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.26), ncols=len(phases) or 1)


def draw_weights(axes: Axes, run: RunData) -> None:
    """Draw how many trained targets carry which weight."""
    values = np.array(sorted(run.weights))
    counts = np.array([run.weights[value] for value in values])
    if len(values) > 40:
        bins = np.histogram_bin_edges(values, 40)
        counts, _ = np.histogram(values, bins, weights=counts)
        axes.bar(bins[:-1], counts, np.diff(bins) * 0.9, align="edge", color=BLUE)
        axes.set_xlabel("weight of a target")
    else:
        axes.bar(range(len(values)), counts, 0.7, color=BLUE)
        axes.set_xticks(range(len(values)), [f"{value:.3g}" for value in values])
        axes.set_xlabel("weight of a target (key tokens weigh more)")
        axes.tick_params(axis="x", labelrotation=90 if len(values) > 16 else 0)
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.7)
    axes.set_ylabel("targets")
    axes.grid(axis="x", visible=False)


def _thinned(
    steps: Sequence[int], values: Sequence[float] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return a part of many points: of each stretch the least and the greatest, so that peaks stay.

    A picture has no more of them than it has dots, and a page grows with every point.
    """
    points, heights = np.asarray(steps), np.asarray(values)
    if len(heights) <= _MOST:
        return points, heights
    stretches = np.array_split(np.arange(len(heights)), _MOST // 2)
    kept = {part[find(heights[part])] for part in stretches for find in (np.argmin, np.argmax)}
    at = sorted({0, *kept, len(heights) - 1})
    return points[at], heights[at]


def _faint_and_smooth(
    axes: Axes, steps: list[int], values: list[float], colour: str, label: str
) -> None:
    """Draw noisy points faintly and their running mean on top."""
    side = min(len(values) // 16, 12)
    if side == 0:
        axes.plot(steps, values, color=colour, label=label)
        return
    axes.plot(*_thinned(steps, values), color=colour, alpha=0.28, linewidth=1)
    total = np.cumsum([0.0, *values])
    centres = np.arange(len(values))
    # Near the ends the window shrinks on both sides, so that the mean does not lag.
    reach = np.minimum(np.minimum(centres, centres[::-1]), side)
    starts, ends = centres - reach, centres + reach + 1
    means = (total[ends] - total[starts]) / (ends - starts)
    axes.plot(
        *_thinned(steps, means),
        color=colour,
        linewidth=1.8,
        label=f"{label} (mean of {2 * side + 1})",
    )
