"""Pack samples, or trees of them, into rows of a fixed length."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence

import numpy as np

FITS = ("stream", "sorted")
PACKED = ("tokens", "targets", "weights")
"""What a sample holds for every target."""
PACKED_TREE = (*PACKED, "positions", "visible_until", "samples", "trained")
"""What a tree holds for every entry."""


def sorted_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Put each item into the fullest row that still holds it, the longest item first.

    Args:
      lengths: Length of every item, none above ``capacity``.
      capacity: Length of a row.

    Returns:
      The items of every row, by their place in ``lengths``.

    Source: best fit decreasing; at most 11/9 of the fewest possible rows, and one (Johnson 1973).
    """
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (free places, row), sorted
    for item in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        found = bisect.bisect_left(room, (lengths[item], -1))
        if found < len(room):
            free, row = room.pop(found)
            rows[row].append(item)
        else:
            free, row = capacity, len(rows)
            rows.append([item])
        bisect.insort(room, (free - lengths[item], row))
    return rows


def make_row(examples: Sequence[Mapping[str, np.ndarray]], length: int) -> dict[str, np.ndarray]:
    """Lay samples or trees one behind the other into a row.

    Args:
      examples: Each ``PACKED`` or ``PACKED_TREE`` by name, ``[n]``; the sum of n is at most
        ``length``.
      length: Tokens of the row.

    Returns:
      The same features ``[length]``, padded with 0, with the ``positions`` and ``visible_until`` of
      ``types.Batch``.
    """
    sizes = [len(example["tokens"]) for example in examples]
    spare = length - sum(sizes)
    row = {
        name: np.pad(np.concatenate([example[name] for example in examples]), (0, spare))
        for name in examples[0]
    }
    return _placed(row, sizes)


def from_packer(packed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the row that Grain's packer has made of samples or trees, as ``make_row`` has it."""
    # It numbers the parts of every feature; all features of ours have the same parts.
    segments = packed["tokens_segment_ids"]
    names = PACKED_TREE if "samples" in packed else PACKED
    row = {name: packed[name] for name in names}
    return _placed(row, np.bincount(segments[segments > 0])[1:])


def _placed(row: dict[str, np.ndarray], sizes: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
    """Complete a row of parts of some sizes with what depends on where each of them begins."""
    length = len(row["tokens"])
    ends = np.cumsum(sizes, dtype=np.int32)
    spare = length - int(ends[-1])
    starts = np.pad(np.repeat(ends - np.asarray(sizes, np.int32), sizes), (0, spare))
    if "visible_until" in row:  # a tree counts from its own first entry
        return {**row, "visible_until": row["visible_until"] + starts}
    until = np.pad(np.repeat(ends, sizes), (0, spare))
    positions = np.where(until > 0, np.arange(length, dtype=np.int32) - starts, 0)
    return {**row, "positions": positions, "visible_until": until}
