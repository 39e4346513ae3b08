"""What rows hold of earlier texts, so that what later prompts begin with is not read again."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tl_jax.sampling.decode import Rows

Tokens = Sequence[int] | np.ndarray
"""Token ids; as arrays of int32 they are compared fast."""

WIDTHS = (16, 64, 256)
"""Tokens of a prompt that are read at once; a program is compiled for each that occurs."""


@dataclasses.dataclass
class Kept:
    """Rows that stay on the device from one call of ``sampler.generate`` to the next.

    What a row holds is not read again where a later prompt begins so: the next turn of a dialogue
    costs its new tokens. All calls must have the same parameters and the same sampler.

    Attributes:
      rows: None before the first call.
      held: Tokens of which each row holds keys and values.
    """

    rows: Rows | None = None
    held: list[Tokens] = dataclasses.field(default_factory=list)


class Reading(NamedTuple):
    """A prompt on its way into a row.

    Attributes:
      number: Of the prompt.
      ids: Its tokens.
      source: Row that holds its beginning.
      shared: Tokens of this beginning; the last token of the prompt is not one of them.
      place: Row that takes it.
    """

    number: int
    ids: Tokens
    source: int
    shared: int
    place: int


def plan_reading(
    number: int,
    ids: Tokens,
    held: Sequence[Tokens],
    rows: Sequence[int],
    free: Sequence[int],
) -> Reading:
    """Choose the row that a prompt copies its beginning from, and the row that takes it.

    A prompt that goes on where a free row ends stays there. Any other takes the free row that
    holds least, so that what others may begin with is kept as long as can be.

    Args:
      number: Of the prompt.
      ids: Its tokens.
      held: What each row holds.
      rows: Rows that may be copied.
      free: Those of them that may be overwritten, at least one.
    """
    shared = {row: min(shared_tokens(held[row], ids), len(ids) - 1) for row in rows}
    source = max(rows, key=lambda row: (shared[row], row in free))
    goes_on = source in free and shared[source] == len(held[source])
    place = source if goes_on else min(free, key=lambda row: len(held[row]))
    return Reading(number, ids, source, shared[source], place)


def find_homes(prompts: Sequence[Tokens], held: Sequence[Tokens]) -> dict[int, int]:
    """Return, for each prompt that goes on where a row ends, this row; no row has two."""
    left = {row: text for row, text in enumerate(held) if len(text)}
    homes: dict[int, int] = {}
    for index, ids in enumerate(prompts):
        for row, text in left.items():
            if len(text) < len(ids) and shared_tokens(text, ids) == len(text):
                homes[index] = row
                del left[row]
                break
    return homes


def shared_tokens(one: Tokens, other: Tokens) -> int:
    """Return how many tokens two texts begin with alike."""
    size = min(len(one), len(other))
    differs = np.flatnonzero(np.asarray(one[:size]) != np.asarray(other[:size]))
    return int(differs[0]) if len(differs) else size


def reading_order(prompts: Sequence[Tokens]) -> list[int]:
    """Return the numbers of the prompts: neighbours begin alike, and short ones come first.

    Equal prompts stay in their order.
    """
    # With the highest byte first, bytes are in the order of the numbers.
    by_text = sorted(range(len(prompts)), key=lambda i: np.asarray(prompts[i], ">i4").tobytes())
    families: list[list[int]] = []
    for index in by_text:
        ids = prompts[index]
        if families and 2 * shared_tokens(prompts[families[-1][-1]], ids) > len(ids):
            families[-1].append(index)
        else:
            families.append([index])
    families.sort(key=lambda family: max(len(prompts[index]) for index in family))
    return [index for family in families for index in family]


def piece_width(tokens: int, space: int) -> int:
    """Return how wide a piece of a prompt is read when so many tokens remain of it; 0 for none.

    The last piece is padded by at most a half of its width, or to the smallest one.

    Args:
      tokens: That remain.
      space: Slots for them and for padding, at least the smallest width.
    """
    if not tokens:
        return 0
    widths = [width for width in WIDTHS if width <= space]
    wider = next((width for width in widths if width >= tokens), widths[-1])
    fitting = max((width for width in widths if width <= tokens), default=widths[0])
    return wider if 2 * tokens > wider else fitting
