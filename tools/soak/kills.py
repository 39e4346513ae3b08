"""Training that is killed at random moments and started again: no row and no step is lost."""

from __future__ import annotations

import json
import random
import shutil
import time
from pathlib import Path

from ledger import Ledger, Outcome, draw_of
from training import DIGEST, STEPS, Training, start

_LIMIT_S = 900.0
_FAULT, _FINISHED = "training killed", "training killed, then finished"
_PREPARED = 0.5
"""How many of the trainings have their data already."""
_BEGINNINGS = ("", "lock.json", "config.json", "tokenizer", "model", "data", "inputs.json")


def kill(ledger: Ledger, times: int) -> None:
    """Kill and start again until so many processes were killed, those of earlier runs included."""
    number = ledger.units.get("kills", 0)
    if number >= times:
        return
    compiled = ledger.folder / "compiled"
    run, whole = ledger.folder / "killed", ledger.folder / "unkilled"
    if not (whole / DIGEST).exists():
        shutil.rmtree(whole, ignore_errors=True)
        training = start(whole, compiled)
        if not training.end(_LIMIT_S) or training.status():
            raise RuntimeError(f"training that nobody kills fails:\n{training.stop()}")
    while number < times:
        tried = sum(sum(ledger.counts.get(name, {}).values()) for name in (_FAULT, _FINISHED))
        draw = draw_of(ledger.seed, "kills", tried)
        if not run.exists() and draw.random() < _PREPARED:
            copy_prepared(whole, run)
        before = newest_step(run)
        training = start(run, compiled)
        in_time = _wait_for_moment(training, run, draw)
        if not in_time:
            found = Outcome(_FAULT, "hang", f"unit {number}: {training.stop()}")
            shutil.rmtree(run, ignore_errors=True)
        elif training.running():
            training.kill()
            outcome = "lost" if newest_step(run) < before else "as before"
            found = Outcome(_FAULT, outcome, f"unit {number}: step {before} is gone")
            number += 1
        else:
            fault, note = _FINISHED, f"unit {number}"
            if training.status():
                found = Outcome(fault, "traceback", f"{note}: {training.stop()}")
            else:
                problem = problem_of(run, whole)
                found = Outcome(fault, "lost" if problem else "as before", f"{note}: {problem}")
            shutil.rmtree(run, ignore_errors=True)
        ledger.finish("kills", number, [found])


def copy_prepared(whole: Path, run: Path) -> None:
    """Make a run directory that was prepared, and not yet trained, of a finished one."""
    run.mkdir()
    for name in ("model", "tokenizer", "data"):
        shutil.copytree(whole / name, run / name)


def _wait_for_moment(training: Training, run: Path, draw: random.Random) -> bool:
    """Wait for something of the start, or for a random row of metrics, and a little longer.

    Returns:
      Whether that, or the end, came in time.
    """
    until = time.monotonic() + _LIMIT_S
    if draw.random() < 0.3:
        first = run / draw.choice(_BEGINNINGS)
        come, longest = first.exists, 0.5
    else:
        row = draw.randint(_rows(run) + 1, STEPS + 1)
        come, longest = (lambda: _rows(run) >= row), 0.2
    while training.running() and time.monotonic() < until and not come():
        time.sleep(0.005)
    training.end(draw.uniform(0.0, longest))
    return time.monotonic() < until


def _rows(run: Path) -> int:
    file = run / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def newest_step(run: Path) -> int:
    commits = (run / "checkpoints" / "supervised").glob("*/commit_success.txt")
    return max((int(path.parent.name) for path in commits), default=0)


def problem_of(run: Path, whole: Path) -> str:
    """Return what a finished run lacks, or has more, than one that nobody kills; or nothing."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in rows if row["stage"] == "supervised"]
    if steps != list(range(1, STEPS + 1)):
        return f"rows of steps {steps}"
    if (run / DIGEST).read_text() != (whole / DIGEST).read_text():
        return "other parameters than without a kill"
    # What a kill leaves while the lock is taken goes after a day.
    left = {path.name for path in run.iterdir() if not path.name.startswith("lock.json.")}
    left -= {path.name for path in whole.iterdir()}
    return f"leftovers {sorted(left)}" if left else ""
