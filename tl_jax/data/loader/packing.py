"""Pack examples into rows of a fixed length."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence

import numpy as np

FITS = ("stream", "sorted")
PACKED = ("tokens", "targets", "weights")
"""What an example holds for every target."""


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
    """Lay examples one behind the other into a row.

    Args:
      examples: ``{"tokens", "targets", "weights"}``, each ``[n]``; the sum of n is at most
        ``length``.
      length: Tokens of the row.

    Returns:
      The same features ``[length]``, padded with 0, with ``positions`` (from 0 in every example)
      and ``visible_until`` (the index behind the example's last token, 0 is padding).
    """
    sizes = [len(example["tokens"]) for example in examples]
    features = {name: [example[name] for example in examples] for name in PACKED}
    features["positions"] = [np.arange(size, dtype=np.int32) for size in sizes]
    features["visible_until"] = [np.repeat(np.cumsum(sizes, dtype=np.int32), sizes)]
    spare = length - sum(sizes)
    return {name: np.pad(np.concatenate(parts), (0, spare)) for name, parts in features.items()}
