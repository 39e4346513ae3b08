"""Go back to the newest good checkpoint when a phase diverges, and on from there with other data.

``rollbacks/PHASE.json`` in the run directory lists how often that was: which steps were bad, what
they measured, where training went on, why. The data of the bad steps and of the one before them,
whose update may have been the cause, are passed over and kept: supervised batches in
``rollbacks/PHASE-STEP-NUMBER-PROCESS.safetensors`` (``tokens``, ``targets``, ``weights`` and more
of the rows of one process), rows of the logs in ``rollbacks/PHASE-COUNT-samples.jsonl`` and
``-metrics.jsonl``. A run that is stopped and resumed passes over the same data.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save

from tl_jax.errors import ConfigError, Diverged
from tl_jax.parallel import processes
from tl_jax.run import checkpoint
from tl_jax.run.directory import Run
from tl_jax.run.metrics import METRICS_FILE, SAMPLES_FILE
from tl_jax.run.record import replace_text

logger = logging.getLogger(__name__)

FOLDER = "rollbacks"


class Rollbacks:
    """The attempts of a phase, each from where the one before it went well.

    ::

        for attempt in Rollbacks(run, sft.PHASE):
            with attempt:
                sft.train(run)

    Args:
      run: The run; ``checkpoint.rollbacks`` bounds how often a phase goes back.
      phase: ``"supervised"`` or ``"reward"``.

    Raises:
      ConfigError: The list is damaged.
    """

    def __init__(self, run: Run, phase: str):
        self._most = run.config.checkpoint.rollbacks
        self._phase = phase
        self._checkpoints = run.checkpoint_dir(phase)
        self._folder = run.run_dir / FOLDER
        self._file = self._folder / f"{phase}.json"
        self._read()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Attempt]:
        """Give attempts until one ends well or with an error."""
        attempt = Attempt(self)
        while not attempt.ended:
            yield attempt

    def next(self, loader: Iterator[Mapping[str, np.ndarray]], done: int) -> Mapping[str, Any]:
        """Return the batch after so many steps, and keep those that are passed over before it."""
        for number in range(self._dropped.get(done + 1, 0)):
            self._keep(next(loader), f"{self._phase}-{done + 1}-{number}")
        return next(loader)

    def passed_over(self, done: int) -> int:
        """Return how many steps' data are passed over up to the step after so many."""
        return sum(count for step, count in self._dropped.items() if step <= done + 1)

    def go_back(self, error: Diverged) -> bool:
        """Write down that the phase goes back, and make an older checkpoint the newest one.

        Returns:
          Whether it may go back.

        Raises:
          Diverged: It has done so as often as it may.
        """
        if error.first is None or not self._most:
            return False
        if len(self) >= self._most:
            raise Diverged(
                f"{error}. Training went back {len(self)} times (config.checkpoint.rollbacks) and "
                f"on with other data, so the cause is hardly the data; {self._file} lists the steps"
            ) from error
        first = max(error.first - 1, 1)
        if processes.is_first():
            restored = checkpoint.set_aside_from(self._checkpoints, first)
            entry = {"restored": restored, "first": first, "last": error.last, "why": str(error)}
            entry["bad"] = list(error.bad)
            self._folder.mkdir(exist_ok=True)
            self._keep_rows(first)
            replace_text(self._file, json.dumps([*self._entries, entry], indent=1) + "\n")
            logger.warning(
                "%s. Training goes back to step %d and passes over the data of steps %d to %d; "
                "they are kept in %s",
                *(error, restored, first, error.last, self._folder),
            )
        processes.wait_for_all(self._file.name)
        self._read()
        return True

    def _read(self) -> None:
        try:
            self._entries = json.loads(self._file.read_text()) if self._file.exists() else []
            self._dropped = dropped(self._entries)
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{self._file} is damaged ({error!r}); it says which data are passed over. Put it "
                "back, or move it away to train on all of them"
            ) from error

    def _keep_rows(self, first: int) -> None:
        """Copy the rows of the logs that are about to be dropped."""
        for name in (METRICS_FILE, SAMPLES_FILE):
            path = self._folder.parent / name
            if not path.exists():
                continue
            with path.open(encoding="utf-8") as file:
                found = [line for line in file if _is_of(json.loads(line), self._phase, first)]
            if found:
                replace_text(self._folder / f"{self._phase}-{len(self) + 1}-{name}", "".join(found))

    def _keep(self, batch: Mapping[str, np.ndarray], name: str) -> None:
        path = self._folder / f"{name}-{jax.process_index()}.safetensors"
        if not path.exists():
            draft = path.with_suffix(".tmp")
            draft.write_bytes(save({key: np.ascontiguousarray(x) for key, x in batch.items()}))
            draft.replace(path)


class Attempt:
    """One attempt: a context that does not let a divergence through after which it goes back.

    Attributes:
      ended: No other attempt follows.
    """

    def __init__(self, rollbacks: Rollbacks):
        self._rollbacks = rollbacks
        self.ended = False

    def __enter__(self) -> None:
        self.ended = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> bool:
        self.ended = True
        if isinstance(error, Diverged) and self._rollbacks.go_back(error):
            self.ended = False
        return not self.ended


def _is_of(row: Mapping[str, Any], phase: str, first: int) -> bool:
    return row.get("stage") == phase and row.get("step", 0) >= first


def dropped(entries: Sequence[Mapping[str, Any]]) -> dict[int, int]:
    """Return how many batches are passed over before each step (from 1).

    Args:
      entries: Rollbacks in their order, with the ``first`` and ``last`` step whose data are bad.
    """
    found: dict[int, int] = {}
    for entry in entries:
        first, last = int(entry["first"]), int(entry["last"])
        # What was passed over between these steps lies between their batches.
        inside = [step for step in found if first <= step <= last]
        found[first] = last - first + 1 + sum(found.pop(step) for step in inside)
    return found
