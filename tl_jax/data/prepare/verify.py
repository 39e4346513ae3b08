"""Whether a prepared data set is still what was written, and of the inputs that there are now."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tl_jax.data.examples.shards import open_shards
from tl_jax.data.prepare.files import FINGERPRINT, SHARDED, VERIFIED, source_hash, write_json
from tl_jax.errors import DataError

logger = logging.getLogger(__name__)

_INPUTS = {
    "version": "the form of prepared data, which this version of tl_jax writes otherwise",
    "contamination": "an evaluation set",
    "tokenizer": "the tokenizer",
    "template": "the chat template",
}


def find_damage(out: Path, *, remembering: bool) -> str | None:
    """Return which file of a data set is not as it was written, and how; None if all are.

    The files are read side by side. Data sets of older versions, which have no digests, pass.

    Args:
      out: Directory of the data set.
      remembering: Do not read files whose size and time are those of the last such look, and leave
        a note for the next one.
    """
    try:
        wanted = dict(_read(out / FINGERPRINT).get("sha256", {}))
        if not wanted:
            return None
        seen: dict[str, Any] = {}
        if remembering:
            with contextlib.suppress(OSError, ValueError, TypeError):
                seen = _read(out / VERIFIED)
        found = _verified(out, wanted, seen)
        # The digests of the examples stand in files that are known to be right now.
        for folder in SHARDED:
            shards = open_shards(out / folder).shards
            digests = {f"{folder}/{shard.name}": shard.sha256 for shard in shards}
            found |= _verified(out, digests, seen)
    except DataError as error:
        return str(error)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return f"{out} is damaged ({error})"
    if remembering and found != seen:
        with contextlib.suppress(OSError):
            write_json(out / VERIFIED, found)
    return None


def mark_damaged(out: Path) -> None:
    """Let nobody take a damaged data set for one that is up to date; nothing happens to others."""
    if not (out / FINGERPRINT).exists() or (problem := find_damage(out, remembering=False)) is None:
        return
    logger.warning("%s; the data are prepared again", problem)
    try:
        found = _read(out / FINGERPRINT)
    except (OSError, ValueError, TypeError):
        found = {}
    write_json(out / FINGERPRINT, {**found, "damaged": problem})


def changed_inputs(
    out: Path, fingerprint: Mapping[str, Any], sources: Sequence[tuple[str, Any]]
) -> list[str]:
    """Return in words what is not as it was when the data set in ``out`` was made; settings aside.

    Args:
      out: Directory of the data set.
      fingerprint: Of the inputs as they are now.
      sources: Names of the sources, and what each has in the fingerprint.
    """
    try:
        found = _read(out / FINGERPRINT)
    except (OSError, ValueError, TypeError):
        return []
    if not isinstance(before := found.get("sources"), list):
        return []
    names = [name for name, identity in sources if identity not in before]
    if not names and before != fingerprint["sources"]:
        names = ["a source"]
    same = {key for key in _INPUTS if found.get(key) == fingerprint.get(key)}
    return names + [words for key, words in _INPUTS.items() if key not in same]


def _verified(out: Path, wanted: Mapping[str, str], seen: Mapping[str, Any]) -> dict[str, Any]:
    """Return sizes and times of files whose digests are right; raises ``DataError`` for others."""
    marks = {name: _mark(out / name) for name in wanted}
    fresh = [name for name in wanted if seen.get(name) != marks[name]]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        digests = list(pool.map(lambda name: source_hash(out / name), fresh))
    for name, digest in zip(fresh, digests, strict=True):
        if digest != wanted[name]:
            raise DataError(f"{out / name} has changed since it was prepared")
    return marks


def _mark(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))
