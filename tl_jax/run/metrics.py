"""Write what a run measures: JSON lines, TensorBoard, sampled calls, progress, run facts.

Every file lies in the run directory. Every process calls these functions, the first one writes.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tl_jax.parallel import processes
from tl_jax.run.record import replace_text
from tl_jax.run.trackers import TensorBoard, Tracker

logger = logging.getLogger(__name__)

METRICS_FILE = "metrics.jsonl"
SAMPLES_FILE = "samples.jsonl"
SHOWN_S = 60.0
"""Seconds after which what was written is seen on a bucket, too."""


class MetricsWriter:
    """Append measurements and samples of a run to its directory.

    ``metrics.jsonl`` holds one row ``{"stage", "step", "time_s", name: value, ...}`` per stage
    and step, ``time_s`` in Unix seconds, values that are not finite as null. ``samples.jsonl``
    holds sampled calls with their stage and step. ``tensorboard/<stage>`` repeats the metrics, as
    do further trackers. Rows are flushed as they are written, and the files are closed and opened
    again every ``SHOWN_S`` seconds: on a mounted bucket others see a file as it was when it was
    closed.

    Args:
      run_dir: The run directory; made if absent.
      open_trackers: Opens the further trackers, on the first process only.

    Attributes:
      run_dir: The same.
      opened: When it was opened, on the monotonic clock.
    """

    def __init__(
        self,
        run_dir: str | os.PathLike[str],
        open_trackers: Callable[[], Sequence[Tracker]] = tuple,
    ):
        self.run_dir, self.opened = Path(run_dir), time.monotonic()
        self._active = processes.is_first()
        self._trackers: list[Tracker] = []
        self._files: dict[str, Any] = {}
        if self._active:
            self.run_dir.mkdir(parents=True, exist_ok=True)
            self._trackers = [TensorBoard(self.run_dir), *open_trackers()]
            self._drop(lambda row: False)
            self._open()

    def __enter__(self) -> MetricsWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def resume(self, stage: str, step: int) -> dict[str, Any]:
        """Forget rows of ``stage`` after ``step``, the step a restored state stands at.

        Steps between the last checkpoint and the stop are run again; their old rows are removed,
        so that the file has one row per stage and step.

        Returns:
          The newest row of the stage before that; empty without one, and but on the first process.
        """
        if not self._active:
            return {}
        self._close_files()
        newest = self._newest(stage)
        self._drop(lambda row: row.get("stage") == stage and row["step"] > step)
        self._open()
        for tracker in self._trackers:
            tracker.resume(stage, step)
        return newest

    def write(self, stage: str, step: int, values: Mapping[str, Any]) -> None:
        """Append one row of numbers.

        Args:
          stage: Such as ``"supervised"`` or ``"reward"``.
          step: Optimiser steps done.
          values: Numbers or scalar arrays by name.

        Raises:
          ValueError: A value is not a scalar.
        """
        if not self._active:
            return
        numbers = {name: _number(name, value) for name, value in values.items()}
        row = {"stage": stage, "step": int(step), "time_s": round(time.time(), 3), **numbers}
        self._append(METRICS_FILE, row)
        finite = {name: value for name, value in numbers.items() if value is not None}
        for tracker in self._trackers:
            tracker.write(stage, int(step), finite)

    def write_sample(self, stage: str, step: int, sample: Mapping[str, Any]) -> None:
        """Append one sampled call (JSON-ready) with its stage and step."""
        if self._active:
            # A sample may count steps its own way; rows are forgotten by this step.
            self._append(SAMPLES_FILE, {**sample, "stage": stage, "step": int(step)})

    def close(self) -> None:
        """Close the files."""
        self._close_files()
        while self._trackers:
            self._trackers.pop().close()

    def _open(self) -> None:
        for name in (METRICS_FILE, SAMPLES_FILE):
            self._files[name] = (self.run_dir / name).open("a", encoding="utf-8")
        self._shown = time.monotonic()

    def _close_files(self) -> None:
        while self._files:
            self._files.popitem()[1].close()

    def _append(self, name: str, row: Mapping[str, Any]) -> None:
        self._files[name].write(json.dumps(row, ensure_ascii=False) + "\n")
        self._files[name].flush()
        if time.monotonic() - self._shown > SHOWN_S:
            self._close_files()
            self._open()

    def _newest(self, stage: str) -> dict[str, Any]:
        path = self.run_dir / METRICS_FILE
        with path.open(encoding="utf-8") as file:
            rows = [row for line in file if (row := json.loads(line)).get("stage") == stage]
        return rows[-1] if rows else {}

    def _drop(self, unwanted: Callable[[Mapping[str, Any]], bool]) -> None:
        """Rewrite the files without unwanted rows and without a line cut by a kill.

        Other lines that are no rows are left out, too, and that is said.
        """
        for name in (METRICS_FILE, SAMPLES_FILE):
            path = self.run_dir / name
            if not path.exists():
                continue
            with path.open("rb") as file:
                lines = list(file)  # str.splitlines would cut at U+2028 inside a text, too
            rows = [_row(line) for line in lines]
            if damaged := [i for i, row in enumerate(rows, 1) if row is None and _ended(lines, i)]:
                logger.warning(
                    "%s: damaged and left out: %d of %d rows (line %s)",
                    *(path, len(damaged), len(lines), ", ".join(map(str, damaged[:10]))),
                )
            kept = [
                line
                for line, row in zip(lines, rows, strict=True)
                if row is not None and not unwanted(row)
            ]
            if len(kept) < len(lines):
                replace_text(path, b"".join(kept).decode())


def _number(name: str, value: Any) -> int | float | None:
    if isinstance(value, bool | int):
        return int(value)
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"metric {name!r} must be one number, got {value!r}") from error
    return number if math.isfinite(number) else None


def _row(line: bytes) -> dict[str, Any] | None:
    """Return the row of a whole line; None if it is none."""
    try:
        row = json.loads(line.decode()) if line.endswith(b"\n") else None
        return row if isinstance(row, dict) and isinstance(row["step"], int) else None
    except (ValueError, KeyError, RecursionError):
        return None


def _ended(lines: Sequence[bytes], number: int) -> bool:
    return lines[number - 1].endswith(b"\n")
