"""Where the tokens of a text stand in it, as arrays: long texts have thousands of tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np


class Offsets(Sequence[tuple[int, int]]):
    """The ``(start, end)`` of every token in characters; rising, as the tokens follow each other.

    Args:
      ranges: ``[2, n]``, the starts and the ends.
    """

    __slots__ = ("_ranges",)

    def __init__(self, ranges: np.ndarray):
        self._ranges = ranges

    @classmethod
    def of(cls, pairs: Iterable[tuple[int, int]]) -> Offsets:
        """Return the offsets that single pairs give."""
        return cls(np.array([*pairs], np.int32).reshape(-1, 2).T)

    @classmethod
    def joined(cls, parts: Sequence[Offsets]) -> Offsets:
        """Return parts one behind the other."""
        if len(parts) == 1:
            return parts[0]
        empty = np.zeros((2, 0), np.int32)
        return cls(np.concatenate([empty, *(part._ranges for part in parts)], axis=1))

    def shifted(self, by: int) -> Offsets:
        """Return the offsets in a text that has ``by`` more characters at its start."""
        return Offsets(self._ranges + np.int32(by)) if by else self

    def over(self, start: int, end: int) -> range:
        """Return the places of the tokens that overlap a range of characters."""
        first = int(self._ranges[1].searchsorted(start, "right"))
        return range(first, max(first, self.before(end)))

    def before(self, start: int) -> int:
        """Return how many tokens begin before a character."""
        return int(self._ranges[0].searchsorted(start, "left"))

    def __len__(self) -> int:
        return self._ranges.shape[1]

    @overload
    def __getitem__(self, index: int) -> tuple[int, int]: ...
    @overload
    def __getitem__(self, index: slice) -> Offsets: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Offsets(self._ranges[:, index])
        return int(self._ranges[0, index]), int(self._ranges[1, index])

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(*self._ranges.tolist(), strict=True)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Offsets):
            return np.array_equal(self._ranges, other._ranges)
        return list(self) == other

    def __repr__(self) -> str:
        return f"Offsets({list(self)})"
