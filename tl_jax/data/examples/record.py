"""A training example as bytes: its arrays as they lie in memory, so that nothing is parsed.

A record is a header of fixed size, the ids, the weights from the first trained token on, and for
people the id of the example and its tags as JSON, which training does not look at.
"""

from __future__ import annotations

import array
import itertools
import json
import struct

import numpy as np

from tl_jax.data.examples.build import Example
from tl_jax.errors import DataError

_MAGIC = b"TLEX"
_VERSION = 1
_HEADER = struct.Struct("<4sBBxxIIII")
"""Magic, version, bytes of an id, then numbers: ids, zeros before the weights, bytes of id, tags.
"""
_SMALL = 1 << 16

_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def pack_example(example: Example) -> bytes:
    """Return an example as bytes; ``unpack_example`` gives it back."""
    size = len(example.weights)
    zeros = next(itertools.compress(range(size), example.weights), size)
    weights = np.frombuffer(array.array("d", example.weights[zeros:])).astype("<f8", copy=False)
    ids = np.frombuffer(array.array("I", example.ids), np.uintc).astype("<u4", copy=False)
    width = 2 if not len(ids) or ids.max() < _SMALL else 4
    name = example.id.encode("utf-8", "surrogatepass")
    tags = _json(dict(example.tags)).encode("utf-8", "surrogatepass")
    header = _HEADER.pack(_MAGIC, _VERSION, width, len(ids), zeros, len(name), len(tags))
    return b"".join((header, ids.astype(f"<u{width}").tobytes(), weights.tobytes(), name, tags))


def unpack_ids(record: bytes, path: str = "") -> np.ndarray:
    """Return the ids of a record, ``[n]`` of unsigned integers.

    Raises:
      DataError: As for ``unpack_arrays``.
    """
    width, count, *_ = _header(record, path)
    return np.frombuffer(record, f"<u{width}", count, _HEADER.size)


def unpack_arrays(record: bytes, path: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Return the ids (int32) and weights (float32) of a record, each ``[n]``.

    Raises:
      DataError: It is no record, or one of another version; the message names ``path``.
    """
    width, count, zeros, *_ = _header(record, path)
    at = _HEADER.size
    ids = np.frombuffer(record, f"<u{width}", count, at).astype(np.int32)
    weights = np.zeros(count, np.float32)
    weights[zeros:] = np.frombuffer(record, "<f8", count - zeros, at + width * count)
    return ids, weights


def unpack_example(record: bytes, path: str = "") -> Example:
    """Return the example of a record.

    Raises:
      DataError: As for ``unpack_arrays``.
    """
    width, count, zeros, name_size, tags_size = _header(record, path)
    at = _HEADER.size
    ids = np.frombuffer(record, f"<u{width}", count, at).tolist()
    at += width * count
    weights = [0.0] * zeros + np.frombuffer(record, "<f8", count - zeros, at).tolist()
    at += 8 * (count - zeros)
    try:
        name = record[at : at + name_size].decode("utf-8", "surrogatepass")
        tags = record[at + name_size : at + name_size + tags_size]
        return Example(name, ids, weights, json.loads(tags.decode("utf-8", "surrogatepass")))
    except ValueError as error:
        where = f"{path}: " if path else ""
        raise DataError(f"{where}a damaged example; run `tl-jax prepare` again") from error


def name_of(record: bytes) -> str:
    """Return the id of an example, for messages."""
    width, count, zeros, size, _ = _header(record, "")
    at = _HEADER.size + width * count + 8 * (count - zeros)
    return record[at : at + size].decode("utf-8", "replace")


def _header(record: bytes, path: str) -> tuple[int, int, int, int, int]:
    where = f"{path}: " if path else ""
    if len(record) < _HEADER.size or record[:4] != _MAGIC:
        raise DataError(f"{where}no example of tl_jax; run `tl-jax prepare` again")
    _, version, width, count, zeros, name, tags = _HEADER.unpack_from(record)
    if version != _VERSION:
        raise DataError(f"{where}an example of another version; run `tl-jax prepare` again")
    size = _HEADER.size + width * count + 8 * (count - zeros) + name + tags
    if width not in (2, 4) or zeros > count or len(record) != size:
        raise DataError(f"{where}a damaged example; run `tl-jax prepare` again")
    return width, count, zeros, name, tags
