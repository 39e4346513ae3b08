"""Measure scoring and updates of reward training against the build before rows were shared.

    python tools/bench/reward_rows.py --before=CHECKOUT [--prompts=4] [--samples=8] [--length=512]
        [--new=64] [--updates=4] [--layers=30] [--rounds=3] [--note=TEXT] [--out=FILE]

CHECKOUT is a checkout of that build (``git worktree add DIR COMMIT``). Both sides take a LLaMA
decoder with the sizes of SmolLM2-135M in float32 from the same random weights, the same samples and
the same rewards. Scoring is both passes of a rollout, policy and reference; an update is RLOO with
the divergence in the reward, in ``--updates`` parts. Each side has a process of its own and they
take turns; medians are compared, of wall seconds and, for busy machines, of CPU seconds. Before the
first round both must give the same log-probabilities and losses.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import model as bench
import numpy as np
import rl_sides

RESULTS = pathlib.Path(__file__).parent / "results" / "reward_rows.json"
TARGET = 3.0
PARTS = ("scoring", "update")


def main() -> None:
    """Let the sides take turns and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=pathlib.Path, help="checkout of the build before")
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--new", type=int, default=64)
    parser.add_argument("--updates", type=int, default=4)
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--note", default="", help="kept in the results")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    parser.add_argument("--side", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = [field.name for field in dataclasses.fields(rl_sides.Work)]
    work = rl_sides.Work(**{name: getattr(options, name) for name in names})
    if options.side:
        serve(work, options.layers)
        return
    if options.before is None:
        parser.error("--before is needed")
    load = os.getloadavg()[0]
    found = measure(options.before, work, options.layers, options.rounds)
    results = {
        "machine": bench.machine(load),
        "note": options.note,
        "layers": options.layers,
        **dataclasses.asdict(work),
        **found,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=1))


def measure(
    before: pathlib.Path, work: rl_sides.Work, layers: int = 30, rounds: int = 3
) -> dict[str, Any]:
    """Return ``sides``, the medians of both builds by part, and ``results``, their ratios.

    Raises:
      SystemExit: The builds do not compute the same.
    """
    own = pathlib.Path(__file__).resolve().parents[2]
    sizes = [f"--{key}={value}" for key, value in dataclasses.asdict(work).items()]
    command = [sys.executable, __file__, "--side", f"--layers={layers}", *sizes]
    sides: dict[str, subprocess.Popen[str]] = {}
    took: dict[str, list[dict[str, Any]]] = {"now": [], "before": []}
    try:
        for side, root in (("now", own), ("before", before)):
            sides[side] = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": str(root.resolve())},
            )
            bench.answer(sides[side])
        first = {side: bench.ask(process) for side, process in sides.items()}
        checks = [[facts["logprob"], facts["reference"], facts["loss"]] for facts in first.values()]
        if np.ptp(checks, axis=0).max() > 1e-4:
            raise SystemExit(f"the builds do not compute the same: {checks}")
        for number in range(rounds):
            for side, process in sides.items():
                took[side].append(bench.ask(process))
            print(f"round {number + 1} of {rounds}", flush=True)
    finally:
        for process in sides.values():
            process.kill()
    medians = {
        side: {
            f"{part}_{kind}": round(statistics.median(found[part][kind] for found in steps), 3)
            for part in PARTS
            for kind in ("wall_s", "cpu_s")
        }
        | {f"{part}_tokens": steps[0][part]["tokens"] for part in PARTS}
        for side, steps in took.items()
    }
    ratios = {name: medians["before"][name] / medians["now"][name] for name in medians["now"]}
    both = {
        kind: sum(medians["before"][f"{part}_{kind}"] for part in PARTS)
        / sum(medians["now"][f"{part}_{kind}"] for part in PARTS)
        for kind in ("wall_s", "cpu_s")
    }
    shape = f"{work.prompts} prompts of {work.length} x {work.samples} samples of {work.new}"
    return {
        "first": first,
        "sides": medians,
        "ratio_cpu_s": {
            **{part: round(ratios[f"{part}_cpu_s"], 2) for part in PARTS},
            "both": round(both["cpu_s"], 2),
        },
        "results": [
            {
                "work": f"reward {part}, {shape}",
                "against": "build before",
                "ratio": round(ratio, 2),
                "target": TARGET,
            }
            for part, ratio in (
                *((part, ratios[f"{part}_wall_s"]) for part in PARTS),
                ("scoring and update", both["wall_s"]),
            )
        ],
    }


def serve(work: rl_sides.Work, layers: int) -> None:
    """Answer each line of the standard input with the times of a step of the imported build."""
    step = own_step(work, layers)
    for _ in rl_sides.asked():
        rl_sides.answer(step())


def own_step(work: rl_sides.Work, layers: int = 30) -> Callable[[], dict[str, Any]]:
    """Return what scores samples, makes the updates from them, and tells how long both took."""
    from tl_jax.parallel import host_memory

    host_memory.keep_freed()
    import jax

    from tl_jax import config
    from tl_jax.models import functional
    from tl_jax.rl import advantages, batch, logprobs, prompts
    from tl_jax.train import optimizer as optim
    from tl_jax.train import step as step_lib

    try:
        from tl_jax.rl import rows as rows_lib
    except ImportError:  # the build before
        rows_lib = None

    sizes = config.ModelConfig(
        vocab_size=49152,
        embed_dim=576,
        num_layers=layers,
        num_heads=9,
        num_kv_heads=3,
        head_dim=64,
        mlp_dim=1536,
        rope_theta=100000.0,
        tie_embeddings=True,
        max_position=8192,
    )
    settings = rl_sides.run_config(pathlib.Path(), work, "")
    ppo = settings.ppo
    loss = step_lib.LossConfig(ce_coef=0.0, reward_coef=1.0, ce_chunk=work.new, ppo=ppo)
    optimizer = optim.make_optimizer(settings.ppo_optim, 1000)
    update = jax.jit(step_lib.make_train_step(sizes, loss, optimizer), donate_argnums=0)
    score = logprobs.make_logprob_step(sizes, temperature=1.0, chunk=work.new)
    rng = np.random.default_rng(0)
    reference = functional.init(sizes, jax.random.key(0))
    moved = jax.tree.map(
        lambda x: x + rl_sides.NOISE * np.std(x) * rng.normal(size=x.shape).astype(np.float32),
        reference,
    )
    states = [step_lib.init_state(moved, optimizer, kl_coef=rl_sides.KL_COEF)]
    beginnings = rng.integers(1, sizes.vocab_size, (work.prompts, work.length)).tolist()
    prompt_ids = [ids for ids in beginnings for _ in range(work.samples)]
    replies = rng.integers(1, sizes.vocab_size, (work.rows, work.new)).tolist()
    scores = rng.normal(size=work.rows).astype(np.float32)
    shape: Any = None
    if rows_lib is not None:
        shape = rows_lib.plan_rows(
            ppo, prompt_length=work.length, reply_length=work.new, shards=1, parts=1
        )

    def timed(found: dict[str, Any], part: str, run: Callable[[], Any]) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        result, tokens = run()
        found[part] = {
            "wall_s": time.perf_counter() - wall,
            "cpu_s": time.process_time() - cpu,
            "tokens": tokens,
        }
        return result

    def scored() -> Any:
        sampled = [[True] * work.new for _ in replies]
        samples, mask = batch.build_batch(
            prompt_ids, replies, sampled, length=work.length + work.new
        )
        asked, places = samples.replace(weights=mask), None
        if rows_lib is not None:
            asked, places = rows_lib.share(asked, mask, shape)

        def of(params: Any) -> list[np.ndarray]:
            found = [np.asarray(each) for each in score(params, asked)]
            if places is None:
                return found
            return [places.by_sample(each, mask.shape[1]) for each in found]

        old, values, _ = of(states[0].params)
        before = of(reference)[0]
        filled = advantages.estimate(
            *(scores, old, before, values, mask),
            kl_coef=rl_sides.KL_COEF,
            reward_clip=5.0,
            gamma=1.0,
            gae_lambda=1.0,
            whiten=False,
            method=ppo.advantage,
            group_size=work.samples,
        )
        means = [float(each[mask > 0].mean()) for each in (old, before)]
        return (samples.replace(rollout=jax.device_get(filled)), means), asked.tokens.size

    def updated(samples: Any) -> Any:
        losses, tokens = [], 0
        for members in prompts.minibatches(work.rows, ppo, 0, 0):
            part = jax.tree.map(lambda x, m=members: x[m], samples)
            if rows_lib is not None:
                part, _ = rows_lib.share(part, part.rollout.weights, shape)
            states[0], metrics = update(states[0], part)
            losses.append(float(metrics.loss))
            tokens += part.tokens.size
        return losses[0] if len(losses) == 1 else 0.0, tokens

    def step() -> dict[str, Any]:
        found: dict[str, Any] = {}
        samples, means = timed(found, "scoring", scored)
        loss = timed(found, "update", lambda: updated(samples))
        # Updates of a part have other samples in either build.
        return found | {"logprob": means[0], "reference": means[1], "loss": loss}

    return step


if __name__ == "__main__":
    main()
