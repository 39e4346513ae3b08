"""Find trajectories that occur again, letter for letter or nearly so.

Near duplicates are found by MinHash over runs of five words with banded signatures: time is
linear in the text. Signatures are made trajectory by trajectory, in any process; they are compared
with all of them in view, in about 200 bytes per trajectory, the signatures themselves in a file.
Source: Broder, On the resemblance and containment of documents (1997).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tl_jax.data.prepare.ngrams import dialogue, digest, ngrams, tool_set, words
from tl_jax.data.trajectory import Trajectory

SIMILARITY = 0.8
"""Least estimated Jaccard similarity of the word runs of near duplicates."""

_RUN = 5
BANDS, _ROWS = 16, 5
"""A pair of similarity 0.8 shares a band with probability 0.998, one of 0.3 with 0.04."""
LENGTH = BANDS * _ROWS
_BLOCK = 4096


@dataclasses.dataclass(frozen=True)
class Duplicate:
    """Why a trajectory is a duplicate.

    Attributes:
      number: Of the trajectory.
      kind: ``exact`` or ``near``.
      of: Number of the trajectory that came before.
      similarity: Estimated share of word runs that both have, of those that either has.
    """

    number: int
    kind: str
    of: int
    similarity: float


class Signer:
    """Makes what trajectories are compared by.

    Exact duplicates have the same text in all turns but for the amount of blanks, and the same
    tools and parameters. Near duplicates have words of similarity 0.8 or more, whatever their case,
    their punctuation and their tools: ``f(x=5)`` and ``f(x=-5)`` have the same words.

    Args:
      near: Look for near duplicates, too.
    """

    def __init__(self, near: bool):
        self._near = near
        random_source = np.random.default_rng(0)
        shape = (LENGTH, 1)
        self._factors = random_source.integers(0, 1 << 63, shape, np.uint64) * np.uint64(2)
        self._factors += np.uint64(1)
        self._shifts = random_source.integers(0, 1 << 63, shape, np.uint64)

    def sign(self, trajectories: Sequence[Trajectory]) -> tuple[np.ndarray, np.ndarray]:
        """Return digests ``[n, 2]`` (uint64) and signatures ``[n, LENGTH]`` (uint32), or none."""
        digests, signatures = [], []
        for trajectory in trajectories:
            text = dialogue(trajectory.messages)
            digests.append(digest([*text.split(), tool_set(trajectory.tools).hex()]))
            if self._near:
                signatures.append(self._signature(words(text)))
        found = np.frombuffer(b"".join(digests), "<u8").reshape(-1, 2)
        width = LENGTH if self._near else 0
        return found, np.asarray(signatures, "<u4").reshape(len(signatures), width)

    def _signature(self, tokens: list[str]) -> np.ndarray:
        runs = np.unique(ngrams(tokens, min(_RUN, max(len(tokens), 1))))
        least = np.full(LENGTH, 2**32 - 1, np.uint32)
        for start in range(0, len(runs), _BLOCK):
            mixed = (self._factors * runs[start : start + _BLOCK] + self._shifts) >> np.uint64(32)
            least = np.minimum(least, mixed.min(axis=1).astype(np.uint32))
        return least


def band_keys(signatures: np.ndarray) -> np.ndarray:
    """Return a number for each band, different for equal values in different bands; ``[n, BANDS]``.

    Args:
      signatures: ``[n, LENGTH]``.
    """
    bands = signatures.reshape(-1, BANDS, _ROWS).astype(np.uint64)
    keys = np.arange(1, BANDS + 1, dtype=np.uint64)
    for row in range(_ROWS):
        keys = (keys ^ bands[:, :, row]) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(31)
    return keys


def find_duplicates(
    digests: np.ndarray, keys: np.ndarray, signature_of: Callable[[int], np.ndarray]
) -> Iterator[Duplicate]:
    """Yield the duplicates of trajectories that came before and are none themselves.

    Args:
      digests: ``[n, 2]``, from ``Signer.sign``, in order.
      keys: ``[n, BANDS]``, from ``band_keys``; ``[n, 0]`` to look for exact duplicates only.
      signature_of: Returns the signature of a number.
    """
    # Only values that occur more than once can make a duplicate; few of them do.
    groups = np.full((len(digests), 1 + keys.shape[1]), -1, np.int32)
    count = 0
    for place, values in enumerate((digests[:, 0], *keys.T)):
        count = _number_repeated(values, groups[:, place], count)
    first = np.full(count, -1, np.int32)
    for number in np.flatnonzero((groups >= 0).any(axis=1)).tolist():
        own = groups[number]
        before = int(first[own[0]]) if own[0] >= 0 else -1
        if before >= 0 and digests[before, 1] == digests[number, 1]:
            yield Duplicate(number, "exact", before, 1.0)
            continue
        shared = own[1:][own[1:] >= 0]
        candidates = np.unique(first[shared])
        best = 0.0, 0
        if len(candidates) and candidates[-1] >= 0:
            signature = signature_of(number)
            for other in candidates[candidates >= 0].tolist():
                found = float((signature_of(other) == signature).mean()), -other
                best = max(best, found)
        if best[0] >= SIMILARITY:
            yield Duplicate(number, "near", -best[1], round(best[0], 3))
            continue
        if before < 0 and own[0] >= 0:
            first[own[0]] = number
        first[shared[first[shared] < 0]] = number


def _number_repeated(values: np.ndarray, groups: np.ndarray, count: int) -> int:
    """Number the values that occur more than once, from ``count`` on; return the next number."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    same = ordered[1:] == ordered[:-1]
    repeated = np.zeros(len(values), bool)
    repeated[1:] |= same
    repeated[:-1] |= same
    starts = repeated.copy()
    starts[1:] &= ~same
    numbers = np.cumsum(starts) - 1 + count
    groups[order[repeated]] = numbers[repeated]
    return count + int(starts.sum())
