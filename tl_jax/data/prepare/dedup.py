"""Find trajectories that occur again, letter for letter or nearly so.

Near duplicates are found by MinHash over runs of five words with banded signatures: time is
linear in the text, memory about 2 KiB per trajectory.
Source: Broder, On the resemblance and containment of documents (1997).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tl_jax.data.prepare.ngrams import dialogue, digest, ngrams, tool_set, words
from tl_jax.data.trajectory import Trajectory

Location = tuple[str, int, str]
"""File, row in it and id of a trajectory."""
SIMILARITY = 0.8
"""Least estimated Jaccard similarity of the word runs of near duplicates."""

_RUN = 5
_BANDS, _ROWS = 16, 5
"""A pair of similarity 0.8 shares a band with probability 0.998, one of 0.3 with 0.04."""
_BLOCK = 4096


@dataclasses.dataclass(frozen=True)
class Duplicate:
    """Why a trajectory is a duplicate.

    Attributes:
      kind: ``exact`` or ``near``.
      of: Location of the trajectory that came before.
      similarity: Estimated share of word runs that both have, of those that either has.
    """

    kind: str
    of: Location
    similarity: float


class Duplicates:
    """The trajectories met so far.

    Exact duplicates have the same text in all turns but for the amount of blanks, and the same
    tools and parameters. Near duplicates have words of similarity 0.8 or more, whatever their case,
    their punctuation and their tools: ``f(x=5)`` and ``f(x=-5)`` have the same words.

    Args:
      near: Look for near duplicates, too.
    """

    def __init__(self, near: bool):
        self._near = near
        self._exact: dict[bytes, int] = {}
        self._places: list[Location] = []
        self._bands: dict[int, int] = {}
        self._signatures = np.zeros((0, _BANDS * _ROWS), np.uint32)
        random_source = np.random.default_rng(0)
        shape = (_BANDS * _ROWS, 1)
        self._factors = random_source.integers(0, 1 << 63, shape, np.uint64) * np.uint64(2)
        self._factors += np.uint64(1)
        self._shifts = random_source.integers(0, 1 << 63, shape, np.uint64)

    def find(self, trajectory: Trajectory, location: Location) -> Duplicate | None:
        """Return why a trajectory is a duplicate; if it is none, remember it and its location."""
        text = dialogue(trajectory.messages)
        whole = digest([*text.split(), tool_set(trajectory.tools).hex()])
        if (number := self._exact.get(whole)) is not None:
            return Duplicate("exact", self._places[number], 1.0)
        if self._near:
            signature = self._signature(words(text))
            keys = _band_keys(signature)
            if (found := self._similar(signature, keys)) is not None:
                return found
            self._remember(signature, keys)
        self._exact[whole] = len(self._places)
        self._places.append(location)
        return None

    def _signature(self, tokens: list[str]) -> np.ndarray:
        runs = np.unique(ngrams(tokens, min(_RUN, max(len(tokens), 1))))
        least = np.full(_BANDS * _ROWS, 2**32 - 1, np.uint32)
        for start in range(0, len(runs), _BLOCK):
            mixed = (self._factors * runs[start : start + _BLOCK] + self._shifts) >> np.uint64(32)
            least = np.minimum(least, mixed.min(axis=1).astype(np.uint32))
        return least

    def _similar(self, signature: np.ndarray, keys: list[int]) -> Duplicate | None:
        numbers = {self._bands[key] for key in keys if key in self._bands}
        best = max(
            ((float((self._signatures[n] == signature).mean()), -n) for n in numbers),
            default=(0.0, 0),
        )
        if best[0] < SIMILARITY:
            return None
        return Duplicate("near", self._places[-best[1]], round(best[0], 3))

    def _remember(self, signature: np.ndarray, keys: list[int]) -> None:
        number = len(self._places)
        if number == len(self._signatures):
            grown = np.zeros((max(1024, 2 * number), len(signature)), np.uint32)
            grown[:number] = self._signatures
            self._signatures = grown
        self._signatures[number] = signature
        for key in keys:
            self._bands.setdefault(key, number)


def _band_keys(signature: np.ndarray) -> list[int]:
    """Return a number for each band, different for equal values in different bands."""
    bands = signature.reshape(_BANDS, _ROWS).astype(np.uint64)
    keys = np.arange(1, _BANDS + 1, dtype=np.uint64)
    for column in bands.T:
        keys = (keys ^ column) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(31)
    return keys.tolist()
