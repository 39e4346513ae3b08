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
ADAPTERS = "adapter_config.json"
"""File by which a directory of PEFT's adapters is known."""
NAMED_TEMPLATES = "additional_chat_templates"
"""Folder with the chat templates that have a name, such as ``tool_use``."""

_READ = (".json", ".jinja", ".safetensors", ".model", ".txt", ".md")
_POINTER = b"version https://git-lfs.github.com/spec/"
_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")


def check_own(directory: str | Path) -> None:
    """Refuse a directory whose model, tokenizer or template would be read from somewhere else.

    What a link leads to would come into an export by its content. The snapshots of the Hugging Face
    cache are links to the blobs beside them, which are the model's own.

    Raises:
      ModelError: A file is a link out of the directory, no regular file, or only says where its
        content is kept.
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
        if end.is_file():
            check_content(path)


def check_content(file: Path) -> None:
    """Refuse the pointer that a clone without Git LFS leaves in the place of a large file.

    Raises:
      ModelError: The file is one.
    """
    with file.open("rb") as stream:
        if stream.read(len(_POINTER)) == _POINTER:
            raise ModelError(
                f"{file}: only says where Git LFS keeps the file; bring the content with `git lfs "
                "pull` in its folder, or fetch the model with `hf download NAME --local-dir DIR`"
            )


def check_model(directory: str | Path) -> None:
    """Refuse a directory without ``config.json``.

    Raises:
      ModelError: The message says what it holds, if that is known.
    """
    if not (Path(directory) / "config.json").is_file():
        instead = held_instead(directory) or "give a Hugging Face model directory"
        raise ModelError(f"{directory}: holds no config.json; {instead}")


def held_instead(directory: str | Path) -> str:
    """Return what a directory without ``config.json`` holds, and what to give then.

    Empty if that is not known.
    """
    root = Path(directory)
    if (root / ADAPTERS).is_file():
        return (
            "it holds adapters of PEFT: give the model that they belong to as config.model.path, "
            "and this directory as config.model.adapter"
        )
    if found := sorted(root.glob("*.gguf")):
        return f"it holds a GGUF file: give {found[0]}"
    if (root / "refs").is_dir() and (found := sorted(root.glob("snapshots/*/config.json"))):
        return f"it is a folder of the Hugging Face cache: give {found[-1].parent}"
    if any(any(root.glob(name)) for name in ("params.json", "consolidated.*")):
        return (
            "it holds the form of its authors' own programs (params.json, consolidated.*): fetch "
            "the one for transformers"
        )
    inside = [file.parent for file in sorted(root.glob("*/config.json"))]
    if len(inside) == 1:
        return f"the model is in {inside[0]}: give that"
    return ""


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
