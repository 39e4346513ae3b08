"""The files of a model directory: only its own, and as its checksums say."""

from __future__ import annotations

import concurrent.futures
import functools
import os
import re
from collections.abc import Iterable
from pathlib import Path

from tl_jax.convert.safetensors_file import sha256
from tl_jax.errors import ModelError

CHECKSUMS = "SHA256SUMS"
"""File with a digest of every safetensors file, as ``sha256sum --check`` reads it."""
NAMED_TEMPLATES = "additional_chat_templates"
"""Folder with the chat templates that have a name, such as ``tool_use``."""

_READ = (".json", ".jinja", ".safetensors", ".model", ".txt", ".md")
_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")


def check_own(directory: str | Path) -> None:
    """Refuse a directory whose model, tokenizer or template would be read from somewhere else.

    What a link leads to would come into an export by its content. The snapshots of the Hugging Face
    cache are links to the blobs beside them, which are the model's own.

    Raises:
      ModelError: A file is a link out of the directory, or no regular file.
    """
    root = Path(directory).resolve()
    for path in _entries(root):
        end = path.resolve()
        if not (end.is_relative_to(root) or end.parent == _blobs(root)):
            raise ModelError(
                f"{path}: is a link to {end}, outside the model's directory; put the file itself "
                "there, or take the link away"
            )
        if end.exists() and not (end.is_file() or path.name == NAMED_TEMPLATES):
            raise ModelError(f"{path}: is no regular file; take it away")


def verify(directory: str | Path, files: Iterable[Path]) -> None:
    """Compare files with the checksums of their directory, if it has any.

    Raises:
      ModelError: A file is not what it was when the checksums were written.
    """
    sums = Path(directory) / CHECKSUMS
    if not sums.is_file():
        return
    matches = map(_LINE.fullmatch, sums.read_text("utf-8", errors="replace").splitlines())
    wanted = {match[2]: match[1].lower() for match in matches if match}
    known = [file for file in files if file.name in wanted]
    for file, digest in zip(known, digests(known), strict=True):
        if digest != wanted[file.name]:
            raise ModelError(
                f"{file}: is not the file that {CHECKSUMS} beside it was written for: a byte has "
                f"changed, or the file was replaced. Fetch or export it again; if it is meant to "
                f"be another, take {CHECKSUMS} away"
            )


def digests(files: Iterable[Path]) -> list[str]:
    """Return the SHA-256 of files, read side by side, and once as long as size and time stay."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        return list(pool.map(_digest, files))


def _digest(file: Path) -> str:
    found = file.stat()
    return _known_digest(file.resolve(), found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _known_digest(file: Path, size: int, time_ns: int) -> str:
    return sha256(file)


def _entries(root: Path) -> list[Path]:
    with os.scandir(root) as entries:
        found = [Path(e.path) for e in entries if e.name.endswith((*_READ, NAMED_TEMPLATES))]
    named = root / NAMED_TEMPLATES
    return sorted(found) + (sorted(named.glob("*.jinja")) if named.is_dir() else [])


def _blobs(root: Path) -> Path | None:
    """Return where the files of a snapshot in the Hugging Face cache lie."""
    return root.parent.parent / "blobs" if root.parent.name == "snapshots" else None
