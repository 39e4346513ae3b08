"""Compile the attention kernels for TPUs, count the steps of their grids, and estimate their time.

    python tools/aot_attention.py [--step=FILE] [--out=FILE]

Needs the package libtpu and no TPU (see tools/aot_compile.py), and some minutes. For each chip and
kernel (``tree``, our own; ``splash``, JAX's, for plain rows): the memory of forward and backward of
one row of 8,192 tokens with 8 heads of 128 in bfloat16, and how many instructions of its schedule
a step of the grid takes, which is the longest stretch without a branch. On the rows, plain and
shared, of made-up trajectories that share beginnings as rotllama_gpt4 does (3.0 times fewer tokens
in rows of 8,192): the steps that each kernel makes.

``--step`` is what ``tools/aot_compile.py --programs=supervised --json=FILE`` wrote; its entry says
with which kernel it was compiled: what surrounds the other may be scheduled otherwise. The compiler
does not count kernels in its cycles, so the time of a step is that schedule and, beside it, steps x
instructions / clock of the kernels in all layers and heads; per trajectory, of all chips together.
These are estimates that tell variants apart, no measurements.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np

RESULTS = pathlib.Path(__file__).parent / "bench" / "results" / "aot_attention.json"
CHIPS = {"v5e": "v5e:2x2", "v5p": "v5p:2x2x1", "v6e": "v6e:2x2"}
KERNELS = ("tree", "splash")
HEADS, LENGTH, HEAD_DIM, BLOCK = 8, 8192, 128, 512
CORES = {"v5p": 2}  # that share the heads of a kernel; else 1
LAYERS, MODEL_HEADS = 32, 32  # of CodeLlama-7B
ROWS, BRANCHES = 64, 6
PARTS = {"dkv": "dkv", "dq": "dq", "": "forward"}


def main() -> None:
    """Compile, count and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--step", type=pathlib.Path, action="append", default=[])
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    parser.add_argument("--compile", nargs=2, default=(), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.compile:
        print(compile_kernel(*options.compile))
        return
    found = json.loads(options.out.read_text()) if options.out.exists() else {}
    kernels = found.get("kernels") or {
        chip: {kernel: schedule(chip, kernel) for kernel in KERNELS} for chip in CHIPS
    }
    rows = {"plain": row_facts(shared=False), "shared": row_facts(shared=True)}
    steps = found.get("steps", {})
    for path in options.step:
        for name, figures in json.loads(path.read_text()).items():
            steps[f"{name}, {figures['attention']}"] = step_times(figures, kernels, rows)
    results = {"block": BLOCK, "length": LENGTH, "kernels": kernels, "rows": rows, "steps": steps}
    options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=1))


def compile_kernel(chip: str, kernel: str) -> int:
    """Return the peak bytes of forward and backward of a kernel, compiled for a chip."""
    import jax
    import jax.numpy as jnp

    from tl_jax.config import SplashConfig
    from tl_jax.ops.seen_blocks import Facts
    from tl_jax.ops.splash import splash_attention
    from tl_jax.ops.tree_kernel import tree_attention
    from tl_jax.parallel import tpu

    where = jax.sharding.SingleDeviceSharding(tpu.devices(CHIPS[chip])[0])
    how = {"blocks": SplashConfig(BLOCK, BLOCK), "saved_name": "attention", "interpret": False}

    def total(q: Any, k: Any, v: Any, positions: Any, until: Any) -> Any:
        if kernel == "tree":
            facts = Facts(positions, positions, until, jnp.int32(0), None)
            out = tree_attention(q, k, v, facts, **how)
        else:
            out = splash_attention(q, k, v, until, until, window=0, **how)
        return out.astype(jnp.float32).sum()

    heads = jax.ShapeDtypeStruct((1, HEADS, LENGTH, HEAD_DIM), jnp.bfloat16, sharding=where)
    tokens = jax.ShapeDtypeStruct((1, LENGTH), jnp.int32, sharding=where)
    lowered = jax.jit(jax.grad(total, (0, 1, 2))).lower(heads, heads, heads, tokens, tokens)
    needed: Any = lowered.compile().memory_analysis()
    return needed.peak_memory_in_bytes


def schedule(chip: str, kernel: str) -> dict[str, Any]:
    """Return the memory of a kernel and the instructions of a step of each of its parts."""
    with tempfile.TemporaryDirectory() as folder:
        dump = f"--xla_jf_dump_to={folder} --xla_jf_dump_llo_text=true"
        environment = os.environ | {"LIBTPU_INIT_ARGS": dump, "JAX_PLATFORMS": "cpu"}
        command = [sys.executable, __file__, "--compile", chip, kernel]
        said = subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True
        ).stdout
        made: dict[str, Any] = {"peak_bytes": int(said.split()[-1])}
        for path in pathlib.Path(folder).glob("*attention*-final_bundles.txt"):
            add(made, path, r"attention(?:_(dkv|dq))?_")
        for path in pathlib.Path(folder).glob("*splash_mha*-final_bundles.txt"):
            add(made, path, r"splash_mha_(?:fwd|(dq|dkv))_")
    print(chip, kernel, made, flush=True)
    return made


def add(made: dict[str, Any], path: pathlib.Path, pattern: str) -> None:
    """Put the instructions of a step into ``made``, under the part that the file's name says."""
    part = re.search(pattern, path.name)
    if part and "schedule-analysis" not in path.name:
        made[PARTS[part[1] or ""]] = longest_stretch(path.read_text(encoding="utf-8"))


def longest_stretch(text: str) -> int:
    """Return the most instructions that a program's schedule has without a branch or its target."""
    longest = here = 0
    for line in text.splitlines():
        found = re.match(r"\s*0x[0-9a-f]+\s+(\w\w)?:", line)
        here = 0 if found and found[1] else here + bool(found)
        longest = max(longest, here)
        if "sbr.rel" in line:
            here = 0
    return longest


def row_facts(*, shared: bool) -> dict[str, float]:
    """Return means over rows: trajectories, and steps of one head of each kernel."""
    import jax.numpy as jnp

    from tl_jax.ops import seen_blocks

    random = np.random.default_rng(0)
    made = [make_row(random, shared) for _ in range(ROWS)]
    until = jnp.asarray(np.stack([row for row, _ in made]))
    facts = seen_blocks.Facts(until, until, until, jnp.int32(0), None)
    seen = np.asarray(seen_blocks.seen(facts, BLOCK, BLOCK))
    blocks = LENGTH // BLOCK
    return {
        "trajectories": round(float(np.mean([count for _, count in made])), 2),
        "tree_steps": round(float(seen.sum((1, 2)).mean()), 1),
        "splash_steps": blocks * (blocks + 1) / 2,
    }


def make_row(random: np.random.Generator, shared: bool) -> tuple[np.ndarray, int]:
    """Return ``visible_until`` of a row and how many trajectories it holds.

    Groups of trajectories begin with the same 600 to 1,400 tokens and end with their own 100 to
    400; in a plain row each has the beginning to itself.
    """
    until, at, count = np.zeros(LENGTH, np.int32), 0, 0
    while True:
        start, ends = int(random.integers(600, 1400)), random.integers(100, 400, BRANCHES)
        pieces = [(start, ends)] if shared else [(start, ends[i : i + 1]) for i in range(BRANCHES)]
        for start, ends in pieces:
            if at + start + ends.sum() > LENGTH:
                return until, count
            until[at : at + start] = at + start + ends.sum()
            at, count = at + start, count + len(ends)
            for size in ends:
                until[at : at + size] = at + size
                at += int(size)


def step_times(figures: dict[str, Any], kernels: dict[str, Any], rows: dict[str, Any]) -> Any:
    """Return estimated seconds of a supervised step and of a trajectory, by rows and kernel."""
    from tl_jax.parallel import tpu

    chip, devices = tpu.parse(figures["topology"])
    per_second = tpu.CHIPS[chip].clock * CORES.get(chip, 1)
    (step,) = (row for row in figures["programs"] if row["program"] == "supervised")
    found: dict[str, Any] = {
        "rows": step["rows"],
        "peak_bytes": step["peak_bytes"],
    }
    for kind, kernel in (("plain", "splash"), ("plain", "tree"), ("shared", "tree")):
        instructions = sum(kernels[chip][kernel][part] for part in PARTS.values())
        heads = LAYERS * MODEL_HEADS * step["rows"] / devices
        in_kernels = heads * rows[kind][f"{kernel}_steps"] * instructions / per_second
        total = max(step["schedule_s"] + in_kernels, step["ici_s"])
        found[f"{kind}, {kernel}"] = {
            "kernels_s": round(in_kernels, 3),
            "step_s": round(total, 3),
            "trajectory_ms": round(1e3 * total / step["rows"] / rows[kind]["trajectories"], 3),
        }
    return found


if __name__ == "__main__":
    main()
