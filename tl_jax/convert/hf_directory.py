"""A Hugging Face model directory on disk: safetensors read lazily, written whole or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

DTYPES: dict[str, np.dtype] = {
    "float32": np.dtype(np.float32),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
"""Types that tensors can be loaded as or written in."""

SHARD_BYTES = 2 * 1024**3
"""Default size limit of one safetensors file."""

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)


class CheckpointError(ValueError):
    """A model directory that cannot be read or written; the message says what to do."""


def dtype_of(name: str) -> np.dtype:
    """Return the numpy type called ``name``.

    Raises:
      CheckpointError: Not one of ``DTYPES``.
    """
    if name not in DTYPES:
        raise CheckpointError(f"dtype must be one of {', '.join(DTYPES)}, got {name!r}")
    return DTYPES[name]


class TensorFiles(contextlib.ExitStack):
    """The safetensors files of a model directory, opened lazily; use as a context manager.

    Attributes:
      files: Tensor name to the path of the file that holds it.
    """

    def __init__(self, directory: str | Path) -> None:
        """Open the files' headers; no tensor is read.

        Raises:
          CheckpointError: No safetensors files, a damaged one, or one that the index names is
            absent.
        """
        super().__init__()
        self.files: dict[str, Path] = {}
        self._handles: dict[Path, Any] = {}
        for file in _weight_files(Path(directory)):
            try:
                handle = self.enter_context(safe_open(file, framework="numpy"))
            except (SafetensorError, OSError) as error:
                self.close()
                raise CheckpointError(f"{file}: cannot be read as safetensors: {error}") from error
            self._handles[file] = handle
            self.files |= dict.fromkeys(handle.keys(), file)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor from its header."""
        return tuple(self._slice(name).get_shape())

    def read(self, name: str, index: tuple[slice, ...]) -> np.ndarray:
        """Read only the part ``index`` of a tensor (as stored: no transpose, no cast)."""
        return self._slice(name)[index]

    def _slice(self, name: str) -> Any:
        return self._handles[self.files[name]].get_slice(name)


@dataclasses.dataclass(frozen=True)
class Writable:
    """A tensor to be written: its shape, and how to get its values when their turn has come."""

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


def write_tensors(
    directory: Path,
    tensors: Mapping[str, Writable],
    *,
    dtype: str,
    max_shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write tensors as safetensors files of at most ``max_shard_bytes``, one in memory at a time.

    A tensor larger than the limit gets a file of its own. More than one file come with the index
    that ``transformers`` reads.

    Raises:
      CheckpointError: An unknown ``dtype``.
    """
    kind = dtype_of(dtype)
    sizes = {name: int(np.prod(t.shape)) * kind.itemsize for name, t in tensors.items()}
    shards: list[list[str]] = [[]]
    filled = 0
    for name, size in sizes.items():
        if shards[-1] and filled + size > max_shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    files: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        file = _WEIGHTS if len(shards) == 1 else file
        write_file(directory / file, {n: _stored(tensors[n].read(), kind) for n in names})
        files |= dict.fromkeys(names, file)
    if len(shards) > 1:
        metadata = {"total_size": sum(sizes.values())}
        write_json(directory / _INDEX, {"metadata": metadata, "weight_map": files})


def write_file(file: Path, blocks: Mapping[str, np.ndarray]) -> None:
    """Write contiguous arrays as one safetensors file."""
    # The format entry is what transformers insists on to load the file with torch.
    save_file(dict(blocks), file, metadata={"format": "pt"})
    # safetensors makes files that only their owner can read; take the directory's bits.
    file.chmod(file.parent.stat().st_mode & 0o666)


def read_file(file: Path) -> dict[str, np.ndarray]:
    """Return all tensors of one safetensors file.

    Raises:
      CheckpointError: It cannot be read as safetensors.
    """
    try:
        with safe_open(file, framework="numpy") as handle:
            return {name: handle.get_tensor(name) for name in handle.keys()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file}: cannot be read as safetensors: {error}") from error


@contextlib.contextmanager
def new_directory(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary directory that becomes ``path`` when the block ends without an error.

    Args:
      path: The directory to be made.
      overwrite: Replace a directory that is there already.

    Raises:
      CheckpointError: ``path`` exists (and is not an empty directory) and ``overwrite`` is false.
    """
    path = Path(path).absolute()
    if path.exists() and not path.is_dir():
        raise CheckpointError(f"{path}: is a file; give a directory")
    occupied = path.is_dir() and any(path.iterdir())
    if occupied and not overwrite:
        raise CheckpointError(f"{path}: already exists; choose another path or allow overwriting")
    token = uuid.uuid4().hex[:8]
    fresh = path.with_name(f".{path.name}.new-{token}")
    stale = path.with_name(f".{path.name}.old-{token}")
    fresh.mkdir(parents=True)
    try:
        yield fresh
        if occupied:
            os.replace(path, stale)
        try:
            os.replace(fresh, path)
        except OSError:
            if occupied:
                os.replace(stale, path)
            raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    if occupied:
        shutil.rmtree(stale)


def copy_tokenizer(source: str | Path, target: Path) -> None:
    """Copy the tokenizer and chat template files that ``source`` has."""
    for name in _TOKENIZER_FILES:
        file = Path(source) / name
        if file.is_file():
            shutil.copyfile(file, target / name)


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
      CheckpointError: Not a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: must be a JSON object, got {type(value).__name__}")
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object with a fixed layout."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def _stored(block: np.ndarray, kind: np.dtype) -> np.ndarray:
    return np.ascontiguousarray(block, dtype=kind)


def _indexed(index: Path) -> list[str]:
    weight_map = read_json(index).get("weight_map", {})
    if not isinstance(weight_map, Mapping):
        raise CheckpointError(f"{index}: weight_map must be an object, tensor name to file name")
    for name in weight_map.values():
        # A downloaded index must not lead to files elsewhere.
        if not isinstance(name, str) or Path(name).name != name:
            raise CheckpointError(f"{index}: names {name!r}; must be a file beside the index")
    return sorted(set(weight_map.values()))


def _weight_files(directory: Path) -> list[Path]:
    if not directory.is_dir():
        raise CheckpointError(f"{directory}: no such directory")
    index = directory / _INDEX
    if index.is_file():
        files = [directory / name for name in _indexed(index)]
    else:
        files = [directory / _WEIGHTS]
    missing = [file for file in files if not file.is_file()]
    if files and not missing:
        return files
    if index.is_file():
        absent = ", ".join(file.name for file in missing) or "nothing"
        raise CheckpointError(f"{index}: names {absent}, not found beside it; fetch it again")
    pickled = sorted(p.name for p in directory.iterdir() if p.suffix in (".bin", ".pt", ".pth"))
    if pickled:
        raise CheckpointError(
            f"{directory}: holds {pickled[0]} but no safetensors; pickled weights can run code and "
            "are not read. Convert them where torch is installed: "
            "`AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW_DIR)`"
        )
    raise CheckpointError(f"{directory}: holds neither {_WEIGHTS} nor {_INDEX}")
