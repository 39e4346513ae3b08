"""Write what a run measures: JSON lines, TensorBoard, sampled calls, progress, run facts.

Every file lies in the run directory. Every process calls these functions, the first one writes.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import rich.console
import rich.progress
import tensorboardX

from tl_jax.parallel import processes

METRICS_FILE = "metrics.jsonl"
SAMPLES_FILE = "samples.jsonl"

_PACKAGES = (
    "tl_jax",
    "jax",
    "jaxlib",
    "libtpu",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "transformers",
    "tokenizers",
    "safetensors",
    "numpy",
)


class MetricsWriter:
    """Append measurements and samples of a run to its directory.

    ``metrics.jsonl`` holds one row ``{"stage", "step", "time_s", name: value, ...}`` per stage
    and step, ``time_s`` in Unix seconds, values that are not finite as null. ``samples.jsonl``
    holds sampled calls with their stage and step. ``tensorboard/<stage>`` repeats the metrics.
    Rows are flushed as they are written.

    Args:
      run_dir: The run directory; made if absent.
    """

    def __init__(self, run_dir: str | os.PathLike[str]):
        self.run_dir = Path(run_dir)
        self._active = processes.is_first()
        self._boards: dict[str, tensorboardX.SummaryWriter] = {}
        self._files: dict[str, Any] = {}
        if self._active:
            self.run_dir.mkdir(parents=True, exist_ok=True)
            self._drop(lambda row: False)
            self._open()

    def __enter__(self) -> MetricsWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def resume(self, stage: str, step: int) -> None:
        """Forget rows of ``stage`` after ``step``, the step a restored state stands at.

        Steps between the last checkpoint and the stop are run again; their old rows are removed,
        so that the file has one row per stage and step.
        """
        if not self._active:
            return
        self._close_files()
        self._drop(lambda row: row.get("stage") == stage and row.get("step", -1) > step)
        self._open()
        if stage in self._boards:
            self._boards.pop(stage).close()
        if step > 0:
            self._boards[stage] = self._board(stage, purge_step=step + 1)

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
        board = self._boards.get(stage) or self._boards.setdefault(stage, self._board(stage))
        for name, value in numbers.items():
            if value is not None:
                board.add_scalar(name, value, int(step))
        board.flush()

    def write_sample(self, stage: str, step: int, sample: Mapping[str, Any]) -> None:
        """Append one sampled call (JSON-ready) with its stage and step."""
        if self._active:
            # A sample may count steps its own way; rows are forgotten by this step.
            self._append(SAMPLES_FILE, {**sample, "stage": stage, "step": int(step)})

    def close(self) -> None:
        """Close the files."""
        self._close_files()
        while self._boards:
            self._boards.popitem()[1].close()

    def _board(self, stage: str, **options: Any) -> tensorboardX.SummaryWriter:
        return tensorboardX.SummaryWriter(str(self.run_dir / "tensorboard" / stage), **options)

    def _open(self) -> None:
        for name in (METRICS_FILE, SAMPLES_FILE):
            self._files[name] = (self.run_dir / name).open("a", encoding="utf-8")

    def _close_files(self) -> None:
        while self._files:
            self._files.popitem()[1].close()

    def _append(self, name: str, row: Mapping[str, Any]) -> None:
        self._files[name].write(json.dumps(row, ensure_ascii=False) + "\n")
        self._files[name].flush()

    def _drop(self, unwanted: Any) -> None:
        """Rewrite the files without unwanted rows and without a line cut by a kill."""
        for name in (METRICS_FILE, SAMPLES_FILE):
            path = self.run_dir / name
            if not path.exists():
                continue
            with path.open(encoding="utf-8", errors="replace") as file:
                lines = list(file)  # str.splitlines would cut at U+2028 inside a text, too
            kept = [line for line in lines if _is_row(line) and not unwanted(json.loads(line))]
            if len(kept) < len(lines):
                _replace_text(path, "".join(kept))


class ProgressPrinter:
    """Show how far a stage is: a bar on a terminal, else a plain line now and then.

    Args:
      title: Name of the stage.
      total: Steps to do.
      start: Steps already done.
      every_s: Seconds between plain lines; the first and the last step are always printed.
      console: Where to print; the standard output by default.
    """

    def __init__(
        self,
        title: str,
        total: int,
        *,
        start: int = 0,
        every_s: float = 10.0,
        console: rich.console.Console | None = None,
    ):
        self._title = title
        self._total = total
        self._start = start
        self._every_s = every_s
        self._console = console or rich.console.Console(soft_wrap=True, highlight=False)
        self._active = processes.is_first()
        self._began = time.monotonic()
        self._printed = -math.inf
        self._bar: rich.progress.Progress | None = None
        if self._active and self._console.is_terminal:
            self._bar = rich.progress.Progress(
                rich.progress.TextColumn("[bold]{task.description}"),
                rich.progress.BarColumn(bar_width=24),
                rich.progress.MofNCompleteColumn(),
                rich.progress.TimeElapsedColumn(),
                rich.progress.TimeRemainingColumn(),
                rich.progress.TextColumn("{task.fields[values]}", markup=False),
                console=self._console,
            )
            self._task = self._bar.add_task(title, total=total, completed=start, values="")

    def __enter__(self) -> ProgressPrinter:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, step: int, values: Mapping[str, Any] | None = None) -> None:
        """Show that ``step`` steps are done, with some numbers beside it."""
        if not self._active:
            return
        shown = "  ".join(f"{name} {_short(value)}" for name, value in (values or {}).items())
        if self._bar:
            changed = {"values": shown} if values is not None else {}
            self._bar.update(self._task, completed=step, **changed)
            return
        now = time.monotonic()
        if now - self._printed < self._every_s and step < self._total:
            return
        self._printed = now
        done = max(step - self._start, 1)
        left_s = (now - self._began) / done * (self._total - step)
        self._console.print(
            f"{self._title} {step}/{self._total}  {shown}  "
            f"{_clock(now - self._began)} elapsed, {_clock(left_s)} left",
            markup=False,
        )


def changed_settings(run_dir: str | os.PathLike[str], config: Mapping[str, Any]) -> list[str]:
    """Return the dotted names in which ``config`` differs from the run's ``config.json``.

    A directory without one gives an empty list.
    """
    path = Path(run_dir) / "config.json"
    if not path.exists():
        return []
    old = flatten(json.loads(path.read_text(encoding="utf-8")))
    # Compared as JSON: a tuple comes back as a list.
    new = flatten(json.loads(json.dumps(config)))
    missing = object()
    return [
        name
        for name in sorted(old.keys() | new.keys())
        if old.get(name, missing) != new.get(name, missing)
    ]


def write_config(run_dir: str | os.PathLike[str], config: Mapping[str, Any]) -> None:
    """Write ``config.json``; the run directory is made if absent."""
    _write_json(Path(run_dir) / "config.json", config)


def write_versions(run_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """Write ``versions.json``: software, git revision (None outside a checkout), devices."""
    devices = jax.devices()
    versions = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "git_revision": _git_revision(),
        "backend": jax.default_backend(),
        "device_kind": devices[0].device_kind,
        "devices": len(devices),
        "processes": jax.process_count(),
        "cpu_count": os.cpu_count(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "libtpu_init_args": os.environ.get("LIBTPU_INIT_ARGS", ""),
    }
    _write_json(Path(run_dir) / "versions.json", versions)
    return versions


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    file = Path(__file__).resolve()
    git = ["git", "-C", str(file.parent)]
    # A package installed below somebody else's checkout has no revision of its own.
    commands = [
        [*git, "ls-files", "--error-unmatch", str(file)],
        [*git, "describe", "--always", "--dirty", "--abbrev=40"],
    ]
    try:
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
            if done.returncode != 0:
                return None
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _number(name: str, value: Any) -> int | float | None:
    if isinstance(value, bool | int):
        return int(value)
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"metric {name!r} must be one number, got {value!r}") from error
    return number if math.isfinite(number) else None


def _is_row(line: str) -> bool:
    try:
        return line.endswith("\n") and isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _short(value: Any) -> str:
    if isinstance(value, str):
        return value
    number = float(value)
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}"


def _clock(seconds: float) -> str:
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings by dotted name."""
    if not isinstance(tree, Mapping):
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    if processes.is_first():
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace_text(path, json.dumps(content, indent=2, sort_keys=True) + "\n")
    processes.wait_for_all(path.name)


def _replace_text(path: Path, text: str) -> None:
    draft = path.with_name(path.name + ".tmp")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
