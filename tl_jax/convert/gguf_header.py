"""Walk through the header of a GGUF file before anything is made of it.

The reader believes the counts and lengths of a file, so that a damaged one costs it gigabytes or
ends in the middle of nowhere. Here each is held against what is left of the file first.

Source: ``docs/gguf.md`` of ggml.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import BinaryIO

from tl_jax.errors import ModelError

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Type of a value -> its bytes; texts and arrays have a length of their own."""
_TEXT, _ARRAY = 8, 9
_LEAST = {**_SIZES, _TEXT: 8, _ARRAY: 12}
_MOST_DIMENSIONS = 4
_LEAST_TENSOR = 8 + 4 + 4 + 8
_LEAST_KEY = 8 + 4 + 1


def check(file: Path) -> None:
    """Refuse a file whose header is cut or says more than can be in it.

    Raises:
      ModelError: The message names the file and what is wrong.
      OSError: It cannot be read.
    """
    with file.open("rb") as stream:
        try:
            _Walk(file, stream).header()
        except struct.error as error:
            raise ModelError(f"{file}: the header of the GGUF file is cut off") from error


class _Walk:
    """A place in a file."""

    def __init__(self, file: Path, stream: BinaryIO):
        self._file, self._stream = file, stream
        self._size = file.stat().st_size
        self._order = "<"

    def header(self) -> None:
        """Go through keys and tensors."""
        if self._stream.read(4) != _MAGIC:
            raise ModelError(f"{self._file}: cannot be read as GGUF: it begins otherwise")
        version = self._number("I")
        if version not in _VERSIONS:
            self._order = ">"
            version = int.from_bytes(version.to_bytes(4, "little"), "big")
        if version not in _VERSIONS:
            raise ModelError(f"{self._file}: GGUF of version {version}; versions 2 and 3 are known")
        tensors, keys = self._number("Q"), self._number("Q")
        self._check(tensors, _LEAST_TENSOR, "tensors")
        self._check(keys, _LEAST_KEY, "keys")
        for _ in range(keys):
            self._text("key")
            self._value(self._number("I"), inside=False)
        for _ in range(tensors):
            self._tensor()

    def _tensor(self) -> None:
        self._text("name of a tensor")
        count = self._number("I")
        if count > _MOST_DIMENSIONS:
            raise ModelError(f"{self._file}: a tensor with {count} dimensions")
        sizes = [self._number("Q") for _ in range(count)]
        self._number("I")
        offset = self._number("Q")
        # No type has less than a bit for a value.
        if math.prod(sizes) > 8 * self._size or offset > self._size:
            raise ModelError(f"{self._file}: a tensor of {sizes} at {offset} is not in the file")

    def _value(self, kind: int, *, inside: bool) -> None:
        if kind in _SIZES:
            self._skip(_SIZES[kind], "value")
        elif kind == _TEXT:
            self._text("value")
        elif kind == _ARRAY and not inside:
            item, count = self._number("I"), self._number("Q")
            if item not in _LEAST:
                raise ModelError(f"{self._file}: an array of values of unknown type {item}")
            self._check(count, _LEAST[item], "values")
            if item in _SIZES:
                self._skip(_SIZES[item] * count, "array")
            else:
                for _ in range(count):
                    self._value(item, inside=True)
        else:
            raise ModelError(f"{self._file}: a value of unknown type {kind}")

    def _number(self, form: str) -> int:
        form = self._order + form
        return struct.unpack(form, self._stream.read(struct.calcsize(form)))[0]

    def _text(self, what: str) -> None:
        self._skip(self._number("Q"), what)

    def _skip(self, size: int, what: str) -> None:
        left = self._size - self._stream.tell()
        if size > left:
            raise ModelError(
                f"{self._file}: a {what} of {size} bytes where {left} are left; the file is cut "
                "off or damaged, fetch it again"
            )
        self._stream.seek(size, 1)

    def _check(self, count: int, least: int, what: str) -> None:
        left = self._size - self._stream.tell()
        if count * least > left:
            raise ModelError(
                f"{self._file}: {count} {what} where {left} bytes are left; the file is cut off or "
                "damaged, fetch it again"
            )
