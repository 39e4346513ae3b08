"""Rows of prefix trees for samples: what several of them begin with is computed once.

A row holds samples one behind the other, each without the beginning that it shares with the one
before. Nothing is shared from the first scored target of a sample on: what is scored belongs to one
sample, so the last token of a prompt, which predicts the first sampled one, stands in a row once a
sample.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import jax
import numpy as np

from tl_jax.config import PpoConfig
from tl_jax.data.examples.order import common_prefix
from tl_jax.types import Batch

MOST_TOKENS = 8192
"""Tokens of a row, unless one sample alone has more: a longer one saves little more."""

_UNIT = 64
"""Rows are multiples of it."""
_WORTH = 16
"""A beginning of less than this part of a sample is not worth being shared."""


@dataclasses.dataclass(frozen=True)
class SharedRows:
    """The shape of rows that hold the samples of a rollout, or of a part of it.

    Attributes:
      length: Tokens of a row, at least those of the longest sample.
      shards: Parts that the rows of a batch are cut into.
      samples: How many samples of a prompt a row holds, however long they are.
    """

    length: int
    shards: int = 1
    samples: int = 1

    def most(self, samples: int, group: int) -> int:
        """Return how many rows ``samples`` take at most if ``group`` of them have one prompt."""
        groups, rest = divmod(samples, group)
        return self.padded(groups * -(-group // self.samples) + -(-rest // self.samples))

    def padded(self, rows: int, beside: int = 0) -> int:
        """Return one of few numbers, so that few programs are compiled, that is not below ``rows``.

        With ``beside`` further rows the shards have equally many.
        """
        power = 1 << (rows - 1).bit_length()
        few = power * 3 // 4 if power * 3 // 4 >= rows else power
        return -(-(few + beside) // self.shards) * self.shards - beside


@dataclasses.dataclass(frozen=True)
class Places:
    """Where the targets of each sample stand that it does not share, each ``[B]``.

    Attributes:
      rows: The row.
      starts: The entry of the first of them.
      firsts: Which of the sample's targets that is.
      ends: How many targets the sample has.
    """

    rows: np.ndarray
    starts: np.ndarray
    firsts: np.ndarray
    ends: np.ndarray

    def of_each(self) -> Iterator[tuple[int, int, int, int]]:
        """Yield the four numbers of every sample."""
        numbers = (self.rows, self.starts, self.firsts, self.ends)
        return zip(*(each.tolist() for each in numbers), strict=True)

    def by_sample(self, of_rows: np.ndarray, length: int) -> np.ndarray:
        """Return what rows say about targets, ``[B, length]``, 0 where samples share them."""
        found = np.zeros((len(self.rows), length), of_rows.dtype)
        for sample, (row, start, first, end) in enumerate(self.of_each()):
            found[sample, first:end] = of_rows[row, start : start + end - first]
        return found


def plan_rows(
    ppo: PpoConfig,
    *,
    prompt_length: int,
    reply_length: int,
    shards: int,
    parts: int,
    least: int = 0,
) -> SharedRows:
    """Return the rows in which the longest samples of an update take the fewest tokens.

    Few samples in a row repeat their prompt in other rows; many leave devices without a row.

    Args:
      ppo: How many samples a prompt and an update have.
      prompt_length: Tokens of the longest prompt.
      reply_length: Most tokens after it.
      shards: Parts that the rows of a batch are cut into.
      parts: Devices that share a row.
      least: Tokens that a row has in any case.
    """
    group = ppo.samples_per_prompt
    update = ppo.prompts_per_step * group // ppo.minibatches
    unit = math.lcm(_UNIT, parts)

    def shape(samples: int) -> SharedRows:
        length = max(prompt_length + samples * reply_length - 1, least)
        return SharedRows(-(-length // unit) * unit, shards, samples)

    shapes = [shape(samples) for samples in range(1, min(group, update) + 1)]
    fitting = [rows for rows in shapes[1:] if rows.length <= MOST_TOKENS]
    return min([shapes[0], *fitting], key=lambda rows: rows.most(update, group) * rows.length)


def share(
    samples: Batch[np.ndarray], scored_BT: np.ndarray, shape: SharedRows, *, beside: int = 0
) -> tuple[Batch[np.ndarray], Places]:
    """Lay samples out as rows of prefix trees.

    Args:
      samples: One sample a row, from its first entry on; on the host.
      scored_BT: Where not 0, the target of a sample is scored or trained.
      shape: Of the rows. Their number is one of few, so that few programs are compiled: the rest of
        them is padding.
      beside: How many rows are put beside these later on; what is divided by ``shape.shards`` is
        the number of all.

    Returns:
      ``(rows, places)``: every array of ``samples`` as rows, and where its samples are.

    Raises:
      ValueError: A sample is longer than a row.
    """
    ends = np.sum(samples.visible_until > 0, axis=1)
    if ends.max() > shape.length:
        raise ValueError(f"a sample of {ends.max()} targets is longer than a row of {shape.length}")
    shareable = np.where(scored_BT.any(axis=1), (scored_BT != 0).argmax(axis=1), ends)
    beginnings = [tokens[:end] for tokens, end in zip(samples.tokens, shareable, strict=True)]

    members, places = _placed(beginnings, ends, shape.length)

    size = (shape.padded(len(members), beside), shape.length)
    until, counts = np.zeros(size, np.int32), np.zeros(size, np.int32)
    for row, of_row in enumerate(members):
        spans = [(places.starts[i], places.firsts[i], ends[i]) for i in of_row]
        _fill_row(spans, until[row], counts[row])

    def laid_out(of_samples: np.ndarray) -> np.ndarray:
        found = np.zeros(size, of_samples.dtype)
        for sample, (row, start, first, end) in enumerate(places.of_each()):
            found[row, start : start + end - first] = of_samples[sample, first:end]
        return found

    found = jax.tree.map(laid_out, samples)
    return found.replace(visible_until=until, samples=counts, trained=np.zeros_like(counts)), places


def _placed(
    beginnings: list[np.ndarray], ends: np.ndarray, length: int
) -> tuple[list[list[int]], Places]:
    """Return the samples of every row in order, and their places."""
    members: list[list[int]] = []
    used: list[int] = []
    rows, starts, firsts = (np.zeros_like(ends) for _ in range(3))
    # Sorted, samples that begin alike follow each other; each goes where it takes the least.
    for sample in sorted(range(len(ends)), key=lambda sample: beginnings[sample].tolist()):
        end = ends[sample]
        shared = [common_prefix(beginnings[of_row[-1]], beginnings[sample]) for of_row in members]
        shared = [n if n * _WORTH >= end else 0 for n in shared]
        fitting = [row for row, n in enumerate(shared) if used[row] + end - n <= length]
        row = max(fitting, key=shared.__getitem__, default=len(members))
        if row == len(members):
            members.append([])
            used.append(0)
            shared.append(0)
        rows[sample], starts[sample], firsts[sample] = row, used[row], shared[row]
        used[row] += end - shared[row]
        members[row].append(sample)
    return members, Places(rows, starts, firsts, ends)


def _fill_row(spans: list[tuple[int, int, int]], until_T: np.ndarray, counts_T: np.ndarray) -> None:
    """Fill in, for a row, where its entries are seen and how many samples run through them.

    Args:
      spans: Of every sample in order, the entry of its first target that is its own, which target
        that is, and how many targets it has.
      until_T: ``visible_until`` of the row, 0 so far.
      counts_T: The number of samples of every entry, 0 so far.
    """
    path = np.zeros(len(until_T), np.intp)  # the entry of the present sample at every depth
    for start, first, end in spans:
        path[first:end] = np.arange(start, start + end - first)
        counts_T[path[:end]] += 1
    visible = np.zeros(len(until_T), np.int32)  # where what follows on these entries ends
    start, first, end = spans[-1]
    following, behind = 0, start + end - first
    for start, first, end in reversed(spans):
        visible[following:end] = behind
        until_T[start : start + end - first] = visible[first:end]
        following, behind = first, start
