"""Notice that training stands still, and write down where."""

from __future__ import annotations

import collections
import contextlib
import faulthandler
import logging
import os
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import jax

logger = logging.getLogger(__name__)

LEAST_S = 300.0
"""Seconds without the end of a step that are never taken for a hang."""
STEPS = 20
"""Median steps that may pass without the end of one."""
FIRST_S = 3600.0
"""Seconds that the first step may take, which is compiled, and a save, on a slow bucket."""
STATUS = 5
"""Exit status of a process that leaves because it hangs."""

_REMEMBERED = 100


class Watchdog:
    """Writes the stacks of all threads when no step ends for long, and leaves if that is wanted.

    The file is ``stacks-PHASE-STEP-PROCESS.txt`` in the run directory, one for each hang.

    Args:
      run_dir: Where the stacks are written.
      phase: Of the training.
      leave: End the process with ``STATUS`` then, so that whoever started it starts it again.
    """

    def __init__(self, run_dir: Path, phase: str, *, leave: bool):
        self._run_dir, self._phase, self._leave = run_dir, phase, leave
        self._times: collections.deque[float] = collections.deque(maxlen=_REMEMBERED)
        self._done, self._since = 0, time.monotonic()
        self._paused, self._saving = False, False
        self._told_of = -1
        self._ended = threading.Event()

    def __enter__(self) -> Watchdog:
        self._since = time.monotonic()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def step(self, done: int) -> None:
        """Take note that so many steps are done."""
        now = time.monotonic()
        self._times.append(now - self._since)
        self._done, self._since = done, now

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count the time of the block."""
        self._paused, began = True, time.monotonic()
        try:
            yield
        finally:
            self._since += time.monotonic() - began
            self._paused = False

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """Take longer for a hang in the block: a process that left would save no more next time."""
        self._saving = True
        try:
            yield
        finally:
            self._saving = False

    def limit(self) -> float:
        """Return the seconds after which a step that has not ended is taken for hanging."""
        if not self._times:
            return max(FIRST_S, LEAST_S)
        return max(FIRST_S if self._saving else LEAST_S, STEPS * statistics.median(self._times))

    def _watch(self) -> None:
        while not self._ended.wait(min(LEAST_S / 20, 10.0)):
            stands = time.monotonic() - self._since
            if not self._paused and self._told_of != self._done and stands > self.limit():
                self._told_of = self._done
                self._tell(stands)

    def _tell(self, stands: float) -> None:
        name = f"stacks-{self._phase}-{self._done}-{jax.process_index()}.txt"
        try:
            with (self._run_dir / name).open("w", encoding="utf-8") as file:
                faulthandler.dump_traceback(file, all_threads=True)
        except OSError as error:
            logger.error("the stacks of a hang cannot be written: %s", error)
        logger.error(
            "no step of the %s phase has ended for %.0f s, after step %d; what all threads do is "
            "in %s",
            self._phase,
            stands,
            self._done,
            self._run_dir / name,
        )
        if self._leave:
            logging.shutdown()
            os._exit(STATUS)
