"""Which trajectories are held out, by what they ask, and which are drawn, by a seeded lot."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from tl_jax.data.trajectory import Trajectory

T = TypeVar("T")


def task_key(trajectory: Trajectory) -> str:
    """Return what trajectories of the same task have in common.

    That is the tag ``task`` where the source gives one, else the first user message in lower case
    and without extra blanks.
    """
    if task := trajectory.tags.get("task"):
        return f"task\n{task}"  # a normalised message holds no newline
    query = next((m.content for m in trajectory.messages if m.role == "user"), trajectory.id)
    return " ".join(query.lower().split())


def is_validation(trajectory: Trajectory, fraction: float) -> bool:
    """Return whether a trajectory is held out; depends only on its task key."""
    return _unit(task_key(trajectory)) < fraction


def copies(weight: float, key: str) -> int:
    """Return how often a trajectory of a source with this weight is taken.

    The whole part of ``weight``, and once more for a share of the keys equal to the rest.
    """
    whole = int(weight)
    return whole + (whole < weight and _unit(key) < weight - whole)


def sampled(rows: Iterable[T], size: int, key: str) -> Iterator[T]:
    """Take a uniform sample of ``size`` rows in their order, in one pass."""
    random_source = random.Random(key)
    kept: list[tuple[int, T]] = []
    for number, row in enumerate(rows):
        if number < size:
            kept.append((number, row))
        elif (place := random_source.randrange(number + 1)) < size:
            kept[place] = (number, row)
    return (row for _, row in sorted(kept, key=lambda pair: pair[0]))


def round_robin(parts: Iterable[Iterable[T]]) -> Iterator[T]:
    """Take one row of each part in turn until all are used up."""
    done: Any = object()
    for rows in itertools.zip_longest(*parts, fillvalue=done):
        yield from (row for row in rows if row is not done)


def _unit(key: str) -> float:
    """Return a number in [0, 1) that depends only on ``key``."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
