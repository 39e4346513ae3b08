"""Training that is killed at random moments and started again: no row and no step is lost."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from ledger import Ledger, Outcome, draw_of

STEPS = 12
_LIMIT_S = 900.0
_FAULT, _FINISHED = "training killed", "training killed, then finished"

PROGRAM = """
import hashlib, pathlib, sys, traceback
import numpy as np
from tl_jax.parallel import processes
from tl_jax.parallel.mesh import start_distributed
start_distributed()
import jax
from rich.console import Console
from tl_jax.config import *
from tl_jax.run import prepare
from tl_jax.run.directory import Run
from tl_jax.train import sft
from tl_jax.train.validate import checked
folder, steps = sys.argv[1], int(sys.argv[2])
run = Run(RunConfig(
    run_dir=folder,
    model=ModelSourceConfig(path="scratch", scratch_vocab_size=300, scratch_embed_dim=16,
        scratch_num_layers=1, scratch_num_heads=2, scratch_num_kv_heads=1, scratch_mlp_dim=32),
    data=DataConfig(synthetic_trajectories=8, max_length=2048, batch_size=4, workers=1),
    train=TrainConfig(steps=steps, eval_batches=0, log_every=1),
    optim=OptimConfig(warmup_steps=1),
    ppo=PpoConfig(steps=0),
    checkpoint=CheckpointConfig(every_steps=2, keep=3),
))
try:
    with checked(run, prepares=True, computes=False, writes=True):
        prepare.make_model(run, Console(quiet=True))
        prepare.prepare(run)
    with checked(run, prepares=False, computes=True, writes=True):
        sft.train(run)
    told = hashlib.sha256()
    for leaf in jax.tree.leaves(run.trained("supervised")):
        told.update(processes.gather(leaf).tobytes())
    pathlib.Path(folder, "trained.sha256").write_text(told.hexdigest())
except Exception:
    traceback.print_exc()
    processes.leave(1)
"""


def kill(ledger: Ledger, times: int) -> None:
    """Kill and start again until so many processes were killed, those of earlier runs included."""
    number = ledger.units.get("kills", 0)
    if number >= times:
        return
    facts_file = ledger.folder / "unkilled.json"
    if not facts_file.exists():
        whole = ledger.folder / "unkilled"
        shutil.rmtree(whole, ignore_errors=True)
        _finish(ledger, whole)  # fills the cache of programs
        shutil.rmtree(whole)
        began = time.monotonic()
        _finish(ledger, whole)
        facts = {"seconds": time.monotonic() - began, "trained": _trained(whole)}
        facts_file.write_text(json.dumps(facts))
    facts = json.loads(facts_file.read_text())
    run = ledger.folder / "killed"
    while number < times:
        tried = sum(sum(ledger.counts.get(name, {}).values()) for name in (_FAULT, _FINISHED))
        draw = draw_of(ledger.seed, "kills", tried)
        before = newest_step(run)
        process = start(ledger, run)
        _wait_for_moment(process, run, draw, before, facts["seconds"])
        if (status := process.poll()) is None:
            process.kill()
            process.wait()
            outcome = "lost" if newest_step(run) < before else "as before"
            found = Outcome(_FAULT, outcome, f"unit {number}: step {before} is gone")
            number += 1
        else:
            fault, note = _FINISHED, f"unit {number}"
            if status:
                errors = process.stderr.read()[-2000:] if process.stderr else ""
                found = Outcome(fault, "traceback", f"{note}: {errors}")
            else:
                problem = problem_of(run, facts["trained"])
                found = Outcome(fault, "lost" if problem else "as before", f"{note}: {problem}")
            shutil.rmtree(run, ignore_errors=True)
        ledger.finish("kills", number, [found])


def _wait_for_moment(
    process: subprocess.Popen[str], run: Path, draw: random.Random, before: int, seconds: float
) -> None:
    """Wait for a random time of the start, or for a random row of metrics and a little longer."""
    if draw.random() < 0.3:
        until, row = time.monotonic() + draw.uniform(0.0, 0.7 * seconds), STEPS + 1
    else:
        until, row = time.monotonic() + _LIMIT_S, draw.randint(before + 1, STEPS + 1)
    while process.poll() is None and time.monotonic() < until:
        file = run / "metrics.jsonl"
        if file.exists() and file.read_bytes().count(b"\n") >= row:
            until = min(until, time.monotonic() + draw.uniform(0.0, 0.2))
            row = STEPS + 1
        time.sleep(0.005)


def start(
    ledger: Ledger, run: Path, more: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start a process that trains what is left, with these variables, too."""
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(ledger.folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
        **(more or {}),
    }
    command = [sys.executable, "-c", PROGRAM, str(run), str(STEPS)]
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )


def _finish(ledger: Ledger, run: Path) -> None:
    process = start(ledger, run)
    _, errors = process.communicate(timeout=_LIMIT_S)
    if process.returncode:
        raise RuntimeError(f"training that nobody kills fails:\n{errors[-3000:]}")


def _trained(run: Path) -> str:
    return (run / "trained.sha256").read_text()


def newest_step(run: Path) -> int:
    commits = (run / "checkpoints" / "supervised").glob("*/commit_success.txt")
    return max((int(path.parent.name) for path in commits), default=0)


def problem_of(run: Path, trained: str) -> str:
    """Return what a finished run lacks that one has that nobody kills, or nothing."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in rows if row["stage"] == "supervised"]
    if steps != list(range(1, STEPS + 1)):
        return f"rows of steps {steps}"
    if _trained(run) != trained:
        return "other parameters than without a kill"
    left = [path.name for path in run.iterdir() if path.name.startswith(".")]
    return f"leftovers {left}" if left else ""
