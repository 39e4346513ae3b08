"""Directories that appear whole or not at all, and what a kill leaves of them."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from tl_jax.errors import ModelError
from tl_jax.parallel import machine, processes

logger = logging.getLogger(__name__)

_STILL_S = 3600.0
"""Seconds without a change after which a draft of another machine is taken for abandoned."""


def check_free(path: str | Path, *, overwrite: bool = False) -> None:
    """Refuse a path that ``new_directory`` would not write to.

    Raises:
      ModelError: ``path`` is a file, or a directory with content and ``overwrite`` is false.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise ModelError(f"{path}: is a file; give a directory")
    if not overwrite and _occupied(path):
        raise ModelError(f"{path}: already exists; choose another path or allow overwriting")


@contextlib.contextmanager
def new_directory(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary directory that becomes ``path`` when the block ends without an error.

    Args:
      path: The directory to be made.
      overwrite: Replace a directory that is there already.

    Raises:
      ModelError: ``path`` exists (and is not an empty directory) and ``overwrite`` is false.
    """
    path = Path(path).absolute()
    clear_abandoned(path)
    check_free(path, overwrite=overwrite)
    occupied = _occupied(path)
    token = f"{_machine()}-{os.getpid()}-{secrets.token_hex(4)}"
    fresh = path.with_name(f".{path.name}.new-{token}")
    stale = path.with_name(f".{path.name}.old-{token}")
    fresh.mkdir(parents=True)
    try:
        yield fresh
        if occupied:
            os.replace(path, stale)
        try:
            os.replace(fresh, path)
        except BaseException:
            if occupied:
                os.replace(stale, path)
            raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    if occupied:
        shutil.rmtree(stale)


@contextlib.contextmanager
def written_by_first(path: str | Path, *, overwrite: bool = False) -> Iterator[Path | None]:
    """Yield a ``new_directory`` on the first process and None on others, and end together.

    Raises:
      ModelError: On every process, if the first cannot write to ``path``.
    """
    problem = None
    if processes.is_first():
        try:
            check_free(path, overwrite=overwrite)
        except ModelError as error:
            problem = error
    if not processes.agree(problem is None):
        raise problem or ModelError(f"{path}: the first process cannot write there")
    if processes.is_first():
        with new_directory(path, overwrite=overwrite) as directory:
            yield directory
    else:
        yield None
    processes.wait_for_all("export")


def clear_abandoned(path: str | Path) -> None:
    """Clear away what killed processes left beside ``path`` while they wrote it.

    A directory that was just about to be replaced by a new one comes back.
    """
    path = Path(path).absolute()
    if not path.parent.is_dir():
        return
    pattern = re.compile(
        rf"\.{re.escape(path.name)}\.(new|old)-(?:([0-9a-f]{{8}})-(\d+)-)?[0-9a-f]{{8}}"
    )
    for found in sorted(path.parent.iterdir()):
        match = pattern.fullmatch(found.name)
        if match is None or _is_written(found, match[2], match[3]):
            continue
        if match[1] == "old" and not path.exists():
            logger.warning("%s is put back: its replacement was killed", path)
            found.rename(path)
        else:
            logger.warning("%s was left by a killed process; it is removed", found)
            shutil.rmtree(found, ignore_errors=True)


def _is_written(draft: Path, written_on: str | None, process: str | None) -> bool:
    """Whether somebody may still write a draft."""
    if written_on == _machine() and process is not None:
        return machine.runs(int(process))
    try:
        newest = max(entry.stat().st_mtime for entry in (draft, *draft.iterdir()))
    except OSError:
        return False
    return time.time() - newest < _STILL_S


def _machine() -> str:
    return hashlib.sha256(machine.name().encode()).hexdigest()[:8]


def _occupied(path: Path) -> bool:
    return path.is_dir() and any(path.iterdir())
