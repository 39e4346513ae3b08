"""What the loader reads of a directory of examples: single samples, or trees of them."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import grain
import numpy as np

from tl_jax.data.examples.order import read_order
from tl_jax.data.examples.record import name_of, unpack_arrays
from tl_jax.data.examples.shards import Shards
from tl_jax.data.loader.prefix_trees import cut, merge
from tl_jax.errors import DataError

Row = dict[str, np.ndarray]


@dataclasses.dataclass
class _File:
    """What Grain wants to know of a file of records, so that it need not open all of them first."""

    filename: str
    skip: int
    take: int
    examples_in_shard: int


class Samples:
    """The samples of a directory by their number, as ``packing.PACKED`` has them.

    Args:
      shards: The directory.
      length: Tokens of a row.
    """

    def __init__(self, shards: Shards, length: int):
        paths = (os.path.join(shards.path, shard.name) for shard in shards.shards)
        counts = (shard.records for shard in shards.shards)
        files = [_File(path, 0, count, count) for path, count in zip(paths, counts, strict=True)]
        options = {"max_parallelism": "0"}
        self._records: Any = grain.sources.ArrayRecordDataSource(files, reader_options=options)
        self._path, self._length = shards.path, length

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, number: int) -> Row:
        ids, weights = self.arrays(number)
        return {"tokens": ids[:-1], "targets": ids[1:], "weights": weights[1:]}

    def arrays(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return ids and weights of a sample, each ``[n]``.

        Raises:
          DataError: It is longer than a row, has no target, or is damaged.
        """
        record, path = self._records[number], self._path
        ids, weights = unpack_arrays(record, path)
        if len(ids) < 2:
            raise DataError(f"{path}: example {name_of(record)!r} needs two or more ids")
        if not (np.isfinite(weights).all() and (weights >= 0).all()):
            raise DataError(
                f"{path}: example {name_of(record)!r} has a weight that is negative or not finite"
            )
        if len(ids) - 1 > self._length:
            raise DataError(
                f"{path}: example {name_of(record)!r} has {len(ids) - 1} targets but a row holds "
                f"{self._length}; raise data.max_length or prepare with the smaller one"
            )
        return ids, weights

    def __repr__(self) -> str:
        return f"Samples({self._path!r})"


class Trees:
    """Trees of the samples that begin alike, as ``packing.PACKED_TREE`` has them.

    Every sample is in one tree. Which ones depends on the samples and the length of a row.

    Args:
      shards: The directory of the samples, with its order.
      length: Tokens of a row.

    Raises:
      DataError: The order is not there, or is of other files; or a sample is longer than a row.
    """

    def __init__(self, shards: Shards, length: int):
        order = read_order(shards)
        self._samples = Samples(shards, length)
        if order.lengths.max() - 1 > length:
            self._samples.arrays(int(order.examples[order.lengths.argmax()]))
        self._numbers = order.examples
        self._starts = cut(order.lengths, order.shared, length)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, number: int) -> Row:
        own = self._numbers[self._starts[number] : self._starts[number + 1]]
        ids, weights = zip(*(self._samples.arrays(sample) for sample in own.tolist()), strict=True)
        return merge(ids, weights)

    def __repr__(self) -> str:
        return f"Trees({self._samples!r})"
