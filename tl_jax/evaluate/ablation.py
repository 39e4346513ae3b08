"""The method without each of its components: eight cells of four runs a seed, and what they say.

A run trains one choice of MAE and PKT; its supervised model is the cell without IRM, the model
after reward training the cell with it, so that both cells of a pair share every earlier stage.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tl_jax.config import AblationConfig, RunConfig
from tl_jax.errors import ConfigError
from tl_jax.evaluate.intervals import Share, mcnemar, t_reach, wilson
from tl_jax.evaluate.results import is_levelled
from tl_jax.report.read import METRICS, REPLIES, SERVICE, read_json

COMPONENTS = ("MAE", "PKT", "IRM")

PARTS = "parts"
"""Folder of the runs in the directory of the ablation."""

_PHASES = ("supervised", "reward")
_SURE = 0.05  # level of the tests

Cell = tuple[str, ...]
"""The components of a cell, in the order of ``COMPONENTS``."""

Answers = dict[str, dict[str, dict[str, bool]]]
"""Set -> id of a task -> metric -> whether it is right."""


class Part(NamedTuple):
    """One run of an ablation.

    Attributes:
      cell: The components that its supervised model has.
      seed: Of the run.
      config: Its settings.
    """

    cell: Cell
    seed: int
    config: RunConfig


def cells() -> list[Cell]:
    """Return the eight cells, fewer components first."""
    return [cell for size in range(4) for cell in itertools.combinations(COMPONENTS, size)]


def title(cell: Cell) -> str:
    """Return how tables call a cell."""
    return " + ".join(cell) or "none"


def parts(config: RunConfig) -> list[Part]:
    """Return the runs that an ablation consists of.

    Raises:
      ConfigError: A seed comes twice, a phase has no steps, or MAE or PKT is off as configured, so
        that the cells with it would not differ from those without.
    """
    seeds = config.ablation.seeds
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"config.ablation.seeds names a seed twice: {seeds}")
    for name, steps in (
        ("train", config.train.steps or config.train.epochs),
        ("ppo", config.ppo.steps),
    ):
        if not steps:
            raise ConfigError(f"config.ablation needs both phases; config.{name}.steps is 0")
    switches = (("mae.rules", config.mae.rules), ("key_tokens.mode", config.key_tokens.mode))
    for name, value in switches:
        if value == "off":
            raise ConfigError(
                f"config.ablation itself switches config.{name} off; set what it is where it is on"
            )
    return [
        Part(cell, seed, _of_part(config, cell, seed))
        for seed in seeds
        for cell in cells()
        if "IRM" not in cell
    ]


def _of_part(config: RunConfig, cell: Cell, seed: int) -> RunConfig:
    name = "-".join([*cell, f"seed{seed}"]).lower()
    mae, key_tokens = config.mae, config.key_tokens
    if "MAE" not in cell:
        mae = dataclasses.replace(mae, rules="off")
    if "PKT" not in cell:
        key_tokens = dataclasses.replace(key_tokens, mode="off")
    return dataclasses.replace(
        config,
        run_dir=str(Path(config.run_dir) / PARTS / name),
        seed=seed,
        mae=mae,
        key_tokens=key_tokens,
        ablation=AblationConfig(),
    )


def compare(config: RunConfig) -> dict[str, Any]:
    """Return what the runs of an ablation say, as far as they are scored.

    Returns:
      ``{"seeds": [...], "versions": {...}, "sets": {name: {"cells": {title: scores},
      "components": {component: effects}}}}``. ``versions``: the software and the machine, as the
      run wrote them down. ``scores``: ``{"items", "seeds", "ts", "pi", "cf"}``, a metric is
      ``{"percent", "low", "high"}``: the mean over seeds with its 95 % t interval, of one seed the
      Wilson interval.
      ``effects``: by metric ``{"gain", "low", "high", "better", "worse", "p", "verdict"}``: the
      same tasks with and without the component, everything else being equal, over all cells and
      seeds; ``gain`` in points. The verdict is "helps" or "hurts" where the exact McNemar test and,
      of several seeds, the t interval over their mean gains both say so, else "no difference seen".

    Raises:
      ConfigError: Nothing is scored yet.
    """
    found = {
        (part.seed, (*part.cell, *(("IRM",) if phase == "reward" else ()))): answers
        for part in parts(config)
        for phase in _PHASES
        if (answers := _answers(Path(part.config.run_dir), phase))
    }
    if not found:
        raise ConfigError(
            f"{config.run_dir}: no part of the ablation is scored yet; `tl-jax run` does it"
        )
    names = dict.fromkeys(name for answers in found.values() for name in answers)
    return {
        "seeds": sorted({seed for seed, _ in found}),
        "versions": read_json(Path(config.run_dir) / "versions.json"),
        "sets": {
            name: {
                "cells": {
                    title(cell): scores
                    for cell in cells()
                    if (scores := _scores(found, cell, name))
                },
                "components": {
                    component: _effects(found, component, name) for component in COMPONENTS
                },
            }
            for name in names
        },
    }


def _answers(run_dir: Path, phase: str) -> Answers:
    """Return what a model of a run has right; of a set with groups the calls of services."""
    found: Answers = {}
    for path in sorted((run_dir / "results" / phase).glob(f"*{REPLIES}")):
        with path.open(encoding="utf-8") as file:
            records = [json.loads(line) for line in file]
        grouped = {record["set"] for record in records if record.get("group") == SERVICE}
        for record in records:
            if record["set"] in grouped and record["group"] != SERVICE:
                continue
            if not is_levelled(record):
                continue
            of_set = found.setdefault(record["set"], {})
            of_set[record["id"]] = {metric: bool(record[metric]) for metric in METRICS}
    return found


Found = Mapping[tuple[int, Cell], Answers]


def _scores(found: Found, cell: Cell, name: str) -> dict[str, Any]:
    by_seed = [
        answers[name] for (_, of), answers in found.items() if of == cell and name in answers
    ]
    if not by_seed:
        return {}
    scores: dict[str, Any] = {
        "items": sum(len(answers) for answers in by_seed),
        "seeds": len(by_seed),
    }
    for metric in METRICS:
        shares = [
            Share(sum(a[metric] for a in answers.values()), len(answers)) for answers in by_seed
        ]
        percents = [share.percent for share in shares]
        mean = float(np.mean(percents))
        if len(shares) > 1:
            reach = t_reach(percents)
            low, high = max(mean - reach, 0.0), min(mean + reach, 100.0)
        else:
            low, high = wilson(shares[0])
        scores[metric] = {"percent": mean, "low": low, "high": high}
    return scores


def _pairs(found: Found, component: str, name: str) -> Iterator[tuple[int, Any, Any]]:
    """Yield the seed and the answers of two models that differ in one component."""
    for (seed, cell), without in found.items():
        if component in cell:
            continue
        joined = tuple(c for c in COMPONENTS if c in cell or c == component)
        both = found.get((seed, joined))
        if both is None or name not in without or name not in both:
            continue
        # Of a run's own data MAE holds out no wrong calls.
        common = [task for task in without[name] if task in both[name]]
        if common:
            yield seed, [without[name][task] for task in common], [both[name][t] for t in common]


def _effects(found: Found, component: str, name: str) -> dict[str, Any]:
    pairs = list(_pairs(found, component, name))
    return {metric: _effect(pairs, metric) for metric in METRICS} if pairs else {}


def _effect(pairs: Sequence[tuple[int, Any, Any]], metric: str) -> dict[str, Any]:
    better = worse = 0
    gains: dict[int, list[float]] = {}
    for seed, without, both in pairs:
        changes = [int(b[metric]) - int(a[metric]) for a, b in zip(without, both, strict=True)]
        better += changes.count(1)
        worse += changes.count(-1)
        gains.setdefault(seed, []).append(100 * float(np.mean(changes)))
    of_seeds = [float(np.mean(values)) for values in gains.values()]
    gain, p = float(np.mean(of_seeds)), mcnemar(better, worse)
    reach = t_reach(of_seeds) if len(of_seeds) > 1 else math.nan
    verdict = "no difference seen"
    # Tasks of one model are no independent trials of a way to train: the seeds must agree, too.
    if p < _SURE and not abs(gain) <= reach:
        verdict = "helps" if gain > 0 else "hurts"
    return {
        "gain": gain,
        "low": None if math.isnan(reach) else gain - reach,
        "high": None if math.isnan(reach) else gain + reach,
        "better": better,
        "worse": worse,
        "p": p,
        "verdict": verdict,
    }
