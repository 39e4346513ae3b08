"""Prepare a file once and print what it took: one side of ``tools/bench/data.py``.

    PYTHONPATH=CHECKOUT python tools/bench/data_side.py TOKENIZER TEMPLATE DATA WORKERS

Runs with whatever checkout stands on PYTHONPATH, also with those that know no workers. DATA is a
file, or ``synthetic/COUNT`` with a search for near duplicates. The time is that of preparing alone,
the processes it starts included; the memory is the most that any process held.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import resource
import sys
import tempfile
import time

from tl_jax.config import DataConfig, KeyTokenConfig, MaeConfig
from tl_jax.data.prepare import dataset
from tl_jax.data.prepare.sources import open_sources
from tl_jax.data.tokenize.tokenizer import load_tokenizer


def main(tokenizer: str, template: str, data: str, workers: str) -> None:
    """Prepare and print a line of JSON."""
    settings = {"template": template, "max_length": 4096, "max_bad_fraction": 0.5}
    if data.startswith("synthetic/"):
        count = int(data.partition("/")[2])
        settings |= {"path": "synthetic", "synthetic_trajectories": count, "duplicates": "near"}
    else:
        settings["path"] = data
    if "workers" in {field.name for field in dataclasses.fields(DataConfig)}:
        settings["workers"] = int(workers)
    config = DataConfig(**settings)
    loaded = load_tokenizer(tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        start, before = time.perf_counter(), _cpu()
        report = dataset.prepare(
            open_sources(config, 0),
            loaded,
            data=config,
            mae=MaeConfig(),
            key_tokens=KeyTokenConfig(),
            seed=0,
            out_dir=pathlib.Path(folder) / "data",
        )
        wall, cpu = time.perf_counter() - start, _cpu() - before
    found = {
        "rows": report["rows"],
        "tokens": sum(report["tokens"].values()),
        "wall_s": wall,
        "cpu_s": cpu,
        "peak_mib": _peak_kib() / 1024,
        "largest_worker_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }
    print(json.dumps(found))


def _cpu() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _peak_kib() -> int:
    # getrusage counts what the process had before it became this program, too.
    status = pathlib.Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(x.split()[1]) for x in status.splitlines() if x.startswith("VmHWM:"))


if __name__ == "__main__":
    main(*sys.argv[1:])
