"""Training on several processes of which one is killed: the others end, and nothing is lost."""

from __future__ import annotations

import json
import random
import shutil
import socket
import subprocess
import time
from pathlib import Path

from kills import STEPS, problem_of, start
from ledger import Ledger, Outcome, draw_of

LEFT_S = 300.0
"""Seconds in which processes must end of which one is dead."""
_LIMIT_S = 1800.0
_SAVING = "*orbax-checkpoint-tmp*"


def kill_pods(ledger: Ledger, times: int) -> None:
    """Kill one process of a training and start all again, as often as that is left to do."""
    for number in range(ledger.units.get("pods", 0), times):
        draw = draw_of(ledger.seed, "pods", number)
        count = (2, 4)[number % 2]
        victim = draw.choice((0, draw.randrange(1, count)))
        name = "the coordinator" if victim == 0 else "one"
        saving = draw.random() < 0.5
        fault = f"{name} of {count} processes killed{' during a save' if saving else ''}"
        outcome, note = _killed(ledger, count, victim, saving, draw)
        found = Outcome(fault, outcome, f"unit {number}: {note}")
        ledger.finish("pods", number + 1, [found])


def _killed(
    ledger: Ledger, count: int, victim: int, saving: bool, draw: random.Random
) -> tuple[str, str]:
    wanted = _trained(ledger, count)
    run = ledger.folder / "killed_pod"
    shutil.rmtree(run, ignore_errors=True)
    running = _start(ledger, run, count)
    row = draw.randint(1, STEPS - 2)
    until = time.monotonic() + _LIMIT_S
    while all(p.poll() is None for p in running) and time.monotonic() < until:
        file = run / "metrics.jsonl"
        if file.exists() and file.read_bytes().count(b"\n") >= row:
            folder = run / "checkpoints" / "supervised"
            if not saving or any(folder.glob(_SAVING)):
                break
        time.sleep(0.002)
    running[victim].kill()
    try:
        told = [_end(process, LEFT_S) for process in running]
    except subprocess.TimeoutExpired:
        return "hang", f"others still ran {LEFT_S:g} s after process {victim} of {count} was killed"
    finally:
        for process in running:
            process.kill()
    running = _start(ledger, run, count)
    try:
        told = [_end(process, _LIMIT_S) for process in running]
    except subprocess.TimeoutExpired:
        return "hang", "the training that was started again does not end"
    finally:
        for process in running:
            process.kill()
    if any(process.returncode for process in running):
        return "traceback", "\n".join(told)[-2000:]
    problem = problem_of(run, wanted)
    return ("lost" if problem else "as before"), problem


def _trained(ledger: Ledger, count: int) -> str:
    """Return the digest of the parameters of a training on so many processes that nobody kills."""
    file = ledger.folder / "unkilled_pods.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    if str(count) not in known:
        run = ledger.folder / "unkilled_pod"
        shutil.rmtree(run, ignore_errors=True)
        running = _start(ledger, run, count)
        told = [_end(process, _LIMIT_S) for process in running]
        if any(process.returncode for process in running):
            raise RuntimeError("training that nobody kills fails:\n" + "\n".join(told)[-3000:])
        known[str(count)] = (run / "trained.sha256").read_text()
        file.write_text(json.dumps(known))
    return known[str(count)]


def _start(ledger: Ledger, run: Path, count: int) -> list[subprocess.Popen[str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {
        "JAX_NUM_CPU_DEVICES": "1",
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_PROCESSES": str(count),
    }
    return [
        start(ledger, run, {**shared, "JAX_PROCESS_ID": str(number)}) for number in range(count)
    ]


def _end(process: subprocess.Popen[str], seconds: float) -> str:
    """Wait for a process and return the end of what it said."""
    return process.communicate(timeout=seconds)[1][-1000:]
