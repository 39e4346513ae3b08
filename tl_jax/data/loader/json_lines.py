"""Rows of a JSON-lines file by their number."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tl_jax.errors import DataError

_SCAN_BYTES = 1 << 22


class JsonlSource:
    """Read single rows of a JSON-lines file by index.

    The offsets of the lines are found once, at construction; afterwards only the row that is
    asked for is in memory. Reads are positional, so threads and forked processes may share one
    source, and a pickled copy opens the file for itself. Blank lines do not count.

    Attributes:
      path: The file.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = str(path)
        if not Path(self.path).is_file():
            raise DataError(f"{self.path}: no such file; write it with `tl-jax prepare`")
        self._spans = _scan_lines(self.path)
        self._file: BinaryIO | None = None

    def __len__(self) -> int:
        return len(self._spans)

    def __getitem__(self, index: int) -> dict[str, Any]:
        start, stop = self._spans[index]
        if self._file is None:
            self._file = open(self.path, "rb", buffering=0)
        line = os.pread(self._file.fileno(), int(stop - start), int(start))
        try:
            return json.loads(line)
        except ValueError as error:
            raise DataError(
                f"{self.path}, row {index} at byte {start}: not JSON ({error}); "
                "the file changed or is damaged, run `tl-jax prepare` again"
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}

    def __repr__(self) -> str:
        return f"JsonlSource({self.path!r}, rows={len(self)})"


def _scan_lines(path: str) -> np.ndarray:
    """Return the ``[N, 2]`` byte spans of the non-blank lines of ``path``."""
    ends: list[np.ndarray] = []
    size = 0
    with open(path, "rb") as file:
        while chunk := file.read(_SCAN_BYTES):
            ends.append(np.flatnonzero(np.frombuffer(chunk, np.uint8) == ord("\n")) + size)
            size += len(chunk)
        stops = np.concatenate([*ends, np.asarray([size])]).astype(np.int64)
        starts = np.concatenate([np.zeros(1, np.int64), stops[:-1] + 1])
        spans = np.stack([starts, stops], axis=1)[starts < stops]
        # Only lines too short to be an example can be blank; look at those.
        short = np.flatnonzero(spans[:, 1] - spans[:, 0] < 16)
        blank = [i for i in short if not _read(file, spans[i]).strip()]
    return np.delete(spans, blank, axis=0)


def _read(file: BinaryIO, span: Sequence[int]) -> bytes:
    file.seek(int(span[0]))
    return file.read(int(span[1] - span[0]))
