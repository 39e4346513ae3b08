"""The signal to stop: one process gets it, all of them leave after the same step."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import signal
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.experimental import multihost_utils

_asked_for = itertools.count(1)
"""Every process asks as often as the others, so the count is the step they agree on."""


@contextlib.contextmanager
def stop_signal() -> Iterator[Callable[[], bool]]:
    """Turn the first SIGTERM or SIGINT into a flag; a second one acts as usual.

    With several processes the coordination service of JAX takes the notice to all of them and
    agrees on the step: what is asked for is True at the same call on each. To ask costs no
    communication.
    """
    asked: list[int] = []
    agreed: list[bool] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    several = jax.process_count() > 1
    notice = _taken_from_the_service() if several else 0

    def handler(number: int, _: Any) -> None:
        asked.append(number)
        if notice:
            ctypes.CFUNCTYPE(None, ctypes.c_int)(notice)(signal.SIGTERM)
        for known, old in before.items():
            signal.signal(known, old)

    def stopping() -> bool:
        # The service says so once only, all processes at the same time.
        if several and not agreed:
            if multihost_utils.reached_preemption_sync_point(next(_asked_for)):
                agreed.append(True)
        return bool(agreed if several else asked)

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
        if notice:
            _libc().signal(signal.SIGTERM, notice)


def _taken_from_the_service() -> int:
    """Return the address of what the service does at SIGTERM, which Python's own would replace.

    It only sets a flag, for a thread that tells the other processes.
    """
    return _libc().signal(signal.SIGTERM, None) or 0


def _libc() -> ctypes.CDLL:
    library = ctypes.CDLL(None)
    library.signal.restype, library.signal.argtypes = (
        ctypes.c_void_p,
        (ctypes.c_int, ctypes.c_void_p),
    )
    return library
