"""Write a safetensors file tensor by tensor, and read it back to see that it holds what was meant.

Source: the format section of the safetensors README (header length, JSON header, tensor bytes).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from tl_jax.errors import ModelError

DTYPES: dict[str, np.dtype] = {
    "float32": np.dtype(np.float32),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
"""Types that tensors can be loaded as or written in."""

_EXPONENT = np.uint16(0x7F80)  # of bfloat16: all ones where a value is not finite
_CHECKED_AT_ONCE = 1 << 20

_CODES = {"float32": "F32", "bfloat16": "BF16"}
_LENGTH_BYTES = 8
# torch's loader wants the data to begin at a multiple of this.
_ALIGNMENT = 8


@dataclasses.dataclass(frozen=True)
class Writable:
    """A tensor to be written: its shape, and how to get its values when their turn has come.

    With several processes ``read`` may gather; every process then calls it, in the same order.
    """

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


def size_of(tensor: Writable, dtype: str) -> int:
    """Return the bytes of a tensor in a file."""
    return math.prod(tensor.shape) * DTYPES[dtype].itemsize


def write(
    path: Path, tensors: Mapping[str, Writable], *, dtype: str, on_tensor: Callable[[], None]
) -> str:
    """Write a new file; one tensor is in memory at a time.

    Args:
      path: File to make.
      tensors: What to write, by name.
      dtype: One of ``DTYPES``.
      on_tensor: Called after each tensor.

    Returns:
      SHA-256 of the bytes that were handed to the file, as hexadecimal digits.

    Raises:
      ModelError: A tensor has values that are not finite.
      ValueError: A tensor that is not of the shape it was announced with.
    """
    digest = hashlib.sha256()
    with path.open("xb") as file:

        def put(part: bytes | memoryview) -> None:
            file.write(part)
            digest.update(part)

        put(_header(tensors, dtype))
        for name, tensor in tensors.items():
            # Not held by a variable: it would stay in memory while the next one is read.
            put(_values(name, tensor, dtype))
            on_tensor()
        file.flush()
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):
            # Forget the pages in memory, so that reading it back asks the disk.
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return digest.hexdigest()


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def all_finite(block: np.ndarray) -> bool:
    """Whether no value of a float array is NaN or infinite; a part at a time, to save memory."""
    rows = max(1, _CHECKED_AT_ONCE * len(block) // max(block.size, 1)) if block.ndim else 1
    parts = (block[i : i + rows] for i in range(0, len(block), rows)) if block.ndim else [block]
    if block.dtype == DTYPES["bfloat16"]:  # its own test is ten times as slow
        return not any(((p.view(np.uint16) & _EXPONENT) == _EXPONENT).any() for p in parts)
    return all(np.isfinite(part).all() for part in parts)


def _header(tensors: Mapping[str, Writable], dtype: str) -> bytes:
    # The format entry is what transformers insists on to load the file with torch.
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + size_of(tensor, dtype)
        shape = list(tensor.shape)
        entries[name] = {"dtype": _CODES[dtype], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text


def _values(name: str, tensor: Writable, dtype: str) -> memoryview:
    """Return a tensor's values as bytes."""
    block = np.ascontiguousarray(tensor.read(), dtype=DTYPES[dtype])
    if block.shape != tensor.shape:
        raise ValueError(f"{name} has shape {block.shape}, announced was {tensor.shape}")
    if not all_finite(block):
        raise ModelError(
            f"tensor {name} has values that are not finite as {dtype}; such a model is not written"
        )
    return block.reshape(-1).view(np.uint8).data
