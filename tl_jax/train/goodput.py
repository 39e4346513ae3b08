"""Where the time of a phase goes, added up over restarts, and which host is the slowest."""

from __future__ import annotations

import contextlib
import logging
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence

from tl_jax.parallel import processes

logger = logging.getLogger(__name__)

CAUSES = ("step", "compile", "data", "save", "evaluation", "restore", "lost")
"""``compile`` is the first step of a process, ``restore`` what a process does before it, ``lost``
is the time of all kinds for steps that were done again after a restart or a rollback."""
SLOW = 1.5
"""Times the median of all hosts that is worth a warning."""

_PREFIX = "seconds/"
_LEAST_S = 0.05  # of a step; less is never worth a warning


class Times:
    """A clock that always runs for one cause.

    Args:
      before: What a row of the phase said (``row``) at the step that training goes on from.
      newest: What its newest row said; the steps since then are lost.
      since: Time of the monotonic clock since when it runs, for ``restore``.
    """

    def __init__(
        self, before: Mapping[str, float], newest: Mapping[str, float], since: float
    ) -> None:
        self._seconds = {cause: float(before.get(_PREFIX + cause) or 0.0) for cause in CAUSES}
        reached = sum(float(newest.get(_PREFIX + cause) or 0.0) for cause in CAUSES)
        self._seconds["lost"] += max(reached - sum(self._seconds.values()), 0.0)
        self._cause, self._since = "restore", since
        self._waited, self._own_since, self._steps = 0.0, time.monotonic(), 0
        self._warned = False

    def switch(self, cause: str) -> str:
        """Run for another cause from now on and return the one before it."""
        now = time.monotonic()
        self._seconds[self._cause] += now - self._since
        if self._cause == "compile":  # is no part of what a step takes this host
            self._waited, self._own_since, self._steps = 0.0, now, 0
        before, self._cause, self._since = self._cause, cause, now
        return before

    @contextlib.contextmanager
    def during(self, cause: str, *, own: bool = False) -> Iterator[None]:
        """Run for a cause in this block; unless ``own``, it is no time that a host's step takes."""
        began, before = time.monotonic(), self.switch(cause)
        try:
            yield
        finally:
            self.switch(before)
            if not own:
                self._waited += time.monotonic() - began

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Take the block for waiting for the devices, which all hosts do for the slowest one."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._waited += time.monotonic() - began

    def row(self) -> dict[str, float]:
        """Return the seconds of each cause since the beginning of the phase, and the goodput.

        Goodput is the share of the time in which steps were done that were not lost.
        """
        self.switch(self._cause)
        whole = sum(self._seconds.values())
        found = {_PREFIX + cause: round(value, 3) for cause, value in self._seconds.items()}
        return {**found, "goodput": self._seconds["step"] / whole if whole else 0.0}

    def step(self) -> None:
        """Count a step of this host."""
        self._steps += 1

    def hosts(self) -> dict[str, float]:
        """Return how long a step takes each host on its own, with several; all of them must ask.

        What counts is the time in which a host does not wait for the devices.
        """
        now = time.monotonic()
        own = (now - self._own_since - self._waited) / max(self._steps, 1)
        self._waited, self._own_since, self._steps = 0.0, now, 0
        times = processes.join_parts([own])
        if len(times) == 1:
            return {}
        found = slowest(times)
        if found["host_slowest_s"] > max(SLOW * found["host_median_s"], _LEAST_S):
            if not self._warned:
                logger.warning(
                    "process %d takes %.3g s for its part of a step, the median of all %d is "
                    "%.3g s; the others wait for it",
                    *(found["host_slowest"], found["host_slowest_s"]),
                    *(len(times), found["host_median_s"]),
                )
            self._warned = True
        else:
            self._warned = False
        return found


def slowest(times: Sequence[float]) -> dict[str, float]:
    """Return the number and the seconds of the slowest host, and the median of all."""
    last = max(range(len(times)), key=lambda number: times[number])
    return {
        "host_slowest": float(last),
        "host_slowest_s": round(times[last], 4),
        "host_median_s": round(statistics.median(times), 4),
    }
