"""What a training phase adds: the same tasks before and after it, in one run and over several."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tl_jax.errors import ConfigError
from tl_jax.evaluate.intervals import t_reach
from tl_jax.evaluate.results import is_levelled
from tl_jax.evaluate.scores import METRICS, bootstrap_interval
from tl_jax.report.read import REPLIES, read_json
from tl_jax.run.record import flatten

Reply = Mapping[str, Any]
Gains = dict[str, dict[str, Any]]


def paired_gains(before: Sequence[Reply], after: Sequence[Reply]) -> Gains:
    """Compare two models of a run task by task.

    Args:
      before: Records of ``runner.evaluate``: ``set``, ``id``, ``ts``, ``pi``, ``cf`` and,
        where the set has groups, ``group``.
      after: Those of the later model for the same tasks in the same order.

    Returns:
      By set ``{"items", "ts", "pi", "cf"}``, a set with groups also ``"groups"`` of the same form.
      A metric is ``{"before", "after", "gain", "low", "high"}`` in percent of the tasks; the
      interval is the 95 % bootstrap interval of the gain over the tasks, each task's two replies
      drawn together.

    Tasks that are not scored by TS, PI and CF, such as BFCL's, are left out.

    Raises:
      ValueError: The tasks differ.
    """
    tasks = list(map(_task, before))
    if tasks != list(map(_task, after)):
        raise ValueError("the two models were not scored on the same tasks")
    pairs: dict[str, list[tuple[Reply, Reply]]] = {}
    for pair in zip(before, after, strict=True):
        if all(map(is_levelled, pair)):
            pairs.setdefault(pair[0]["set"], []).append(pair)
    found: Gains = {}
    for name, members in pairs.items():
        found[name] = _compared(members)
        groups: dict[str, list[tuple[Reply, Reply]]] = {}
        for pair in members:
            if "group" in pair[0]:
                groups.setdefault(pair[0]["group"], []).append(pair)
        if groups:
            found[name]["groups"] = {group: _compared(part) for group, part in groups.items()}
    return found


def _task(reply: Reply) -> tuple[str, str]:
    # Earlier versions called it otherwise.
    return reply["set"], reply.get("id", reply.get("prompt_id"))


def _compared(pairs: Sequence[tuple[Reply, Reply]]) -> dict[str, Any]:
    result: dict[str, Any] = {"items": len(pairs)}
    for metric in METRICS:
        right = np.array([[reply[metric] for reply in pair] for pair in pairs], np.float64)
        low, high = bootstrap_interval(right[:, 1] - right[:, 0])
        before, after = 100 * right.mean(axis=0)
        result[metric] = {
            "before": float(before),
            "after": float(after),
            "gain": float(after - before),
            "low": 100 * low,
            "high": 100 * high,
        }
    return result


def mean_gains(runs: Sequence[Gains]) -> Gains:
    """Return the means over runs of what ``paired_gains`` found in each.

    Every run counts the same. The interval of the mean gain is the 95 % t interval over the runs.
    A run's gain varies with its tasks, too, so that the interval covers both where the runs have
    tasks of their own. One run is its own mean and keeps its interval over tasks.

    Args:
      runs: At least one; what not all of them hold is left out.
    """
    if len(runs) == 1:
        return runs[0]
    found: Gains = {}
    for name in runs[0]:
        parts = [run[name] for run in runs if name in run]
        if len(parts) < len(runs):
            continue
        found[name] = {"items": sum(part["items"] for part in parts)}
        found[name] |= {metric: _mean([part[metric] for part in parts]) for metric in METRICS}
        if all("groups" in part for part in parts):
            found[name]["groups"] = mean_gains([part["groups"] for part in parts])
    return found


def _mean(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    mean = {name: float(np.mean([v[name] for v in values])) for name in ("before", "after", "gain")}
    reach = t_reach([value["gain"] for value in values])
    return {**mean, "low": mean["gain"] - reach, "high": mean["gain"] + reach}


def compare(runs: Sequence[str]) -> dict[str, Any]:
    """Return what reward training added in each run and in the mean; see ``write_gains``.

    Raises:
      ConfigError: A run is named twice, lacks the replies of a model, or its models were scored on
        other suites or tasks. What only one of its models was scored on is left out.
    """
    if len({Path(run).resolve() for run in runs}) < len(runs):
        raise ConfigError("--runs names a run twice")
    found, facts = {}, []
    for run in runs:
        before, after = (_replies(Path(run), phase) for phase in ("supervised", "reward"))
        both = [name for name in before if name in after]
        if not both:
            raise ConfigError(
                f"{run}: the two models were not scored on the same suites; run `tl-jax evaluate` "
                "for both"
            )
        try:
            found[run] = paired_gains(
                [reply for name in both for reply in before[name]],
                [reply for name in both for reply in after[name]],
            )
        except ValueError as error:
            raise ConfigError(f"{run}: {error}; run `tl-jax evaluate` for both") from error
        if not found[run]:
            raise ConfigError(
                f"{run}: none of its suites ({', '.join(both)}) is scored by TS, PI and CF; "
                "compare results of `tl-jax evaluate --suite` with `tl-jax evaluate --compare`"
            )
        known = {name: read_json(Path(run) / f"{name}.json") for name in ("config", "versions")}
        facts.append(flatten({**known["config"], "versions": known["versions"]}))
    names = [name for name in dict.fromkeys(n for f in facts for n in f) if name != "run_dir"]
    values = {name: [fact.get(name) for fact in facts] for name in names}
    same = {name: found[0] for name, found in values.items() if found.count(found[0]) == len(found)}
    return {
        "runs": found,
        "mean": mean_gains(list(found.values())),
        "differ": {name: found for name, found in values.items() if name not in same},
        "same": same,
    }


def _replies(run_dir: Path, phase: str) -> dict[str, list[Reply]]:
    """Return the replies of a phase by the suite's name in files."""
    folder = run_dir / "results" / phase
    files = sorted(folder.glob(f"*{REPLIES}"))
    if not files:
        raise ConfigError(
            f"--runs: no file {folder}/*{REPLIES}; `tl-jax evaluate --phase={phase}` with that "
            "run's --run=DIR writes it"
        )
    found = {}
    for path in files:
        with path.open(encoding="utf-8") as file:
            found[path.name.removesuffix(REPLIES)] = [json.loads(line) for line in file]
    return found
