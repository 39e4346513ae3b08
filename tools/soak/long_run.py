"""Train a tiny model for very many steps, killed now and then, and see whether anything grows.

    nice python tools/soak/long_run.py FOLDER [--steps=100000] [--every=60] [--out=FILE]

The training of FOLDER/run is killed every ``--every`` seconds and started again. Once a second the
memory of the process, its open files and what the run takes on the disk are looked at. Each start
begins small and compiles, so the figures compared are those of the same time after a start: the
median of its last third. ``--out`` (``tools/bench/results/long_run.json``) says how far the last
starts are from the first ones, whether a step of the log is missing or twice there, and how many
kills there were. A run that was stopped goes on; what was looked at before is in FOLDER/seen.jsonl.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import time
from typing import Any

RESULTS = pathlib.Path(__file__).parents[1] / "bench" / "results" / "long_run.json"
LOG_EVERY, SAVE_EVERY = 50, 1000
SETTINGS = {
    "model.path": "scratch",
    "model.scratch_vocab_size": 300,
    "model.scratch_embed_dim": 8,
    "model.scratch_num_layers": 1,
    "model.scratch_num_heads": 1,
    "model.scratch_num_kv_heads": 1,
    "model.scratch_mlp_dim": 16,
    "data.synthetic_trajectories": 60,
    "data.samples": "per_turn",
    "data.max_length": 704,
    "data.batch_size": 1,
    "train.log_every": LOG_EVERY,
    "train.eval_every": 10_000_000,
    "optim.warmup_steps": 10,
    "ppo.steps": 0,
    "checkpoint.every_steps": SAVE_EVERY,
    "checkpoint.keep": 2,
}


def main() -> None:
    """Train, kill, look, and write down what was seen."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--every", type=float, default=60.0)
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    options = parser.parse_args()
    run, seen = options.folder / "run", options.folder / "seen.jsonl"
    run.mkdir(parents=True, exist_ok=True)
    words = [f"--config.{name}={value}" for name, value in SETTINGS.items()]
    words += ["--config=quickstart", f"--config.run_dir={run}"]
    words += [f"--config.train.steps={options.steps}"]
    call([*words, "prepare"], None, seen)
    while (status := call([*words, "train"], options.every, seen)) == -signal.SIGKILL:
        print(json.dumps({"step": steps_of(run)[-1:], "starts": len(starts(seen))}), flush=True)
    if status:
        raise SystemExit(f"training ended with status {status}")
    found = summary(run, seen, options.steps)
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


def call(words: list[str], every: float | None, seen: pathlib.Path) -> int:
    """Run a command, looked at each second and killed after a while; return how it ended."""
    script = pathlib.Path(sys.executable).with_name("tl-jax")
    run = seen.parent / "run"
    process = subprocess.Popen(
        [script, words[-1], *words[:-1]],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    began, looked = time.monotonic(), []
    while process.poll() is None:
        time.sleep(1)
        if every is None:
            continue
        looked.append(look(process.pid, run))
        if time.monotonic() - began > every:
            process.kill()
            process.wait()
    if every is not None:
        with seen.open("a", encoding="utf-8") as file:
            file.write(json.dumps([one for one in looked if one]) + "\n")
    return process.returncode


def look(pid: int, run: pathlib.Path) -> dict[str, int]:
    """Return memory in KiB and open files of a process, and KiB of a run."""
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        files = len(os.listdir(f"/proc/{pid}/fd"))
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return {}
    memory = next((line.split()[1] for line in status.splitlines() if "VmRSS" in line), "0")
    return {"rss_kib": int(memory), "files": files, "disk_kib": disk(run)}


def disk(run: pathlib.Path) -> int:
    """Return KiB of a run without its logs, which grow with the steps."""
    total = 0
    for place, folders, names in os.walk(run):
        if "tensorboard" in folders:
            folders.remove("tensorboard")
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # pruned meanwhile
                path = pathlib.Path(place, name)
                total += 0 if path.suffix == ".jsonl" else path.stat().st_size
    return total // 1024


def starts(seen: pathlib.Path) -> list[list[dict[str, int]]]:
    """Return what was looked at, start by start."""
    return [json.loads(line) for line in seen.read_text(encoding="utf-8").splitlines()]


def steps_of(run: pathlib.Path) -> list[int]:
    """Return the steps of the log in its order."""
    path = run / "metrics.jsonl"
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines()) if path.exists() else []
    return [row["step"] for row in rows if "ce_loss" in row]


def summary(run: pathlib.Path, seen: pathlib.Path, steps: int) -> dict[str, Any]:
    """Return what the result file holds."""
    whole = [start for start in starts(seen) if len(start) > 10]
    whole = [start for start in whole if len(start) > 0.7 * max(map(len, whole))]
    ends = [
        {
            name: statistics.median(one[name] for one in start[-len(start) // 3 :])
            for name in start[0]
        }
        for start in whole
    ]
    part = max(len(ends) // 4, 1)
    growth = {
        name: round(
            100
            * statistics.median(end[name] for end in ends[-part:])
            / statistics.median(end[name] for end in ends[:part])
            - 100,
            2,
        )
        for name in ends[0]
    }
    logged = steps_of(run)
    expected = [1, *range(LOG_EVERY, steps + 1, LOG_EVERY)]
    return {
        "steps": steps,
        "kills": len(starts(seen)) - 1,
        "rows_missing": len(set(expected) - set(logged)),
        "rows_twice": len(logged) - len(set(logged)),
        "growth_percent": growth,
        "by_start": ends,
    }


if __name__ == "__main__":
    main()
