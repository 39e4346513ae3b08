"""What the loops of both phases share: metrics, progress, checkpoints, an orderly stop."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax

from tl_jax.data.prepare.files import FINGERPRINT
from tl_jax.errors import ConfigError, Stopped
from tl_jax.parallel import host_memory, processes
from tl_jax.run import inputs
from tl_jax.run.checkpoint import Checkpoints
from tl_jax.run.directory import Run
from tl_jax.run.metrics import MetricsWriter
from tl_jax.run.progress import ProgressPrinter
from tl_jax.run.record import replace_text
from tl_jax.run.trackers import open_trackers
from tl_jax.run.watchdog import Watchdog
from tl_jax.train.divergence import Guard
from tl_jax.train.goodput import Times
from tl_jax.train.stop import stop_signal
from tl_jax.types import TrainState

logger = logging.getLogger(__name__)

Measured = tuple[Callable[[TrainState], dict[str, float]] | None, int]
"""What measures a state, and after how many steps."""


@contextlib.contextmanager
def open_phase(run: Run, phase: str) -> Iterator[tuple[Checkpoints, MetricsWriter]]:
    """Set the mesh of the run and open what a phase writes.

    Args:
      run: Of the run.
      phase: ``"supervised"`` or ``"reward"``.

    Raises:
      ConfigError: The data have not been prepared, or what is trained from has changed.
    """
    check_prepared(run)
    inputs.settle(run)
    settings = run.config.checkpoint
    with (
        jax.set_mesh(run.mesh),
        MetricsWriter(run.run_dir, functools.partial(open_trackers, run.config)) as metrics,
        Checkpoints(run.checkpoint_dir(phase), settings.every_steps, settings.keep) as checkpoints,
    ):
        yield checkpoints, metrics
    # What comes next reads the checkpoint that the first process has finished.
    processes.wait_for_all(phase)


def check_prepared(run: Run) -> None:
    """Refuse to train on data that are not there.

    Raises:
      ConfigError: The data have not been prepared.
    """
    if not (run.data_dir / FINGERPRINT).exists():
        raise ConfigError(
            f"{run.data_dir} is not prepared; run `tl-jax prepare` with this configuration"
        )


class Loop:
    """The steps of a phase that are left, and what happens around each of them.

    ::

        with Loop("supervised", steps, start, checkpoints=checkpoints, metrics=metrics) as loop:
            for step in loop:
                state, values = train_step(state, batch)
                loop.record(values)
                loop.save(state)

    Values are read one step late, so that the device never waits for the log; what is written and
    what is on the screen belongs to one step all the same. Where a state is saved, the values of
    its step are written first: no kill leaves a checkpoint that the log does not reach. While steps
    go badly (``divergence.Guard``) nothing is saved, so the checkpoints that are kept stay those of
    steps that went well, and a phase that diverges does so again when it is repeated. The final
    state is always saved. After SIGTERM or SIGINT the step under way is finished and saved, and
    leaving the block raises ``Stopped``; a second signal stops at once.

    Args:
      phase: Name in metrics and on the screen.
      steps: Total steps; the loop counts, from 0, those from ``start`` on.
      start: Steps already done.
      checkpoints: Where the state is saved.
      metrics: Where values and samples go.
      log_every: Steps between rows of metrics.
      shown: Names of the values on the progress line.
      skipped: Updates left out so far because they were not finite.
      updates: Updates of one step.
      loader: Iterator whose position is saved with the state, or None.
      end_if_hung: Whether the process ends when no step does, see ``run.watchdog``.
      spike: Deviations from the median that a loss may be high, see ``divergence.Guard``.
      rollbacks: How often the phase has gone back; written with each step.
    """

    def __init__(
        self,
        phase: str,
        steps: int,
        start: int,
        *,
        checkpoints: Checkpoints,
        metrics: MetricsWriter,
        log_every: int = 1,
        shown: Sequence[str] = ("loss",),
        skipped: int = 0,
        updates: int = 1,
        loader: Any = None,
        end_if_hung: bool = False,
        spike: float = 0.0,
        rollbacks: int = 0,
    ):
        self._watchdog = Watchdog(metrics.run_dir, phase, leave=end_if_hung)
        self.phase = phase
        self.steps = steps
        self.done = start
        self._checkpoints = checkpoints
        self._metrics = metrics
        self._log_every = log_every
        self._shown = shown
        self._loader = loader
        self._facts = checkpoints.facts(start)
        losses = self._facts.get("losses", ())
        self._guard = Guard(phase, skipped=skipped, spike=spike, losses=losses)
        self._updates = updates
        self._rollbacks = {"rollbacks": float(rollbacks)} if rollbacks else {}
        self._stop = False
        # Values of the newest step, until the next one is under way.
        self._pending: tuple[int, dict[str, Any]] | None = None
        self._written = start
        self._tokens = 0.0
        self._since = time.monotonic()
        self._bar = ProgressPrinter(phase, steps, start=start)
        self._opened = contextlib.ExitStack()

    def __enter__(self) -> Loop:
        newest = self._metrics.resume(self.phase, self.done)
        self._times = Times(self._facts.get("seconds", {}), newest, self._metrics.opened)
        self._stopping = self._opened.enter_context(stop_signal())
        self._opened.enter_context(self._bar)
        self._opened.enter_context(self._watchdog)
        return self

    def __iter__(self) -> Iterator[int]:
        """Give the number of each step, from 0, until the last one or a signal."""
        self._times.switch("compile")
        while self.done < self.steps and not self._stop:
            with jax.profiler.StepTraceAnnotation(self.phase, step_num=self.done):
                yield self.done

    def record(self, values: Mapping[str, Any], samples: Sequence[Mapping[str, Any]] = ()) -> None:
        """Take what the step gave, and judge and write what the step before it gave.

        Args:
          values: Device arrays or floats; ``tokens`` is counted into tokens per second.
          samples: JSON-ready, for the sample log.

        Raises:
          Diverged: Too many steps in a row went badly.
        """
        self._write_pending()
        self._times.switch("step")
        self._times.step()
        self.done += 1
        self._watchdog.step(self.done)
        host_memory.give_back()
        self._pending = (self.done, dict(values))
        for sample in samples:
            self._metrics.write_sample(self.phase, self.done, sample)

    @contextlib.contextmanager
    def data(self) -> Iterator[None]:
        """Take the time in this block for waiting for data."""
        with self._times.during("data", own=True):
            yield

    def every(self, steps: int) -> bool:
        """Whether what is due every so many steps, and after the last one, is due now."""
        return self.done == self.steps or self.done % steps == 0

    def measure(self, state: TrainState, measures: Sequence[Measured]) -> dict[str, float]:
        """Measure what is due after the step just recorded and write it with that step.

        Args:
          state: The state after it.
          measures: What measures a state, or None for nothing, and after how many steps each.

        Returns:
          All that was measured; empty if nothing was due.
        """
        due = [measure for measure, steps in measures if measure and self.every(steps)]
        if not due:
            return {}
        with self.validation() as measured:
            for measure in due:
                measured.update(measure(state))
        return measured

    @contextlib.contextmanager
    def validation(self) -> Iterator[dict[str, float]]:
        """Write what is measured here with the step just recorded; the time counts for no rate."""
        if self._pending is not None:
            jax.block_until_ready(self._pending[1])
        began = time.monotonic()
        measured: dict[str, float] = {}
        with self._watchdog.paused(), self._times.during("evaluation"):
            yield measured
        self._since += time.monotonic() - began
        self._write_pending(measured)

    def end(self) -> None:
        """Make the step just recorded the last one."""
        self.steps = self.done

    def save(self, state: TrainState) -> None:
        """Save the state if it is due, if it is the last one, or if a signal came.

        Raises:
          Diverged: As ``record``; or this was the last step and the phase ends badly.
        """
        self._stop = self._stopping()
        ended = self.done == self.steps
        last = ended or self._stop
        if not last and not self._checkpoints.due(self.done):
            return
        self._write_pending(last=last)
        if ended:
            self._guard.end(self.done, self.steps * self._updates)
        if ended or not self._guard.in_a_row:
            facts = {"stage": self.phase, "phase_step": self.done}
            facts |= {"losses": list(self._guard.losses), "seconds": self._times.row()}
            with self._times.during("save"), self._watchdog.saving():
                self._checkpoints.save(self.done, state, self._loader, facts, force=last)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._opened:
            if kind is None:
                self._write_pending(last=True)
                with self._watchdog.saving():
                    self._checkpoints.wait()
                self._stop = self._stopping()
        if kind is None and self._stop:
            raise Stopped(
                f"stopped at {self.phase} step {self.done} of {self.steps}; "
                f"{self._saved()}, run the same command to go on"
            )

    def _write_pending(
        self, measured: Mapping[str, float] | None = None, *, last: bool = False
    ) -> None:
        if self._pending is None:
            return
        (step, arrays), self._pending = self._pending, None
        with self._times.waiting():
            values = {name: float(value) for name, value in jax.device_get(arrays).items()}
        measured = {name: float(value) for name, value in (measured or {}).items()}
        shown = {name: values[name] for name in self._shown if name in values}
        self._bar.update(step, {**shown, **measured}, keep=bool(measured))
        self._guard.see(step, values)
        self._tokens += values.get("tokens", 0.0)
        due = step % self._log_every == 0 or step == 1 or last or measured
        if due and step > self._written:
            now = time.monotonic()
            rate = self._tokens / max(now - self._since, 1e-9)
            values |= {**measured, "tokens_per_s": rate, **self._rollbacks}
            values |= {**self._times.row(), **self._times.hosts()}
            self._metrics.write(self.phase, step, values)
            self._tokens, self._since, self._written = 0.0, now, step

    def _saved(self) -> str:
        if not self._guard.in_a_row:
            return "the state is saved"
        return "its last steps went badly, so the state before them is the saved one"


def end_early(run: Run, loop: Loop) -> None:
    """Make the step just recorded the last one of its phase, also for the commands that follow."""
    if processes.is_first():
        path = run.ended_file(loop.phase)
        replace_text(path, json.dumps([loop.done, loop.steps]) + "\n")
    loop.end()
