"""The examples of a directory in sorted order, so that those that begin alike are neighbours.

``order.npz`` beside the files holds the number of every example, how many ids it has and how many
of them it has in common with the one before. It depends on the examples alone.
"""

from __future__ import annotations

import dataclasses
import heapq
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from tl_jax.data.examples.record import unpack_ids
from tl_jax.data.examples.shards import Shards, open_records, open_shards
from tl_jax.errors import DataError

ORDER = "order.npz"
_RUN_IDS = 1 << 24
"""Ids that are sorted in memory at once."""

Record = Callable[[int], tuple[bytes, str]]
"""Returns the record of an example by its number, and its file."""


@dataclasses.dataclass(frozen=True)
class Order:
    """Examples sorted by their ids; the same ids by their number.

    Attributes:
      examples: ``[N]`` int64 number of each example.
      lengths: ``[N]`` int32, how many ids it has.
      shared: ``[N]`` int32, with how many ids it begins as the one before does.
    """

    examples: np.ndarray
    lengths: np.ndarray
    shared: np.ndarray


def write_order(path: str | os.PathLike[str], *, run_ids: int = _RUN_IDS) -> None:
    """Write the order of the examples in a directory, in little memory whatever their number.

    Parts of ``run_ids`` ids are sorted one by one; merging them reads every example again.

    Raises:
      DataError: The directory is not whole.
    """
    shards = open_shards(path)
    found = np.zeros((len(shards), 3), np.int64)
    before = np.zeros(0, ">u4")
    with open_records(shards) as record:
        for place, (key, number) in enumerate(_merged(record, len(shards), run_ids)):
            ids = np.frombuffer(key, ">u4")
            found[place] = number, len(ids), common_prefix(before, ids)
            before = ids
    with open(Path(path) / ORDER, "wb") as stream:
        np.savez(
            stream,
            source=np.asarray(shards.fingerprint),
            examples=found[:, 0],
            lengths=found[:, 1].astype(np.int32),
            shared=found[:, 2].astype(np.int32),
        )


def read_order(shards: Shards) -> Order:
    """Return the order that was written beside the files of a directory.

    Raises:
      DataError: There is none, or one of other files.
    """
    path = Path(shards.path) / ORDER
    try:
        with np.load(path, allow_pickle=False) as found:
            source = str(found["source"])
            order = Order(found["examples"], found["lengths"], found["shared"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} cannot be read ({error}); it says which examples begin alike: run "
            "`tl-jax prepare` again, or set data.shared_prefixes to false"
        ) from error
    if source != shards.fingerprint:
        raise DataError(f"{path} is of other files of examples; run `tl-jax prepare` again")
    return order


def common_prefix(left: np.ndarray, right: np.ndarray) -> int:
    """Return how many ids two examples have in common from the first one on."""
    size = min(len(left), len(right))
    differ = left[:size] != right[:size]
    first = int(differ.argmax()) if size else 0
    return first if size and differ[first] else size


def _merged(record: Record, count: int, run_ids: int) -> Iterator[tuple[bytes, int]]:
    """Yield ids and number of every example in order."""
    runs: list[np.ndarray] = []
    run: list[tuple[bytes, int]] = []
    held = 0
    for key, number in _keys(record, range(count)):
        if held and held + len(key) > 4 * run_ids:
            run.sort()
            runs.append(np.asarray([of for _, of in run], np.int64))
            run, held = [], 0
        run.append((key, number))
        held += len(key)
    run.sort()
    return heapq.merge(*(_keys(record, numbers) for numbers in runs), run)


def _keys(record: Record, numbers: Iterable[int]) -> Iterator[tuple[bytes, int]]:
    """Yield the ids of examples as bytes that sort as they do, with the number of each."""
    for number in map(int, numbers):
        ids = unpack_ids(*record(number))
        yield ids.astype(">u4").tobytes(), number
