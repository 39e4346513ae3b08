"""One writer of a run directory at a time, also where several machines see it.

The writer's file ``lock.json`` names its machine and process and holds a count that goes up while
it lives. Whoever finds the file of a process of its own machine asks the system whether that still
runs; of another machine's it watches the count. So a lock that a kill or a preemption left behind
is taken over, without two clocks being compared.
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
from pathlib import Path
from typing import Any

from tl_jax.errors import RunNotWritable
from tl_jax.parallel import machine, processes
from tl_jax.run.record import replace_text
from tl_jax.screen import visible

logger = logging.getLogger(__name__)

FILE = "lock.json"
BEAT_S = 15.0
"""Seconds between two counts of the writer."""
PATIENCE_S = 4 * BEAT_S
"""Seconds without a count after which a writer on another machine is taken for gone."""

SINCE = time.strftime("%Y-%m-%d %H:%M:%S %z")
"""When this process began, as the locks say it."""

_LOST = 4
_DRAFT_S = 86_400.0  # no clock is wrong by more
_held: dict[Path, int] = {}


@contextlib.contextmanager
def hold(run_dir: str | os.PathLike[str]) -> Iterator[None]:
    """Be the writer of a run directory, which is made if absent; all processes of the run call it.

    A process that is the writer already may hold it once more.

    Raises:
      RunNotWritable: Somebody else is; the message says who and since when. Or nobody can be.
    """
    path = Path(run_dir).resolve() / FILE
    if _held.get(path):
        _held[path] += 1
        try:
            yield
        finally:
            _held[path] -= 1
        return
    problem, token = "", ""
    if processes.is_first():
        token = secrets.token_hex(8)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            problem = _take(path, token)
        except OSError as error:
            problem = f"{path.parent}: cannot be written ({error}); mend that or set config.run_dir"
    if problem := processes.join_parts([problem])[0]:
        raise RunNotWritable(problem)
    with contextlib.ExitStack() as stack:
        if token:
            _clear_drafts(path)
            stack.enter_context(_beating(path, token))
        _held[path] = 1
        stack.callback(_held.pop, path)
        yield


def is_held(run_dir: str | os.PathLike[str]) -> bool:
    """Whether another process of this machine writes a run directory now."""
    other = _read(Path(run_dir).resolve() / FILE)
    return bool(other) and _is_here(other) and other.get("process") != os.getpid() and _runs(other)


def _take(path: Path, token: str) -> str:
    """Write the lock; return why it cannot be had, or nothing."""
    told = False
    while not _create(path, token):
        other = _read(path)
        if other is None:
            continue  # gone, or not yet written: ask again
        if _is_here(other):
            if _runs(other):
                return _refusal(path, other)
        else:
            if not told:
                logger.warning("%s; waiting %.0f s for a sign of life", who(other), PATIENCE_S)
                told = True
            now = _watched(path, other)
            if now != other:
                if now is not None and now.get("token") == other.get("token"):
                    return _refusal(path, other)
                continue  # another writer, or none: ask again
        _set_aside(path, other)
    return ""


def _create(path: Path, token: str) -> bool:
    """Create the lock whole, if there is none."""
    draft = path.with_name(f"{FILE}.{token}")
    draft.write_text(_text(token, 0), encoding="utf-8")
    try:
        os.link(draft, path)  # never over another's, and never seen half written
    except FileExistsError:
        return False
    except OSError:  # a file system without links, such as a mounted bucket
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(_text(token, 0))
        except FileExistsError:
            return False
    finally:
        draft.unlink(missing_ok=True)
    return True


def _clear_drafts(path: Path) -> None:
    """Remove what writers left that were killed while they took the lock, and are gone for sure."""
    for draft in path.parent.glob(f"{FILE}.*"):
        with contextlib.suppress(OSError):
            if time.time() - draft.stat().st_mtime > _DRAFT_S:
                draft.unlink()


def _set_aside(path: Path, other: dict[str, Any]) -> None:
    """Remove the lock of a writer that is gone, and nobody else's."""
    aside = path.with_name(f"{FILE}.{secrets.token_hex(8)}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return
    found = _read(aside)
    if found is not None and found.get("token") != other.get("token"):
        with contextlib.suppress(FileExistsError, OSError):
            os.link(aside, path)  # somebody was quicker: the lock is his
    else:
        logger.warning("%s, and is gone; its lock is taken over", who(other))
    aside.unlink(missing_ok=True)


@contextlib.contextmanager
def _beating(path: Path, token: str) -> Iterator[None]:
    """Count in the background, and remove the lock in the end."""
    ended = threading.Event()

    def beat() -> None:
        count = 0
        while not ended.wait(BEAT_S):
            count += 1
            other = _read(path)
            if other is not None and other.get("token") != token:
                # Two writers would spoil each other's work; the newer one goes on from what is
                # saved.
                print(
                    f"tl-jax: {visible(who(other))}: this process stood still for too long and "
                    "lost the run directory; the other one goes on",
                    file=sys.stderr,
                    flush=True,
                )
                os._exit(_LOST)
            try:
                replace_text(path, _text(token, count))
            except OSError as error:
                logger.warning("cannot write %s: %s", path, error)

    thread = threading.Thread(target=beat, name="run-lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        if (_read(path) or {}).get("token") == token:
            path.unlink(missing_ok=True)


def _watched(path: Path, other: dict[str, Any]) -> dict[str, Any] | None:
    """Return the lock as soon as it is not the same any more, or what it is after a while."""
    until = time.monotonic() + PATIENCE_S
    while (now := _read(path)) == other and time.monotonic() < until:
        time.sleep(BEAT_S / 5)
    return now


def _text(token: str, count: int) -> str:
    me = {
        "token": token,
        "machine": machine.name(),
        "process": os.getpid(),
        "began": machine.began(os.getpid()),
        "since": SINCE,
        "count": count,
    }
    return json.dumps(me, indent=1) + "\n"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, OSError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_here(other: dict[str, Any]) -> bool:
    return other.get("machine") == machine.name()


def _runs(other: dict[str, Any]) -> bool:
    process = other.get("process")
    if not isinstance(process, int) or not machine.runs(process):
        return False
    return other.get("began") == machine.began(process)


def who(other: dict[str, Any]) -> str:
    """Return who writes and since when, as the beginning of a sentence."""
    host = str(other.get("machine") or "an unknown machine").split(" ")[0]
    return f"process {other.get('process')} on {host} writes this run since {other.get('since')}"


def _refusal(path: Path, other: dict[str, Any]) -> str:
    return (
        f"{path.parent}: {who(other)}; wait for it or stop it, or begin another run beside it "
        "with --config.run_dir=DIR"
    )
