"""Processes that run units of fuzzing side by side, and survive that one of them dies."""

from __future__ import annotations

import dataclasses
import multiprocessing
import time
from collections.abc import Iterator
from multiprocessing import connection
from pathlib import Path
from typing import Any

import fuzz
from ledger import Outcome

UNIT_S = 600.0
"""Seconds that a unit may take before its process is ended."""


@dataclasses.dataclass
class _Worker:
    process: Any
    pipe: Any
    number: int
    since: float


def run(count: int, seed: int, numbers: range) -> Iterator[list[Outcome]]:
    """Give the outcomes of units in order.

    Args:
      count: Processes.
      seed: Of what is drawn.
      numbers: Of the units.
    """
    waiting, done = iter(numbers), {}
    workers = [_start(seed, number) for number in (next(waiting, None) for _ in range(count))]
    working = [worker for worker in workers if worker is not None]
    try:
        for number in numbers:
            while number not in done:
                working = [w for worker in working if (w := _look(worker, seed, waiting, done))]
                connection.wait([worker.pipe for worker in working], timeout=1.0)
            yield done.pop(number)
    finally:
        for worker in working:
            worker.process.kill()


def _look(worker: _Worker, seed: int, waiting: Iterator[int], done: dict[int, Any]) -> Any:
    """Take what a worker has found and give it the next unit; one that is gone is replaced."""
    fault, note = "fuzzing: process", f"unit {worker.number}"
    try:
        if not worker.pipe.poll():
            if time.monotonic() - worker.since < UNIT_S:
                return worker
            worker.process.kill()
            done[worker.number] = [Outcome(fault, "hang", f"{note} takes more than {UNIT_S:g} s")]
            return _start(seed, next(waiting, None))
        done[worker.number] = worker.pipe.recv()
    except (EOFError, OSError):
        worker.process.join()
        status = worker.process.exitcode
        done[worker.number] = [Outcome(fault, "crash", f"{note}: exit status {status}")]
        return _start(seed, next(waiting, None))
    following = next(waiting, None)
    worker.pipe.send(following)
    if following is None:
        worker.process.join()
        return None
    return dataclasses.replace(worker, number=following, since=time.monotonic())


def _start(seed: int, number: int | None) -> _Worker | None:
    if number is None:
        return None
    context = multiprocessing.get_context("spawn")  # threads of JAX do not survive a fork
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, seed), daemon=True)
    process.start()
    theirs.close()
    ours.send(number)
    return _Worker(process, ours, number, time.monotonic())


def _serve(pipe: Any, seed: int) -> None:
    with fuzz.scratch() as folder:
        known = fuzz.targets(Path(folder))
        while (number := pipe.recv()) is not None:
            pipe.send(fuzz.run_unit(known, seed, number))
