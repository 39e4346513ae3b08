"""One writer of a run on a bucket at a time, and whose copy of it is the newest.

The object ``writer.json`` names the last writer by a token of its folder, with a count that goes up
while it lives; it stays when he has ended.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from tl_jax.errors import RunNotWritable
from tl_jax.parallel import machine
from tl_jax.run import lock
from tl_jax.run.bucket import Bucket
from tl_jax.screen import visible

logger = logging.getLogger(__name__)

FILE = "writer.json"
SETTLE_S = 2.0
"""Seconds after which the later of two writers who began together is the only one."""

_LOST = 4


@contextlib.contextmanager
def claimed(bucket: Bucket, token: str) -> Iterator[tuple[str, bool]]:
    """Be the writer of a run on a bucket.

    Args:
      bucket: The run.
      token: Of the folder here, or empty if it never wrote there.

    Yields:
      The token of the folder from now on, and whether it is the one that wrote last.

    Raises:
      RunNotWritable: Somebody else writes; the message says who and since when.
    """
    other = _read(bucket)
    if token and other.get("token") == token:
        newest = True
    else:
        newest = False
        if other.get("open"):
            _wait_for_silence(bucket, other)
        token = secrets.token_hex(8)
    bucket.write(FILE, _text(token, 0))
    if not newest:
        time.sleep(SETTLE_S)
        if (now := _read(bucket)).get("token") != token:
            raise RunNotWritable(_refusal(bucket, now))
    with _beating(bucket, token):
        yield token, newest


def last(bucket: Bucket) -> str:
    """Return the token of the last writer, or nothing."""
    return str(_read(bucket).get("token", ""))


def _wait_for_silence(bucket: Bucket, other: dict[str, Any]) -> None:
    logger.warning(
        "%s: %s; waiting %.0f s for a sign of life", bucket.place, lock.who(other), lock.PATIENCE_S
    )
    until = time.monotonic() + lock.PATIENCE_S
    while time.monotonic() < until:
        time.sleep(lock.BEAT_S / 5)
        if (now := _read(bucket)) != other:
            if now.get("open"):
                raise RunNotWritable(_refusal(bucket, now))
            return
    logger.warning("%s: %s, and is gone; it is taken over", bucket.place, lock.who(other))


@contextlib.contextmanager
def _beating(bucket: Bucket, token: str) -> Iterator[None]:
    """Count in the background, and say in the end that nobody writes any more."""
    ended = threading.Event()

    def beat() -> None:
        count = 0
        while not ended.wait(lock.BEAT_S):
            count += 1
            try:
                other = _read(bucket)
                if other.get("token", token) != token:
                    # Nothing of this process may reach the bucket any more.
                    print(
                        f"tl-jax: {bucket.place}: {visible(lock.who(other))}: this process did not "
                        "reach the bucket for too long; the other one goes on",
                        file=sys.stderr,
                        flush=True,
                    )
                    os._exit(_LOST)
                bucket.write(FILE, _text(token, count))
            except RunNotWritable as error:
                logger.warning("%s", error)

    thread = threading.Thread(target=beat, name="bucket-writer", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with contextlib.suppress(RunNotWritable):  # then it is taken over after a while
            if _read(bucket).get("token") == token:
                bucket.write(FILE, _text(token, 0, is_open=False))


def _text(token: str, count: int, *, is_open: bool = True) -> bytes:
    me = {
        "token": token,
        "machine": machine.name(),
        "process": os.getpid(),
        "since": lock.SINCE,
        "count": count,
        "open": is_open,
    }
    return (json.dumps(me, indent=1) + "\n").encode()


def _read(bucket: Bucket) -> dict[str, Any]:
    try:
        found = json.loads(bucket.read(FILE) or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _refusal(bucket: Bucket, other: dict[str, Any]) -> str:
    return (
        f"{bucket.place}: {visible(lock.who(other))}; wait for it or stop it, or begin another run "
        "beside it with --config.run_dir=PLACE"
    )
