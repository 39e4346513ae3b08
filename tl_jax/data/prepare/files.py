"""The directory of a prepared data set: its files appear together or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tl_jax.data.examples.order import ORDER
from tl_jax.data.examples.shards import INDEX, open_shards
from tl_jax.errors import DataError

EXAMPLES = "examples"
VALIDATION = "validation"
PROMPTS = "prompts.jsonl"
VALIDATION_PROMPTS = "validation_prompts.jsonl"
QUARANTINE = "quarantine.jsonl"
REMOVED = "removed.jsonl"
REPAIRS = "repair_pairs.jsonl"
REPORT = "mae_report.json"
FINGERPRINT = "fingerprint.json"
LOADER_REPORT = "loader_report.json"
VERIFIED = "verified.json"
"""Sizes and times of the files whose digests were found right, so that they are not read again."""

SHARDED = (EXAMPLES, VALIDATION)
"""Directories of examples, see ``examples.shards``."""
LINES = (PROMPTS, VALIDATION_PROMPTS, QUARANTINE, REMOVED, REPAIRS)
"""Files of JSON lines."""
_OLDER = ("examples.jsonl", "validation.jsonl")
FILES = frozenset((*SHARDED, *LINES, REPORT, FINGERPRINT, LOADER_REPORT, VERIFIED, *_OLDER))


def source_hash(path: str | os.PathLike[str]) -> str:
    """Return the sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def up_to_date(out: Path, fingerprint: dict[str, Any]) -> dict[str, Any] | None:
    """Return the report in ``out`` if its files are all there and of the same inputs, else None.

    What is in the files is not looked at here, see ``verify``.
    """
    try:
        found = json.loads((out / FINGERPRINT).read_text(encoding="utf-8"))
        report = json.loads((out / REPORT).read_text(encoding="utf-8"))
        same = {**fingerprint, **_sizes(out), "sha256": found["sha256"]}
        return report if found == same else None
    except (OSError, ValueError, KeyError, TypeError, DataError):
        return None


def write_fingerprint(out: Path, fingerprint: dict[str, Any]) -> None:
    """Write what the files in ``out`` were made from, and what they are; the last file to write."""
    digests = {name: source_hash(out / name) for name in (*LINES, REPORT, *_indices())}
    write_json(out / FINGERPRINT, {**fingerprint, **_sizes(out), "sha256": digests})


@contextlib.contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """Give an empty directory to write; it takes the place of ``out`` if the block ends well.

    What processes that were killed left beside ``out`` is cleared away first.

    Raises:
      DataError: ``out`` holds files that are not of a prepared data set.
    """
    _check_replaceable(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    _clear_abandoned(out)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}-{os.getpid()}-", dir=out.parent))
    try:
        yield work
        old = work.with_name(work.name + "-old")
        if out.exists():
            out.rename(old)
        work.chmod(0o755)  # mkdtemp makes it private
        work.rename(out)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def leave_quarantine(out: Path, lines: Iterable[bytes]) -> Path:
    """Write the rows that cannot be used of a data set that is not made, and return the file.

    It lies where the data set was to be, or beside it where there is another that stays.

    Args:
      out: Directory of the data set.
      lines: Parts of the file.
    """
    path = out / QUARANTINE
    if (out / FINGERPRINT).exists():
        path = out.with_name(f"{out.name}_{QUARANTINE}")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Processes on two hosts may have the same number.
    draft = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    with open(draft, "wb") as stream:
        stream.writelines(lines)
    draft.replace(path)
    return path


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write an object as indented JSON."""
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def json_line(row: Any) -> str:
    """Return a row as one line of compact JSON."""
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n"


def named(location: Sequence[Any]) -> dict[str, Any]:
    """Return a location (file, row from 0, id) as the files name it."""
    file, row, name = location
    return {"file": file, "line": row + 1, "id": name}


def _sizes(out: Path) -> dict[str, dict[str, int]]:
    found = {name: (out / name).stat().st_size for name in LINES}
    for name in SHARDED:
        shards = open_shards(out / name).shards
        found |= {f"{name}/{shard.name}": shard.size for shard in shards}
    found[f"{EXAMPLES}/{ORDER}"] = (out / EXAMPLES / ORDER).stat().st_size
    return {"bytes": found}


def _indices() -> Iterator[str]:
    yield from (f"{name}/{INDEX}" for name in SHARDED)
    yield f"{EXAMPLES}/{ORDER}"


def _check_replaceable(out: Path) -> None:
    foreign = sorted(p.name for p in out.iterdir() if p.name not in FILES) if out.exists() else []
    if foreign:
        raise DataError(
            f"{out} holds other files ({', '.join(foreign[:3])}); give a directory of its own"
        )


def _clear_abandoned(out: Path) -> None:
    pattern = re.compile(rf"\.{re.escape(out.name)}-(\d+)-\w+(-old)?")
    for path in out.parent.iterdir():
        match = pattern.fullmatch(path.name)
        if match and (int(match[1]) == os.getpid() or not runs(int(match[1]))):
            shutil.rmtree(path, ignore_errors=True)


def runs(process: int) -> bool:
    """Return whether a process of this machine runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True
