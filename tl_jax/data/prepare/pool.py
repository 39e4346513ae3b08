"""The processes that prepare data side by side, and what they are sent.

A process is a fresh Python, never a fork of this one, whose threads and devices it would inherit
half, and it does not run the user's script again, as Python's own pools do. It reads a job, then
tasks one by one, and writes what it makes into files; only "done" comes back.
"""

from __future__ import annotations

import itertools
import multiprocessing.connection
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from tl_jax.errors import DataError

FEW = 10
"""Tasks that this process does by itself: fewer than it takes others to be of use."""
_PATIENCE_S = 0.5
_GOODBYE_S = 10.0


def usable_cores() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Pool:
    """Does tasks of a job, in this process or, where there are many, in several.

    Args:
      job: What every process needs first; picklable.
      here: Does a task in this process.
      workers: Most processes; 0 takes one for each processor that this one may use, 1 does
        everything here.
    """

    def __init__(self, job: Any, here: Callable[[Any], None], workers: int):
        self._job = job
        self._here = here
        self._workers = workers or usable_cores()
        self._threads: list[threading.Thread] = []
        self._tasks: queue.Queue[Any] = queue.Queue(maxsize=self._workers)
        self._changed = threading.Condition()
        self._open = 0
        self._error: Exception | None = None
        self._processes: list[subprocess.Popen[bytes]] = []

    def run(self, tasks: Iterable[Any]) -> None:
        """Do all tasks, which are asked for as they are needed; in any order.

        Raises:
          DataError: A process ended, or an error of a task.
        """
        tasks = iter(tasks)
        first: list[Any] = []
        if self._workers > 1 and not self._threads:
            first = list(itertools.islice(tasks, FEW + 1))
        if not self._threads and len(first) <= FEW:
            for task in itertools.chain(first, tasks):
                self._here(task)
            return
        for task in itertools.chain(first, tasks):
            self._put(task)
        with self._changed:
            while self._open and self._error is None:
                self._changed.wait()
        self._check()

    def close(self) -> None:
        """End the processes."""
        self._error = self._error or DataError("the preparation was ended")
        for process in self._processes:
            process.terminate()
        for _ in self._threads:
            try:
                self._tasks.put_nowait(None)
            except queue.Full:
                break
        for process in self._processes:
            try:
                process.wait(_GOODBYE_S)
            except subprocess.TimeoutExpired:
                process.kill()

    def _put(self, task: Any) -> None:
        with self._changed:
            self._open += 1
        while True:
            self._check()
            try:
                self._tasks.put(task, timeout=_PATIENCE_S)
                break
            except queue.Full:
                pass
        # Another process only while tasks wait: the last chunks of little data need none.
        if len(self._threads) < self._workers and not self._tasks.empty():
            thread = threading.Thread(target=self._serve, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _serve(self) -> None:
        """Hand tasks to a process of this thread's own until there are no more."""
        try:
            process, connection = _start()
            self._processes.append(process)
        except OSError as error:
            self._done(DataError(f"config.data.workers: no other process can be started: {error}"))
            return
        try:
            connection.send(self._job)
            while self._error is None and (task := self._tasks.get()) is not None:
                connection.send(task)
                self._done(connection.recv())
        except (EOFError, OSError) as error:
            status = process.wait()
            self._done(
                DataError(
                    f"a process that prepares data ended with status {status} ({error}); if the "
                    "memory is not enough for all of them, lower config.data.workers"
                )
            )
        except Exception as error:  # such as a row of the caller's that cannot be sent
            self._done(error)
        finally:
            connection.close()

    def _done(self, error: Exception | None) -> None:
        with self._changed:
            self._open -= 1
            self._error = self._error or error
            self._changed.notify_all()


def _start() -> tuple[subprocess.Popen[bytes], Any]:
    here, there = multiprocessing.connection.Pipe()
    with there:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tl_jax.data.prepare.worker", str(there.fileno())],
            pass_fds=(there.fileno(),),
            stdin=subprocess.DEVNULL,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
                "TOKENIZERS_PARALLELISM": "false",  # each process has a core
            },
        )
    return process, here
