"""Limits on what a chat template may take: time, memory, and the size of what one step makes.

A template is a program from somewhere else. Its loops run as Python and are stopped from a thread
that watches; what the sandbox calls runs as one step, which nothing can stop, so it is asked before
how much it would make.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sized
from pathlib import Path
from typing import Any

from jinja2.exceptions import SecurityError

SECONDS = 10.0
"""Time that writing one text may take."""
GROWTH = 2 << 30
"""Bytes by which the process may grow in that time."""

_LOOK_S = 0.1
_AGAIN_S = 1.0  # after which a text that is still being written is ended once more
_MOST = 50_000_000  # characters or entries that one step may make
_WIDEST = 10_000  # characters of padding
_WIDE = re.compile(r"[0-9]{5}|\*")
_TAKES_WIDTHS = re.compile(r"\*|\{[^{}]*\{")
_BITS = 100_000  # of an integer
_PADDED = ("center", "indent", "format", "wordwrap", "batch", "slice")


class LimitExceeded(Exception):
    """A template took more than it may."""


class _Watch:
    """One text that is being written.

    Attributes:
      deadline: Time of the monotonic clock.
      size: Bytes of the process when it was first looked at; 0 before.
      reason: Why it was stopped; empty if it was not.
      again: Time of the clock at which it is stopped once more.
      told: Whether the thread has seen that.
    """

    __slots__ = ("again", "deadline", "reason", "size", "told")

    def __init__(self) -> None:
        self.deadline = time.monotonic() + SECONDS
        self.size, self.reason, self.again, self.told = 0, "", 0.0, False


_watched: dict[int, _Watch] = {}
_lock = threading.Lock()
_started: list[int] = []


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """End what is done in the block when it takes too long or too much memory.

    Raises:
      LimitExceeded: The message says which limit it was.
    """
    if _started != [os.getpid()]:  # also the child of a fork has no watcher yet
        _started[:] = [os.getpid()]
        _watched.clear()
        threading.Thread(target=_look, name="template-limits", daemon=True).start()
    me, watch = threading.get_ident(), _Watch()
    try:
        _watched[me] = watch
        try:
            yield
        except LimitExceeded:
            watch.told = True
            raise
        finally:
            with _lock:
                _watched.pop(me, None)
            if watch.reason:
                # An error that is on its way must not come later.
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(me), None)
                if not watch.told:  # or something has swallowed it
                    raise LimitExceeded
    except LimitExceeded:
        watch.told = True
        _watched.pop(me, None)
        raise LimitExceeded(watch.reason) from None


def _look() -> None:
    while True:
        time.sleep(_LOOK_S)
        with _lock:
            for thread, watch in list(_watched.items()):
                now, size = time.monotonic(), _resident()
                watch.size = watch.size or size
                if not watch.reason and now > watch.deadline:
                    watch.reason = f"it took more than {SECONDS:g} s"
                elif not watch.reason and size - watch.size > GROWTH:
                    watch.reason = f"it took more than {GROWTH >> 20} MiB"
                # An error may reach the thread where it is swallowed: in a callback of the garbage
                # collector, say, while a loop of the template goes on.
                if watch.reason and not watch.told and now >= watch.again:
                    watch.again = now + _AGAIN_S
                    error = ctypes.py_object(LimitExceeded)
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), error)


def _resident() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    except (OSError, ValueError, IndexError):
        return 0


def check_operation(operator: str, left: Any, right: Any) -> None:
    """Refuse an operation on two values whose result would be huge.

    Raises:
      SecurityError: It would.
    """
    if operator == "*":
        for some, times in ((left, right), (right, left)):
            if isinstance(some, Sized) and isinstance(times, int) and len(some) * times > _MOST:
                raise SecurityError(f"a text or list would be longer than {_MOST:,}")
    if operator in ("*", "**") and isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() + right.bit_length()
        if (left.bit_length() * right if operator == "**" else bits) > _BITS:
            raise SecurityError(f"a number would have more than {_BITS:,} bits")
    if operator == "%" and isinstance(left, str) and _WIDE.search(left):
        raise SecurityError(f"a value would be padded to more than {_WIDEST:,} characters")


def check_call(name: str, values: tuple[Any, ...]) -> None:
    """Refuse a call of a text's method or of a filter whose result would be huge.

    Args:
      name: Of the method or filter.
      values: The text and the arguments.

    Raises:
      SecurityError: It would.
    """
    formats = name.startswith("format") and bool(values) and isinstance(values[0], str)
    # What is written by a format is no width, unless the format takes its widths from there.
    sizes = values[:1] if formats and not _TAKES_WIDTHS.search(values[0]) else values
    if any(isinstance(value, int) and value > _WIDEST for value in sizes):
        raise SecurityError(f"{name} would pad to more than {_WIDEST:,} characters")
    if formats and any(isinstance(v, str) and _WIDE.search(v) for v in sizes):
        raise SecurityError(f"{name} would pad to more than {_WIDEST:,} characters")
    if _MADE.get(name, _nothing)(*values) > _MOST:
        raise SecurityError(f"{name} would make more than {_MOST:,} characters")


def modest(filters: dict[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """Return those of a sandbox's filters that could make much of little, with their limits."""
    return {name: _modest(name, filters[name]) for name in (*_MADE, *_PADDED)}


def _modest(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        check_call(name, (*args, *kwargs.values()))
        return function(*args, **kwargs)

    return checked


def _nothing(*_: Any) -> int:
    return 0


def _of_replace(*values: Any) -> int:
    text, old, new, *_ = (*(value for value in values if isinstance(value, str)), "", "", "")
    return len(text) + text.count(old) * (len(new) - len(old))


def _of_join(*values: Any) -> int:
    between = sum(len(value) for value in values if isinstance(value, str))
    lists = [value for value in values if isinstance(value, list | tuple)]
    own = sum(len(part) for parts in lists for part in parts if isinstance(part, str))
    return own + between * sum(map(len, lists))


_MADE = {"replace": _of_replace, "join": _of_join}
