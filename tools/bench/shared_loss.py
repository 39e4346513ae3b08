"""Measure what shared rows do to learning: validation loss per trained token beside plain packing.

    python tools/bench/shared_loss.py [--data=DIR] [--set=rotllama_gpt4] [--seeds=0,1] [--rows=2]
        [--length=4096] [--steps=20] [--points=3] [--held_out=24] [--limit=0] [--out=FILE]

The small base model of the package learns the same samples (one a trajectory, of at most 2,048
tokens) on two sides from the same parameters with the same optimizer: steps of ``--rows`` rows of
trees of ``--length`` entries, and steps of as many plain rows of 2,048 as hold as many trained
tokens in the mean of an epoch. Both go on until they have trained as many tokens as ``--steps``
steps do, and are scored on held-out trajectories at ``--points`` numbers of trained tokens on the
way, between the steps before and after, each trajectory in a row of its own. A seed orders the
samples.

``results/shared_loss.json`` holds the losses, and the difference of the sides (shared minus plain)
with a 95 % interval: a bootstrap over the held-out trajectories, of which both sides score the
same. DIR is by default the value of TL_JAX_DATA; ``--limit`` takes the first trajectories only.
About twelve minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import os
import pathlib
import tempfile
import time
from collections.abc import Callable
from typing import Any

import model as bench
import numpy as np

RESULTS = pathlib.Path(__file__).parent / "results" / "shared_loss.json"
LENGTH = 2048
RATE, WARMUP = 5e-4, 4
_SCORED = 4  # rows of a batch that is scored
_DRAWS = 2000

Curve = list[dict[str, Any]]


def main() -> None:
    """Train both sides with every seed, compare them, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=os.environ.get("TL_JAX_DATA", ""))
    parser.add_argument("--set", default="rotllama_gpt4")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--points", type=int, default=3)
    parser.add_argument("--held_out", type=int, default=24)
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    seeds = [int(seed) for seed in options.seeds.split(",")]
    with tempfile.TemporaryDirectory() as name:
        run = prepared(pathlib.Path(name), options)
        sides, tokens = plan(run, options)
        print(json.dumps({"sides": sides, "tokens": tokens}), flush=True)
        scores = scorer(run, options.held_out)
        curves = {
            side: [trained(run, settings, seed, tokens, options.points, scores) for seed in seeds]
            for side, settings in sides.items()
        }
    results = {
        "machine": bench.machine(load),
        "work": f"{options.set}, one sample a trajectory, embedded base model",
        "seeds": seeds,
        "sides": sides,
        "held_out_trajectories": len(curves["shared"][0][0]["sums"]),
        "points": compared(curves["shared"], curves["plain"]),
        "curves": {
            side: [[shown(point) for point in curve] for curve in found]
            for side, found in curves.items()
        },
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results["points"], indent=1))


def prepared(folder: pathlib.Path, options: argparse.Namespace) -> Any:
    """Return a run whose examples and held-out examples are prepared."""
    import tl_jax
    from tl_jax.config import DataConfig, ModelSourceConfig, RunConfig

    source = next(pathlib.Path(options.data, options.set).glob("trajectories.*"))
    if options.limit:
        with gzip.open(source, "rt", encoding="utf-8") as lines:
            first = list(itertools.islice(lines, options.limit))
        source = folder / "trajectories.jsonl"
        source.write_text("".join(first), encoding="utf-8")
    data = DataConfig(
        path=str(source),
        template="auto",
        samples="per_trajectory",
        max_length=LENGTH,
        max_bad_fraction=1.0,
        validation_fraction=0.05,
    )
    model = ModelSourceConfig(path="embedded")
    run = tl_jax.Run(RunConfig(run_dir=str(folder / "run"), model=model, data=data))
    tl_jax.prepare(run)
    return run


def plan(run: Any, options: argparse.Namespace) -> tuple[dict[str, dict[str, Any]], int]:
    """Return the rows of each side, as ``make_loader`` wants them, and the tokens to be trained."""
    from tl_jax.data.loader.loader import measure
    from tl_jax.data.prepare.files import EXAMPLES

    kinds: dict[str, dict[str, Any]] = {
        name: {
            "length": length,
            "packing": True,
            "packing_bins": 64,
            "packing_fit": "sorted",
            "shared_prefixes": name == "shared",
        }
        for name, length in (("shared", options.length), ("plain", LENGTH))
    }
    per_row = {}
    for name, settings in kinds.items():
        counted = measure(run.data_dir / EXAMPLES, seed=0, most_rows=1_000_000, **settings)
        per_row[name] = counted["trained_tokens"] / counted["rows"]
    kinds["shared"]["rows"] = options.rows
    same = options.rows * per_row["shared"] / per_row["plain"]
    kinds["plain"]["rows"] = max(1, round(same))
    return kinds, round(options.steps * options.rows * per_row["shared"])


def trained(
    run: Any,
    settings: dict[str, Any],
    seed: int,
    tokens: int,
    points: int,
    scores: Callable[[Any], tuple[np.ndarray, np.ndarray]],
) -> Curve:
    """Train one side until it has trained so many tokens; return its scores on the way."""
    import jax

    from tl_jax.config import OptimConfig
    from tl_jax.convert import from_hf
    from tl_jax.data.loader.loader import make_loader
    from tl_jax.data.prepare.files import EXAMPLES
    from tl_jax.models import registry
    from tl_jax.train import optimizer as optim
    from tl_jax.train import step as step_lib
    from tl_jax.types import Batch

    config = registry.read_config(run.model_dir)
    chosen = OptimConfig(
        learning_rate=RATE, warmup_steps=WARMUP, schedule="constant", clip_norm=1.0
    )
    optimizer = optim.make_optimizer(chosen, 1000)
    made = step_lib.make_train_step(config, step_lib.LossConfig(), optimizer)
    step = jax.jit(made, donate_argnums=0)
    state = step_lib.init_state(from_hf.load(run.model_dir), optimizer)
    sums, weights = scores(state.params)
    curve: Curve = [{"trained": 0, "places": 0, "seconds": 0.0, "sums": sums, "weights": weights}]
    done = places = 0
    seconds = 0.0
    loader = make_loader(run.data_dir / EXAMPLES, seed=seed, **settings)
    goals = [tokens * number // points for number in range(1, points + 1)]
    while goals:
        row: dict[str, Any] = dict(next(loader))
        new = int(row.get("trained", row["weights"] > 0).sum())
        passes = done + new >= goals[0]
        if passes:
            sums, weights = scores(state.params)
        began = time.perf_counter()
        state, metrics = step(state, jax.device_put(Batch(**row)))
        assert np.isfinite(float(metrics.ce_loss))
        took = time.perf_counter() - began
        later = scores(state.params)[0] if passes else sums
        while goals and done + new >= goals[0]:
            # Steps of the sides end at other tokens: what lies between is a straight line.
            share = (goals[0] - done) / new
            point = {
                "trained": goals.pop(0),
                "places": round(places + share * row["tokens"].size),
                "seconds": round(seconds + share * took, 1),
            }
            curve.append({**point, "sums": sums + share * (later - sums), "weights": weights})
            print(settings["shared_prefixes"], seed, shown(curve[-1]), flush=True)
        done, places, seconds = done + new, places + row["tokens"].size, seconds + took
    loader.close()
    return curve


def scorer(run: Any, most: int) -> Callable[[Any], tuple[np.ndarray, np.ndarray]]:
    """Return a function from parameters to the summed losses and weights of each trajectory."""
    import jax

    from tl_jax.data.loader.loader import make_loader
    from tl_jax.data.prepare.files import VALIDATION
    from tl_jax.models import functional, registry
    from tl_jax.types import Batch

    config = registry.read_config(run.model_dir)
    loader = make_loader(
        run.data_dir / VALIDATION,
        length=LENGTH,
        rows=_SCORED,
        seed=0,
        packing=False,
        packing_bins=1,
        repeat=False,
    )
    taken: list[dict[str, Any]] = list(itertools.islice(loader, -(-most // _SCORED)))
    rows = [Batch(**row) for row in taken]
    loader.close()

    @jax.jit
    def one(params: Any, batch: Any) -> Any:
        logprobs_BTV = jax.nn.log_softmax(functional.apply(params, batch, config))
        picked_BT = jax.numpy.take_along_axis(logprobs_BTV, batch.targets[..., None], axis=2)
        return -(picked_BT[..., 0] * batch.weights).sum(1), batch.weights.sum(1)

    def score(params: Any) -> tuple[np.ndarray, np.ndarray]:
        found = [jax.device_get(one(params, batch)) for batch in rows]
        sums, weights = (np.concatenate(part) for part in zip(*found, strict=True))
        real = weights > 0  # the last batch is filled up
        return sums[real], weights[real]

    return score


def compared(shared: list[Curve], plain: list[Curve]) -> list[dict[str, Any]]:
    """Return the difference of the losses at each point, by seed and of the mean of the seeds."""
    found = []
    for number in range(len(shared[0])):
        losses = np.array(
            [[curve[number]["sums"] for curve in side] for side in (shared, plain)], np.float64
        )
        weights = shared[0][number]["weights"]
        differences = losses[0] - losses[1]
        found.append(
            {
                "trained_tokens": shared[0][number]["trained"],
                "by_seed": [interval(one, weights) for one in differences],
                "all_seeds": interval(differences.mean(0), weights),
            }
        )
    return found


def interval(sums: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    """Return a difference of losses a token, and between what it lies in 95 of 100 draws."""
    picks = np.random.default_rng(0).integers(0, len(sums), (_DRAWS, len(sums)))
    drawn = sums[picks].sum(1) / weights[picks].sum(1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    mean = sums.sum() / weights.sum()
    return {"difference": round(float(mean), 5), "low": round(low, 5), "high": round(high, 5)}


def shown(point: dict[str, Any]) -> dict[str, Any]:
    """Return a point of a curve with the loss a token in place of those of trajectories."""
    mean = float(point["sums"].sum() / point["weights"].sum())
    plain = {key: value for key, value in point.items() if key not in ("sums", "weights")}
    return {**plain, "loss": round(mean, 4)}


if __name__ == "__main__":
    main()
