"""Training on several processes of which one is killed: the others end, and nothing is lost."""

from __future__ import annotations

import random
import shutil
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from kills import copy_prepared, problem_of
from ledger import Ledger, Outcome, draw_of
from training import DIGEST, STEPS, Training, start

from tl_jax.run.checkpoint import MANIFEST

LEFT_S = 300.0
"""Seconds in which processes must end of which one is dead."""
_LIMIT_S = 1800.0
_SPOILT = 0.3
"""Share of the trainings whose newest checkpoint is damaged, too, before they go on."""
_SAVING = "*orbax-checkpoint-tmp*"


def kill_pods(ledger: Ledger, times: int) -> None:
    """Kill one process of a training and start all again, as often as that is left to do."""
    for number in range(ledger.units.get("pods", 0), times):
        ledger.finish("pods", number + 1, [run_unit(ledger, number)])


def run_unit(ledger: Ledger, number: int) -> Outcome:
    """Kill one process of one training, start all again, and return what that led to."""
    draw = draw_of(ledger.seed, "pods", number)
    count = (2, 4)[number % 2]
    victim = draw.choice((0, draw.randrange(1, count)))
    name = "the coordinator" if victim == 0 else "one"
    saving = draw.random() < 0.5
    spoils = draw_of(ledger.seed, "damage of pods", number).random() < _SPOILT
    more = " during a save" if saving else ""
    more += ", newest checkpoint damaged" if spoils else ""
    outcome, note = _killed(ledger, count, victim, saving, spoils, draw)
    return Outcome(f"{name} of {count} processes killed{more}", outcome, f"unit {number}: {note}")


def _killed(
    ledger: Ledger, count: int, victim: int, saving: bool, spoils: bool, draw: random.Random
) -> tuple[str, str]:
    whole = _whole(ledger, count)
    run = ledger.folder / "killed_pod"
    while True:
        shutil.rmtree(run, ignore_errors=True)
        copy_prepared(whole, run)
        running = _start(ledger, run, count)
        # So late that there is a checkpoint before the one that is damaged.
        row = draw.randint(STEPS - 2 if spoils else 1, STEPS - 2)
        if _wait_for_moment(running, run, row, saving):
            break
        if any(not training.end(_LIMIT_S) or training.status() for training in running):
            return "traceback", f"before any was killed: {_stopped(running)}"
    running[victim].kill()
    if not _end(running, LEFT_S):
        told = _stopped(running)
        return "hang", f"others still run {LEFT_S:g} s after process {victim} was killed: {told}"
    if spoils:
        _spoil(run)
    running = _start(ledger, run, count)
    if not _end(running, _LIMIT_S):
        return "hang", f"the training that was started again does not end: {_stopped(running)}"
    if any(training.status() for training in running):
        return "traceback", _stopped(running)
    problem = problem_of(run, whole)
    return ("lost" if problem else "as before"), problem


def _spoil(run: Path) -> None:
    """Flip a bit of the newest checkpoint that has digests; the training goes on from another."""
    sealed = (run / "checkpoints" / "supervised").glob(f"[0-9]*/{MANIFEST}")
    newest = max((path.parent for path in sealed), key=lambda step: int(step.name))
    file = max(newest.rglob("d/*"), key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def _wait_for_moment(running: Sequence[Training], run: Path, row: int, saving: bool) -> bool:
    """Wait for a row of metrics, and then for a save; return whether that came before the end."""
    until = time.monotonic() + _LIMIT_S
    file, folder = run / "metrics.jsonl", run / "checkpoints" / "supervised"
    while all(training.running() for training in running) and time.monotonic() < until:
        if file.exists() and file.read_bytes().count(b"\n") >= row:
            if not saving or any(folder.glob(_SAVING)):
                return True
        time.sleep(0.002)
    return False


def _whole(ledger: Ledger, count: int) -> Path:
    """Return the directory of a training on so many processes that nobody kills."""
    run = ledger.folder / f"unkilled_{count}"
    if not (run / DIGEST).exists():
        shutil.rmtree(run, ignore_errors=True)
        running = _start(ledger, run, count)
        if not _end(running, _LIMIT_S) or any(training.status() for training in running):
            raise RuntimeError(f"training that nobody kills fails:\n{_stopped(running)}")
    return run


def _start(ledger: Ledger, run: Path, count: int) -> list[Training]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": str(count)}
    return [
        start(
            run,
            ledger.folder / "compiled",
            {**shared, "JAX_PROCESS_ID": str(number)},
            name=f".{number}",
        )
        for number in range(count)
    ]


def _end(running: Sequence[Training], seconds: float) -> bool:
    """Wait until all have ended; return whether they have."""
    until = time.monotonic() + seconds
    return all(training.end(max(until - time.monotonic(), 0.0)) for training in running)


def _stopped(running: Sequence[Training]) -> str:
    """End all, and return what they said and where those stood that did not end by themselves."""
    return "\n".join(f"process {i}: {training.stop()}" for i, training in enumerate(running))
