"""Run one training phase: steps, metrics, validation, checkpoints, an orderly stop."""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import jax

from tl_jax.errors import Diverged, Stopped
from tl_jax.run.checkpoint import Checkpoints
from tl_jax.run.metrics import MetricsWriter
from tl_jax.run.progress import ProgressPrinter
from tl_jax.types import TrainState

logger = logging.getLogger(__name__)

MAX_SKIPPED_IN_A_ROW = 10

# What a phase's advance returns: the new state, values to log (device arrays or floats; ``tokens``
# is counted into tokens per second) and samples to log.
Advanced = tuple[TrainState, Mapping[str, Any], Sequence[Mapping[str, Any]]]


@dataclasses.dataclass(frozen=True)
class Phase:
    """One training phase.

    Attributes:
      stage: Name in metrics and directories, ``"supervised"`` or ``"reward"``.
      steps: Total steps; a resumed run does the rest of them.
      advance: ``(state, step) -> (state, values, samples)``, one step counted from 0.
      log_every: Steps between metric rows.
      validate: Values measured every ``validate_every`` steps and at the end, if given.
      validate_every: Steps between validations.
      loader: Iterator whose position is saved with the state, or None.
      shown: Names of the values on the progress line.
    """

    stage: str
    steps: int
    advance: Callable[[TrainState, int], Advanced]
    log_every: int
    validate: Callable[[TrainState], Mapping[str, float]] | None = None
    validate_every: int = 0
    loader: Any = None
    shown: tuple[str, ...] = ("loss",)


def run_phase(
    phase: Phase,
    state: TrainState,
    start: int,
    *,
    checkpoints: Checkpoints,
    metrics: MetricsWriter,
    metadata: Mapping[str, Any],
) -> TrainState:
    """Train from step ``start`` to the end of the phase and return the final state.

    Values are read one step late, so that the device never waits for the log. The final state
    is always saved. SIGTERM or SIGINT finishes the step under way, saves, and raises; a second
    signal stops at once.

    Args:
      phase: What to do.
      state: State at ``start``; donated.
      start: Steps already done.
      checkpoints: Where the state is saved.
      metrics: Where values and samples go.
      metadata: JSON-ready facts saved with each checkpoint.

    Raises:
      Stopped: A signal came; the same command resumes.
      Diverged: ``MAX_SKIPPED_IN_A_ROW`` steps in a row were not finite.
    """
    metrics.resume(phase.stage, start)
    meter = _Meter(phase, metrics, start, int(state.skipped))
    done = start
    with stop_signal() as stopping, ProgressPrinter(phase.stage, phase.steps, start=start) as bar:
        for step in range(start, phase.steps):
            with jax.profiler.StepTraceAnnotation(phase.stage, step_num=step):
                state, values, samples = phase.advance(state, step)
            done = step + 1
            shown = meter.record(done, values)
            for sample in samples:
                metrics.write_sample(phase.stage, done, sample)
            bar.update(done, {name: shown[name] for name in phase.shown if name in shown})
            last = done == phase.steps
            if phase.validate and (last or done % phase.validate_every == 0):
                meter.validate(functools.partial(phase.validate, state))
            stop = stopping()
            facts = {**metadata, "phase_step": done}
            checkpoints.save(done, state, phase.loader, facts, force=last or stop)
            if stop:
                break
        meter.flush()
        checkpoints.wait()
        if stopping():
            raise Stopped(
                f"stopped at {phase.stage} step {done} of {phase.steps}; the state is saved, "
                "run the same command to go on"
            )
    return state


@contextmanager
def stop_signal() -> Iterator[Callable[[], bool]]:
    """Turn the first SIGTERM or SIGINT into a flag; a second one acts as usual.

    With several processes the flag is agreed on, so that all stop at one step.
    """
    asked: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def handler(number: int, _: Any) -> None:
        asked.append(number)
        for known, old in before.items():
            signal.signal(known, old)

    def stopping() -> bool:
        if jax.process_count() == 1:
            return bool(asked)
        from jax.experimental import multihost_utils

        return bool(multihost_utils.process_allgather(bool(asked)).any())

    try:
        for number in before:
            signal.signal(number, handler)
    except ValueError:  # not the main thread: the caller handles signals
        before = {}
    try:
        yield stopping
    finally:
        for number, old in before.items():
            signal.signal(number, old)


class _Meter:
    """Hold the newest values until the next step is under way, then write them."""

    def __init__(self, phase: Phase, metrics: MetricsWriter, start: int, skipped: int):
        self._phase = phase
        self._metrics = metrics
        self._pending: tuple[int, dict[str, Any]] | None = None
        self._extra: dict[str, float] = {}
        self._shown: dict[str, float] = {}
        self._skipped = float(skipped)
        self._skipped_in_a_row = 0
        self._written = start
        self._tokens = 0.0
        self._since = time.monotonic()

    def record(self, step: int, values: Mapping[str, Any]) -> Mapping[str, float]:
        """Take the values of ``step`` and return the newest ones that are on the host."""
        self._settle()
        self._pending = (step, dict(values))
        return self._shown

    def validate(self, measure: Callable[[], Mapping[str, float]]) -> None:
        """Write the row of the newest step with measured values, whose time counts for no rate."""
        if self._pending is not None:
            jax.block_until_ready(self._pending[1])
        began = time.monotonic()
        self._extra = {name: float(value) for name, value in measure().items()}
        self._since += time.monotonic() - began
        self._settle()

    def flush(self) -> None:
        """Write what is held."""
        self._settle(last=True)

    def _settle(self, *, last: bool = False) -> None:
        if self._pending is None:
            return
        (step, arrays), self._pending = self._pending, None
        values = {name: float(value) for name, value in jax.device_get(arrays).items()}
        self._shown = values
        self._watch(step, values)
        self._tokens += values.get("tokens", 0.0)
        due = step % self._phase.log_every == 0 or step == 1 or last or self._extra
        if due and step > self._written:
            now = time.monotonic()
            rate = self._tokens / max(now - self._since, 1e-9)
            row = {**values, **self._extra, "tokens_per_s": rate}
            self._metrics.write(self._phase.stage, step, row)
            self._tokens, self._since, self._written, self._extra = 0.0, now, step, {}

    def _watch(self, step: int, values: Mapping[str, float]) -> None:
        """Count steps in a row that were left out because they were not finite."""
        skipped = values.get("skipped", self._skipped)
        grew = skipped > self._skipped
        self._skipped = skipped
        self._skipped_in_a_row = self._skipped_in_a_row + 1 if grew else 0
        if grew:
            logger.warning("%s step %d was not finite and was skipped", self._phase.stage, step)
        bad = not math.isfinite(values.get("loss", 0.0))
        if self._skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
            raise Diverged(
                f"{MAX_SKIPPED_IN_A_ROW} steps in a row up to {step} were not finite "
                f"(loss {'not finite' if bad else 'finite'}); lower the learning rate or look at "
                "the data of these steps"
            )
