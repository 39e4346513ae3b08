"""Cut the sources into chunks of rows: what a process reads and builds in one go."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from tl_jax.data.prepare.sources import WeightedSource

_ROWS = 128
_BYTES = 4 << 20
"""Most rows of a chunk, and the bytes after which it ends; neither may depend on the processes."""


@dataclasses.dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows that follow each other in one source.

    Attributes:
      number: Of the chunk, counted over all sources.
      source: Number of the source.
      start: Place of its first row among all rows of the source.
      rows: Raw rows as the source gives them.
    """

    number: int
    source: int
    start: int
    rows: Sequence[Any]


def chunks(sources: Sequence[WeightedSource]) -> Iterator[Chunk]:
    """Yield the rows of all sources, in order; a chunk has rows of one source only."""
    number = 0
    for place, source in enumerate(sources):
        rows: list[Any] = []
        start = size = 0
        for row in source.raw():
            rows.append(row)
            value = getattr(row, "value", None)
            size += len(value) if isinstance(value, bytes) else 0
            if len(rows) == _ROWS or size >= _BYTES:
                yield Chunk(number, place, start, rows)
                number, start, rows, size = number + 1, start + len(rows), [], 0
        if rows:
            yield Chunk(number, place, start, rows)
            number += 1
