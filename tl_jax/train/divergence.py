"""Judge the steps of a phase: one that goes badly is passed over, many in a row end the phase."""

from __future__ import annotations

import collections
import logging
import math
import statistics
from collections.abc import Iterable, Mapping

from tl_jax.errors import Diverged

logger = logging.getLogger(__name__)

MAX_BAD_IN_A_ROW = 10
LAST_BAD = 3
"""Spikes in a row that a phase does not end with."""
WINDOW = 128
"""Losses that a loss is held against."""

_ENOUGH = 20
_LEAST_RISE = 0.1  # nats per token; where a model knows its data by heart the deviations are tiny
_WATCHED = ("loss", "grad_norm")


class Guard:
    """Counts bad steps in a row: not finite, so that nothing was changed, or with a loss too high.

    A loss is too high if it is above the median of the good ones before it by ``spike`` median
    absolute deviations. What the guard has seen is saved with the state (``losses``), so that a
    resumed phase is judged as one that ran through.

    Args:
      phase: Name in messages.
      skipped: Updates left out so far because they were not finite.
      spike: Deviations; 0 looks for steps that are not finite only.
      losses: Of good steps before, the newest last.

    Attributes:
      skipped: Updates left out so far.
      in_a_row: Bad steps up to the newest one.
      losses: Of good steps, ``WINDOW`` at most.
    """

    def __init__(
        self, phase: str, *, skipped: float = 0, spike: float = 0.0, losses: Iterable[float] = ()
    ):
        self._phase, self._spike = phase, spike
        self.skipped, self.in_a_row = float(skipped), 0
        self.losses = collections.deque(losses, maxlen=WINDOW)
        self._spikes, self._bad = 0, ""
        self._row: list[dict[str, float | None]] = []

    def see(self, step: int, values: Mapping[str, float]) -> None:
        """Judge a step.

        Raises:
          Diverged: It was the last of ``MAX_BAD_IN_A_ROW`` bad ones.
        """
        skipped, loss = values.get("skipped", self.skipped), values.get("loss", 0.0)
        left_out, self.skipped = skipped > self.skipped, skipped
        limit = self._limit()
        high = not left_out and loss > limit
        self._spikes = self._spikes + 1 if high else 0
        if left_out:
            logger.warning("%s step %d was not finite and was skipped", self._phase, step)
            names = [name for name in _WATCHED if not math.isfinite(values.get(name, 0.0))]
            shown = " and ".join(f"'{name}'" for name in names) or "some of the gradient"
            self._bad = f"In the last of them {shown} was no finite number"
        elif high:
            logger.warning("%s step %d has a loss of %.4g", self._phase, step, loss)
            self._bad = (
                f"In the last of them the loss was {loss:.4g}, above {limit:.4g}: the median of "
                f"{len(self.losses)} steps before and config.checkpoint.spike deviations"
            )
        self.in_a_row = self.in_a_row + 1 if left_out or high else 0
        if not self.in_a_row:
            self._row = []
            if self._spike and math.isfinite(loss):
                self.losses.append(loss)
        else:
            shown = {name: values[name] for name in _WATCHED if name in values}
            finite = {name: x if math.isfinite(x) else None for name, x in shown.items()}
            self._row.append({"step": float(step), **finite})
        if self.in_a_row >= MAX_BAD_IN_A_ROW:
            raise self._diverged(step)

    def end(self, step: int, updates: int) -> None:
        """Judge the phase at its end, when so many updates are done.

        Raises:
          Diverged: Most of them were not finite, or the loss is too high at the end.
        """
        if 2 * self.skipped > updates:
            raise Diverged(
                f"{self.skipped:.0f} of {updates} updates of the {self._phase} phase were not "
                f"finite and were skipped; nothing was saved of the last ones. {self.cause()}"
            )
        if self._spikes >= LAST_BAD:
            raise self._diverged(step)

    def cause(self) -> str:
        """Return what was wrong in the newest bad step, and what to do."""
        return (
            f"{self._bad}; lower the learning rate or look at the data of these steps. The "
            "checkpoints are those of steps that went well"
        )

    def _limit(self) -> float:
        if not self._spike or len(self.losses) < _ENOUGH:
            return math.inf
        median = statistics.median(self.losses)
        deviation = statistics.median(abs(loss - median) for loss in self.losses)
        return median + max(self._spike * deviation, _LEAST_RISE)

    def _diverged(self, step: int) -> Diverged:
        words = "had a loss that is too high" if self._spikes else "were not finite"
        if 0 < self._spikes < self.in_a_row:
            words = "were not finite or had a loss that is too high"
        return Diverged(
            f"{self.in_a_row} steps in a row up to {step} {words}. {self.cause()}",
            first=step - self.in_a_row + 1,
            last=step,
            bad=tuple(self._row),
        )
