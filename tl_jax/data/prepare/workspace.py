"""The directory in which a data set grows: what each chunk and each shard has given so far.

It lies beside the data set and is called by what the data set depends on, so that a run that was
killed, and every host of a run, finds what is finished. Every file in it is whole or not there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import secrets
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tl_jax.data.examples.shards import Shard, shard_name, write_shard
from tl_jax.data.prepare.files import runs
from tl_jax.data.prepare.part import Part, open_part
from tl_jax.errors import DataError, TlJaxError

SHARD_BYTES = 256 << 20
"""Bytes of records after which a file of examples ends."""

_OWNER = "owner"


@dataclasses.dataclass(frozen=True)
class Workspace:
    """Finished work of one preparation.

    Attributes:
      path: The directory.
    """

    path: Path

    def scan(self, chunk: int) -> Path:
        """Return the file of a chunk's signatures."""
        return self.path / f"scan-{chunk:07d}"

    def part(self, chunk: int) -> Path:
        """Return the file of a chunk's part of the data set."""
        return self.path / f"part-{chunk:07d}"

    def is_scanned(self, chunk: int) -> bool:
        """Return whether the signatures of a chunk are there and whole."""
        found = open_part(self.scan(chunk))
        return found is not None and found.is_whole()

    def is_built(self, chunk: int) -> bool:
        """Return whether the part of a chunk is there and whole."""
        found = open_part(self.part(chunk))
        return found is not None and found.is_whole()

    def opened(self, path: Path) -> Part:
        """Open a file that is finished.

        Raises:
          DataError: It is not there, or not whole.
        """
        if (part := open_part(path)) is None:
            raise DataError(f"{path} is missing or damaged; run `tl-jax prepare` again")
        return part

    def verdicts(self, chunk: int) -> Mapping[str, Any]:
        """Return what was decided about entries of a chunk with all others in view.

        By the place of the entry: the reason of its removal, or None where a limit leaves it out.
        """
        try:
            return json.loads(self._verdicts(chunk).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}

    def write_verdicts(self, chunk: int, verdicts: Mapping[str, Any]) -> None:
        """Write what ``verdicts`` returns."""
        write_whole(self._verdicts(chunk), json.dumps(verdicts, ensure_ascii=False))

    def _verdicts(self, chunk: int) -> Path:
        return self.path / f"verdicts-{chunk:07d}"

    def shard(self, name: str, number: int) -> Path:
        """Return a file of examples."""
        return self.path / f"{name}-{shard_name(number)}"

    def fill(self, name: str, number: int, chunks: Sequence[int]) -> None:
        """Write a file of examples from the parts of some chunks, unless it is there."""
        path = self.shard(name, number)
        if self.filled(name, number) is not None:
            return
        parts = (self.opened(self.part(chunk)) for chunk in chunks)
        shard = write_shard(path, (record for part in parts for record in part.items(name)))
        found = dataclasses.asdict(dataclasses.replace(shard, name=shard_name(number)))
        write_whole(path.with_suffix(".json"), json.dumps(found))

    def filled(self, name: str, number: int) -> Shard | None:
        """Return what is in a file of examples, or None if it is not there or not whole."""
        path = self.shard(name, number)
        try:
            shard = Shard(**json.loads(path.with_suffix(".json").read_text(encoding="utf-8")))
            return shard if path.stat().st_size == shard.size else None
        except (OSError, ValueError, TypeError):
            return None


def shard_plan(parts: Sequence[Part], name: str) -> list[list[int]]:
    """Return the numbers of the parts whose examples go into each file, in order."""
    plan: list[list[int]] = []
    size = SHARD_BYTES
    for number, part in enumerate(parts):
        if part.counts[name]:
            if size >= SHARD_BYTES:
                plan.append([])
                size = 0
            plan[-1].append(number)
            size += part.sizes[name]
    return plan


@contextlib.contextmanager
def workspace(out: Path, fingerprint: Any, *, alone: bool) -> Iterator[Workspace]:
    """Give the directory of a data set on its way; it goes when the data set is there or refused.

    What was finished stays where the block is interrupted, for the next run of the same inputs.

    Args:
      out: Where the data set will be.
      fingerprint: What the data set depends on, JSON-ready.
      alone: No other host works in it; else the first to leave must not take it away.
    """
    text = json.dumps(fingerprint, sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    path = out.with_name(f".{out.name}-parts-{key}")
    _clear_others(out, path)
    path.mkdir(parents=True, exist_ok=True)
    write_whole(path / _OWNER, f"{os.getpid()} {socket.gethostname()}")
    try:
        yield Workspace(path)
    except TlJaxError:
        if alone:  # to do the same again would end the same way
            shutil.rmtree(path, ignore_errors=True)
        raise
    except BaseException:
        if alone and not any(path.glob("part-*")) and not any(path.glob("scan-*")):
            shutil.rmtree(path, ignore_errors=True)
        raise


def write_whole(path: Path, text: str) -> None:
    """Write a text file that appears when it is whole."""
    # Processes on two hosts may have the same number.
    draft = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _clear_others(out: Path, own: Path) -> None:
    """Remove what preparations of other inputs left, but for one that still runs here."""
    for path in out.parent.glob(f".{out.name}-parts-*"):
        if path == own:
            continue
        try:
            number, host = (path / _OWNER).read_text(encoding="utf-8").split()
            if host == socket.gethostname() and int(number) != os.getpid() and runs(int(number)):
                continue
        except (OSError, ValueError):
            pass  # it never began
        shutil.rmtree(path, ignore_errors=True)
