"""Compare two systems on the items of a suite, from their results; several seeds of each, too."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tl_jax.errors import ConfigError
from tl_jax.evaluate.intervals import mcnemar, t_reach
from tl_jax.evaluate.scores import bootstrap_interval
from tl_jax.evaluate.suite_file import REPLIES

_FACTS = ("version", "prompt", "noise", "seed", "style", "constrained")
"""What scores shift with, beside the model."""


def compare_results(paths: Sequence[str]) -> dict[str, Any]:
    """Compare two results, or the means of two directories of results of one suite.

    Args:
      paths: Two result files, or directories with one for each seed.

    Returns:
      ``{"suite", "runs", "scores", "differ"}``: the number of results on each side, and by score
      ``{"items", "before", "after", "gain", "low", "high", "better", "worse"}`` in percent, the
      last two counted over items (where a side has several results, those that are right in more
      of them); of single results also ``p`` of the exact McNemar test. The interval of a gain
      holds 95 %: over items by bootstrap, each item's two replies together, where a side has
      several results over seeds and items. ``differ`` names what the two were scored under that is
      not the same.

    Raises:
      ConfigError: Not two of them, no results there, or results on other items.
    """
    if len(paths) != 2:
        raise ConfigError(f"--compare takes two results, FIRST,SECOND, got {len(paths)}")
    sides = [_results(path) for path in paths]
    suites = {result["suite"] for side in sides for result, _ in side}
    if len(suites) > 1:
        raise ConfigError(f"--compare: results of several suites, {', '.join(sorted(suites))}")
    ids = [list(lines) for side in sides for _, lines in side]
    if any(names != ids[0] for names in ids):
        raise ConfigError("--compare: the results are not of the same items")
    before, after = sides
    # Not every item is asked for every score: those of BFCL are of its categories.
    names = dict.fromkeys(
        name
        for _, lines in (*before, *after)
        for line in lines.values()
        for name, value in line.items()
        if isinstance(value, bool) and name != "parsed"
    )
    compared = {name: _compared(before, after, name) for name in names}
    versions = {
        fact: ({str(r.get(fact)) for r, _ in before}, {str(r.get(fact)) for r, _ in after})
        for fact in _FACTS
    }
    return {
        "suite": suites.pop(),
        "runs": [len(side) for side in sides],
        "scores": {name: found for name, found in compared.items() if found["items"]},
        "differ": [
            f"{fact}: {', '.join(sorted(a))} before, {', '.join(sorted(b))} after"
            for fact, (a, b) in versions.items()
            if a != b
        ],
    }


Side = list[tuple[dict[str, Any], dict[str, dict[str, Any]]]]


def _compared(before: Side, after: Side, name: str) -> dict[str, Any]:
    """Return the gain of one score, over the items that have it in all results."""
    both = [_right(side, name) for side in (before, after)]
    asked = ~np.isnan(np.concatenate(both)).any(axis=0)
    if not asked.any():
        return {"items": 0}
    first, last = (right[:, asked] for right in both)
    gains = last.mean(axis=0) - first.mean(axis=0)
    better, worse = int((gains > 0).sum()), int((gains < 0).sum())
    low, high = bootstrap_interval(gains)
    gain = float(gains.mean())
    found: dict[str, Any] = {
        "items": int(asked.sum()),
        "before": 100 * float(first.mean()),
        "after": 100 * float(last.mean()),
        "gain": 100 * gain,
        "better": better,
        "worse": worse,
    }
    if len(first) == len(last) == 1:
        return found | {"low": 100 * low, "high": 100 * high, "p": mcnemar(better, worse)}
    # Seeds and items vary by themselves: their variances add up.
    items = (high - low) / 2
    seeds = [t_reach(list(r.mean(axis=1))) for r in (first, last) if len(r) > 1]
    reach = float(np.sqrt(items**2 + sum(seed**2 for seed in seeds)))
    return found | {"low": 100 * (gain - reach), "high": 100 * (gain + reach)}


def _right(side: Side, name: str) -> np.ndarray:
    """Return 1 or 0 per result and item ``[results, items]``, NaN where an item has no score."""
    return np.array(
        [[float(line.get(name, np.nan)) for line in lines.values()] for _, lines in side]
    )


def _results(path: str) -> Side:
    files = sorted(Path(path).glob("*.json")) if Path(path).is_dir() else [Path(path)]
    found = [_result(file) for file in files]
    if not found:
        raise ConfigError(f"--compare: no results (*.json) in {path}")
    return found


def _result(path: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    lines = path.with_suffix(REPLIES)
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        rows = [json.loads(line) for line in lines.open(encoding="utf-8")]
        found: Mapping[str, Any] = {str(row["id"]): row for row in rows}
        if not isinstance(result, dict) or not found or "suite" not in result:
            raise ValueError("no result of a suite")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"--compare: {path} with {lines.name} beside it is no result of `tl-jax evaluate "
            f"--suite` ({error})"
        ) from error
    return result, dict(found)
