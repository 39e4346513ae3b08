"""Profile a train step and a generation on the CPU: where ``model.py``'s and ``generate.py``'s go.

    python tools/bench/profile_cpu.py --model=DIR [--out=FILE]

DIR is as for ``generate.py``. Each is run once under jax's profiler after two runs to compile and
warm up. Operations of XLA run two at a time and wait for each other, so their seconds add up to
more than the wall time; what counts is how they compare. They are grouped by the kind that their
name says: ``ynn_fusion`` and ``dot`` are matrix products with what was fused into them.
"""

from __future__ import annotations

import argparse
import collections
import gzip
import json
import os
import pathlib
import re
import tempfile
import time
from collections.abc import Callable
from typing import Any

import generate
import jax
import model

from tl_jax.parallel import host_memory

RESULTS = pathlib.Path(__file__).parent / "results" / "profile.json"
# What the profiler records beside operations: Python calls, executors and thread pools.
_OTHERS = re.compile(r"^\$|::|[ (]|^(end|while|call|wrapper|ThreadpoolListener)")


def main() -> None:
    """Profile both and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    options = parser.parse_args()
    options.rows = 8
    host_memory.keep_freed()
    prompts = [[1000 + 7 * row + place for place in range(128)] for row in range(options.rows)]
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        model.prepare(directory, 2, 512)
        works = {
            "train step, 2 x 512": model.own_step(directory),
            "generation, 8 x (128 + 64)": generate.our_work(options, prompts, 64),
        }
        found = {name: profile(work) for name, work in works.items()}
    results = {"machine": model.machine(os.getloadavg()[0]), **found}
    options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=1))


def profile(work: Callable[[], Any], top: int = 12) -> dict[str, Any]:
    """Return the wall seconds of some work and those of its operations, by kind and by name."""
    for _ in range(2):
        work()
    with tempfile.TemporaryDirectory() as name:
        with jax.profiler.trace(name):
            began = time.perf_counter()
            work()
            wall = time.perf_counter() - began
        (file,) = pathlib.Path(name).rglob("*.trace.json.gz")
        events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    seconds: collections.Counter[str] = collections.Counter()
    times: collections.Counter[str] = collections.Counter()
    for event in events:
        if event.get("ph") == "X" and not _OTHERS.search(event["name"]):
            seconds[event["name"]] += event["dur"] / 1e6
            times[event["name"]] += 1
    kinds: collections.Counter[str] = collections.Counter()
    for operation, took in seconds.items():
        kinds[re.sub(r"[.\d]+$", "", operation)] += took
    return {
        "wall_s": round(wall, 3),
        "by_kind_s": {kind: round(took, 3) for kind, took in kinds.most_common(top)},
        "longest": [
            {"name": operation, "times": times[operation], "seconds": round(took, 3)}
            for operation, took in seconds.most_common(top)
        ],
    }


if __name__ == "__main__":
    main()
