"""A run directory on a bucket: its commands work in a folder here, of which the bucket is a copy.

While a command writes, a thread sends what changed to the bucket every half minute, in an order in
which whoever is stopped anywhere leaves a run that goes on: of a checkpoint that counts as saved
all files are there, and the rows of metrics up to it. ``writer.json`` on the bucket tells whose
folder is the newest. A folder that wrote last is ahead of the bucket and stays as it is; any other
first becomes what the bucket holds.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tl_jax.errors import ConfigError, RunNotWritable
from tl_jax.run import bucket_writer, lock
from tl_jax.run.bucket import Bucket
from tl_jax.run.record import replace_text
from tl_jax.screen import visible

logger = logging.getLogger(__name__)

EVERY_S = 30.0
"""Seconds between two copies to the bucket; more where a copy takes long."""
RECORD = ".mirror.json"
"""File in the folder: of which place it is, whose, and what of it is on the bucket."""

_PART_OF_TIME = 10  # at most a tenth of the time copies
_OURS = re.compile(r"^(\.mirror\.json|lock\.json.*|.*\.tmp|.*\.new-.*)$")
# Orbax writes a step beside its place and renames the folder.
_UNFINISHED = re.compile(r"orbax-checkpoint-tmp|\.new-|\.tmp/")
_CHECKPOINTS = "checkpoints"
_MARKERS = ("digests.json", "commit_success.txt")


def home(place: str) -> Path:
    """Return the folder in which a run on a bucket is worked on.

    It is below ``TL_JAX_CACHE``, or else ``~/.cache/tl_jax``.
    """
    cache = os.environ.get("TL_JAX_CACHE") or Path.home() / ".cache" / "tl_jax"
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", place.rstrip("/").rpartition("/")[2]) or "run"
    digest = hashlib.sha256(place.rstrip("/").encode()).hexdigest()[:12]
    return Path(cache) / "runs" / f"{name}-{digest}"


@contextlib.contextmanager
def mirrored(place: str, *, writes: bool, sends: bool = True) -> Iterator[Path]:
    """Work on a run that lies on a bucket.

    Args:
      place: Such as ``gs://bucket/runs/first``.
      writes: Be the one writer of the run, and keep the bucket up to date meanwhile; else read it,
        also while another writes.
      sends: Copy in the end to the bucket what a reader has added, such as scores.

    Yields:
      The folder that holds the run.

    Raises:
      ConfigError: The package for such places is not installed, or they cannot be opened.
      RunNotWritable: Somebody else writes the run, or the bucket cannot be reached; what is not
        yet copied then is in the folder, and the same command goes on from there.
    """
    bucket, folder = Bucket(place), home(place)
    with contextlib.ExitStack() as stack:
        if writes:
            stack.enter_context(lock.hold(folder))
            own = _record(folder).get("token", "")
            token, newest = stack.enter_context(bucket_writer.claimed(bucket, own))
            pull(bucket, folder, ahead=newest)
            _write(folder, {**_record(folder), "place": place, "token": token})
            stack.enter_context(_copying(bucket, folder, token))
        elif not lock.is_held(folder):  # else a writer here keeps the bucket up to date
            with lock.hold(folder):
                own = _record(folder).get("token", "")
                pull(bucket, folder, ahead=bool(own) and bucket_writer.last(bucket) == own)
            if sends:
                stack.callback(_send, bucket, folder)
        yield folder


def pull(bucket: Bucket, folder: Path, *, ahead: bool) -> None:
    """Bring a folder up to what the bucket holds.

    Args:
      bucket: The run there.
      folder: The run here.
      ahead: The folder wrote last: only what others have added to the bucket is fetched. Else what
        the folder holds and the bucket does not is moved into a folder beside it.
    """
    known = dict(_record(folder).get("files", {}))
    there = {n: v for n, v in bucket.listing().items() if n != bucket_writer.FILE}
    here = _files(folder)
    if ahead:
        wanted = [name for name in there if name not in known and name not in here]
    else:
        aside = folder.with_name(f"{folder.name}.aside-{time.strftime('%Y%m%d-%H%M%S')}")
        for name, state in here.items():
            entry = known.get(name)
            if entry and entry[0] == state:
                if name not in there:
                    (folder / name).unlink()
            else:  # of the bucket's file of this name, if there is one, it is no copy
                (aside / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).rename(aside / name)
        if aside.exists():
            logger.warning("%s: went on elsewhere; what was only here is in %s", folder, aside)
        here = _files(folder)
        wanted = [
            name for name, version in there.items() if known.get(name) != [here.get(name), version]
        ]
        known = {name: entry for name, entry in known.items() if name in there}
    for name in wanted:
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise ConfigError(f"{bucket.place}: {visible(name)} would lie outside of the run")

    def fetch(name: str) -> None:
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile by its writer
            bucket.fetch(name, folder / name)
            known[name] = [_state(folder / name), there[name]]

    try:
        # What makes a checkpoint count comes last here, too.
        for names in _in_order(folder, wanted):
            bucket.each(names, fetch)
    finally:
        _write(folder, {**_record(folder), "files": known})


def push(bucket: Bucket, folder: Path, *, removes: bool) -> None:
    """Bring the bucket up to what a folder holds.

    Args:
      bucket: The run there.
      folder: The run here.
      removes: Remove from the bucket what was copied there and is gone here.
    """
    record = _record(folder)
    known: dict[str, Any] = dict(record.get("files", {}))
    here = _files(folder)
    changed = [name for name, state in here.items() if known.get(name, [None])[0] != state]
    if not changed and not (removes and known.keys() - here.keys()):
        return
    # Whoever is stopped in between knows later what may be there and came from here.
    _write(folder, {**record, "files": dict.fromkeys(changed, [None, ""]) | known})

    def send(name: str) -> None:
        with contextlib.suppress(FileNotFoundError):  # pruned meanwhile
            # What is replaced meanwhile may speak of a checkpoint that is not in this copy.
            if not _grows(name) and _state(folder / name) != here[name]:
                return
            bucket.send(folder / name, name)
            known[name] = [here[name], bucket.version(name)]

    try:
        for names in _in_order(folder, changed):
            bucket.each(names, send)
        if removes:
            # What makes a checkpoint count goes first: no half of one is taken for whole.
            for names in reversed(_in_order(folder, [name for name in known if name not in here])):
                bucket.each(names, bucket.remove)
                for name in names:
                    del known[name]
    finally:
        _write(folder, {**_record(folder), "files": known})


def _in_order(folder: Path, names: list[str]) -> list[list[str]]:
    """Return names in groups, each of which is copied before the next one begins."""
    saved = [_time(folder / name) for name in names if _rank(name) == 4]
    newest = max(saved, default=float("inf"))
    groups: list[list[str]] = [[] for _ in range(6)]
    for name in sorted(names):
        rank = _rank(name)
        # A note that was written after a checkpoint may speak of it; rows of metrics only grow.
        if not rank and not _grows(name) and _time(folder / name) > newest:
            rank = 5
        groups[rank].append(name)
    return [group for group in groups if group]


def _grows(name: str) -> bool:
    """Whether a file is only ever added to."""
    return name.endswith(".jsonl") or "tensorboard" in name.split("/")


def _rank(name: str) -> int:
    """Return in which group a file is copied: 1 to 4 for files of checkpoints, else 0."""
    parts = name.split("/")
    if _CHECKPOINTS not in parts[:-1]:
        return 0
    if parts[-1] not in _MARKERS:
        return 1
    if parts[-1] == _MARKERS[0]:
        return 2
    return 4 if parts[-2].isdecimal() else 3


def _files(folder: Path) -> dict[str, list[int]]:
    """Return size and time of every file of a run by its name, without what is in the making."""
    found = {}
    # Folders of checkpoints vanish while this looks; os.walk passes over them, rglob raises.
    for place, _, names in os.walk(folder):
        for path in (Path(place, name) for name in names):
            name = path.relative_to(folder).as_posix()
            if _OURS.match(path.name) or _UNFINISHED.search(name) or path.is_symlink():
                continue
            with contextlib.suppress(FileNotFoundError):
                found[name] = _state(path)
    return found


def _state(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _record(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # then nothing here is known to be on the bucket
    return found if isinstance(found, dict) else {}


def _write(folder: Path, record: dict[str, Any]) -> None:
    replace_text(folder / RECORD, json.dumps(record))


def _send(bucket: Bucket, folder: Path) -> None:
    if not lock.is_held(folder):  # else its writer takes along what was added
        with lock.hold(folder):
            push(bucket, folder, removes=False)


@contextlib.contextmanager
def _copying(bucket: Bucket, folder: Path, token: str) -> Iterator[None]:
    """Copy in the background, and what is left in the end."""
    ended = threading.Event()

    def copy() -> None:
        if bucket_writer.last(bucket) != token:
            raise RunNotWritable(f"{bucket.place}: somebody else has taken the run over")
        push(bucket, folder, removes=True)

    def work() -> None:
        pause = EVERY_S
        while not ended.wait(pause):
            began = time.monotonic()
            try:
                copy()
            except Exception as error:  # training goes on; the next copy takes it along
                logger.warning("%s", visible(str(error)))
            pause = max(EVERY_S, _PART_OF_TIME * (time.monotonic() - began))

    thread = threading.Thread(target=work, name="run-mirror", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        try:
            copy()
        except RunNotWritable as error:
            raise RunNotWritable(
                f"{error}; what is not copied yet is in {folder}: run the same command again here"
            ) from error
