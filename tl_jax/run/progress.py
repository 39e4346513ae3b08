"""Show how far a phase is: a bar on a terminal, else a plain line now and then."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import rich.console
import rich.progress

from tl_jax.parallel import processes
from tl_jax.screen import screen


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
        self._console = console or screen()
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

    def update(
        self, step: int, values: Mapping[str, Any] | None = None, *, keep: bool = False
    ) -> None:
        """Show that ``step`` steps are done, with some numbers beside it.

        Args:
          step: Steps done.
          values: Numbers of that step.
          keep: Print a line that stays, also on a terminal and however short ago the last one was.
        """
        if not self._active:
            return
        shown = "  ".join(f"{name} {_short(value)}" for name, value in (values or {}).items())
        if self._bar:
            changed: dict[str, Any] = {"values": shown} if values is not None else {}
            self._bar.update(self._task, completed=step, **changed)
            if keep:
                self._bar.console.print(
                    f"{self._title} {step}/{self._total}  {shown}", markup=False
                )
            return
        now = time.monotonic()
        if now - self._printed < self._every_s and step < self._total and not keep:
            return
        self._printed = now
        done = max(step - self._start, 1)
        left_s = (now - self._began) / done * (self._total - step)
        self._console.print(
            f"{self._title} {step}/{self._total}  {shown}  "
            f"{_clock(now - self._began)} elapsed, {_clock(left_s)} left",
            markup=False,
        )


def _short(value: Any) -> str:
    if isinstance(value, str):
        return value
    number = float(value)
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}"


def _clock(seconds: float) -> str:
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
