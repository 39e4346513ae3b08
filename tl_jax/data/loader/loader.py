"""Turn tokenised examples into packed, batched, resumable token rows.

Examples are read at random from the ArrayRecord files of a directory (``examples.shards``);
``weights[i]`` is the loss weight of ``ids[i]`` as a target. Row entry ``t`` pairs the input
``ids[t]`` with the target ``ids[t + 1]`` and its weight.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import grain
import numpy as np

from tl_jax.data.examples.record import name_of, unpack_arrays
from tl_jax.data.examples.shards import Shards, open_shards
from tl_jax.data.loader.host_shards import HostRows, Row
from tl_jax.data.loader.packing import FITS, PACKED, make_row, sorted_fit
from tl_jax.errors import DataError


@dataclasses.dataclass
class _File:
    """What Grain wants to know of a file of records, so that it need not open all of them first."""

    filename: str
    skip: int
    take: int
    examples_in_shard: int


def _records(shards: Shards) -> Any:
    paths = (os.path.join(shards.path, shard.name) for shard in shards.shards)
    counts = (shard.records for shard in shards.shards)
    files = [_File(path, 0, count, count) for path, count in zip(paths, counts, strict=True)]
    return grain.sources.ArrayRecordDataSource(files, reader_options={"max_parallelism": "0"})


def make_loader(
    path: str | os.PathLike[str],
    *,
    length: int,
    rows: int,
    seed: int,
    packing: bool,
    packing_bins: int,
    packing_fit: str = "stream",
    shuffle: bool = True,
    repeat: bool = True,
    streams: int = 1,
    own: Sequence[int] | np.ndarray | None = None,
    prefetch: int = 2,
) -> HostRows:
    """Make the iterator of batches over examples.

    With ``repeat`` it is endless, every epoch in another order. Without ``repeat`` every example
    comes exactly once, and the last batch is filled up with rows of weight 0. The global batches
    do not depend on the hosts, of which each takes its rows.

    Args:
      path: Directory of examples.
      length: Tokens per row.
      rows: Rows of the global batch.
      seed: Of the order of examples and of packed rows.
      packing: Put several examples into a row (best fit); else one example per row.
      packing_bins: Rows that are filled side by side; more bins pack tighter.
      packing_fit: ``"stream"`` fills them in the order of the examples, ``"sorted"`` reads as many
        examples as they hold and puts in the longest first, which packs tighter.
      shuffle: Permute the examples.
      repeat: Endless training stream instead of one pass.
      streams: Streams that the examples are dealt to in turn, each with its part of the rows (1
        without ``repeat``). A host packs only the streams that its rows come from.
      own: Numbers of the rows that this host takes, ascending; None takes all.
      prefetch: Batches prepared ahead by a thread; 0 prepares them on demand.

    Returns:
      Iterator of ``{"tokens", "targets", "positions", "visible_until"}`` (int32) and ``"weights"``
      (float32), each ``[len(own), length]``, as ``types.Batch`` has them. ``get_state`` and
      ``set_state`` resume exactly, also in the middle of a packing window; ``set_state`` refuses
      the state of another file or other settings.

    Raises:
      DataError: ``path`` does not exist, is not whole or has no examples, or ``streams`` do not
        divide ``rows``; or, while iterating, an example that is longer than a row, has no target,
        or is damaged.
      ValueError: An unknown fit.
    """
    if packing_fit not in FITS:
        raise ValueError(f"unknown packing_fit {packing_fit!r}; known: {', '.join(FITS)}")
    if rows % streams:
        raise DataError(
            f"config.data.batch_size {rows} is not divisible by config.data.streams {streams}"
        )
    shards = open_shards(path)
    if not len(shards):
        raise DataError(
            f"{path} holds no examples; check the counts in the prepare report (were all samples "
            "dropped, or is max_length too small?) and run `tl-jax prepare` again"
        )
    signature = {
        "source": shards.fingerprint,
        "length": length,
        "rows": rows,
        "seed": seed,
        "packing_bins": packing_bins if packing else 0,
        "packing_fit": packing_fit if packing else "",
        "shuffle": shuffle,
        "repeat": repeat,
        "streams": streams,
    }

    source = _records(shards)

    def open_stream(number: int) -> grain.DatasetIterator:
        examples = grain.MapDataset.source(source).seed(seed)
        if shuffle:
            examples = examples.shuffle()
        if repeat:
            examples = examples.repeat(None)[number::streams]
        examples = examples.map(functools.partial(_arrays, length=length, path=shards.path))
        # Read where they are packed: a record is copied faster than handed between threads.
        stream = examples.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
        if packing and packing_fit == "sorted":
            stream = _SortedRows(stream, length, packing_bins, seed if shuffle else None)
        elif packing:
            stream = grain.experimental.BestFitPackIterDataset(
                stream,
                length_struct={key: length for key in PACKED},
                num_packing_bins=packing_bins,
                seed=seed,
                shuffle_bins=shuffle,
            ).map(_packed_row)
        else:
            stream = stream.map(lambda example: make_row([example], length))
        if repeat:
            stream = stream.batch(rows // streams)
        else:
            fill = functools.partial(grain.experimental.batch_and_pad, batch_size=rows)
            stream = stream.batch(rows, drop_remainder=False, batch_fn=fill)
        if prefetch:
            stream = grain.experimental.ThreadPrefetchIterDataset(
                stream, prefetch_buffer_size=prefetch
            )
        return _GuardedIterator(iter(stream), {**signature, "stream": number})

    return HostRows(open_stream, streams, rows, range(rows) if own is None else own)


def measure(
    path: str | os.PathLike[str],
    *,
    length: int,
    seed: int,
    packing: bool,
    packing_bins: int,
    packing_fit: str = "stream",
    most_rows: int = 4096,
) -> dict[str, Any]:
    """Return how full the rows of one epoch are; arguments as in ``make_loader``.

    Every host that counts gets the same numbers, as they do not depend on the number of hosts.

    Args:
      most_rows: Stop after this many rows; ``complete`` is then False.

    Returns:
      ``rows``, ``complete`` (the rows are the whole epoch), ``tokens``, ``fill`` (share of the
      places that hold a token), ``trained_tokens`` and ``trained_token_share`` (of the tokens).
    """
    loader = make_loader(
        path,
        length=length,
        rows=1,
        seed=seed,
        packing=packing,
        packing_bins=packing_bins,
        packing_fit=packing_fit,
        repeat=False,
        prefetch=0,
    )
    rows = tokens = trained = 0
    for batch in itertools.islice(loader, most_rows):
        rows += 1
        tokens += int((batch["visible_until"] > 0).sum())
        trained += int((batch["weights"] > 0).sum())
    complete = rows < most_rows or next(loader, None) is None
    loader.close()
    return {
        "rows": rows,
        "complete": complete,
        "tokens": tokens,
        "fill": round(tokens / (rows * length), 4),
        "trained_tokens": trained,
        "trained_token_share": round(trained / tokens, 4),
    }


class _SortedRows(grain.IterDataset):
    """Rows packed window by window: the examples that ``bins`` rows hold, the longest first."""

    def __init__(self, parent: grain.IterDataset, length: int, bins: int, seed: int | None):
        super().__init__(parent)
        self._settings = (length, bins, seed)

    def __iter__(self) -> grain.DatasetIterator:
        return _SortedRowsIterator(iter(self._parent), *self._settings)


class _SortedRowsIterator(grain.DatasetIterator):
    """The rows of ``_SortedRows``; its state is the start of the window and the row in it."""

    def __init__(self, parent: grain.DatasetIterator, length: int, bins: int, seed: int | None):
        super().__init__(parent)
        self._length, self._bins, self._seed = length, bins, seed
        self._begin(parent.get_state(), 0)

    def _begin(self, start: dict[str, Any], window: int) -> None:
        self._start, self._window, self._row = start, window, 0
        self._examples: list[Row] = []
        self._rows: list[list[int]] = []

    def _read(self) -> None:
        """Read and pack the window that begins here."""
        tokens = 0
        while tokens < self._bins * self._length:
            try:
                self._examples.append(next(self._parent))
            except StopIteration:
                break
            tokens += len(self._examples[-1]["tokens"])
        self._rows = sorted_fit([len(e["tokens"]) for e in self._examples], self._length)
        if self._seed is not None:
            np.random.default_rng([self._seed, self._window]).shuffle(self._rows)

    def __next__(self) -> Row:
        if self._rows and self._row == len(self._rows):
            self._begin(self._parent.get_state(), self._window + 1)
        if not self._rows:
            self._read()
        if not self._rows:
            raise StopIteration
        items = self._rows[self._row]
        self._row += 1
        return make_row([self._examples[item] for item in items], self._length)

    def get_state(self) -> dict[str, Any]:
        return {"start": self._start, "window": self._window, "row": self._row}

    def set_state(self, state: dict[str, Any]) -> None:
        self._parent.set_state(state["start"])
        self._begin(state["start"], state["window"])
        if state["row"]:
            self._read()
            self._row = state["row"]


class _GuardedIterator(grain.DatasetIterator):
    """Tie the state of an iterator to the file and settings it belongs to."""

    def __init__(self, parent: grain.DatasetIterator, signature: Mapping[str, Any]):
        super().__init__(parent)
        self._signature = dict(signature)

    def __next__(self) -> Row:
        return next(self._parent)

    def get_state(self) -> dict[str, Any]:
        return {"signature": dict(self._signature), "position": self._parent.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        saved = state["signature"]
        changed = [
            f"{key} was {saved.get(key)!r} and is {value!r}"
            for key, value in self._signature.items()
            if saved.get(key) != value
        ]
        if changed:
            raise ValueError(
                "the data position cannot be resumed: "
                + "; ".join(changed)
                + ". Restore the old setting, or start in a new run directory."
            )
        self._parent.set_state(state["position"])


def _arrays(record: bytes, *, length: int, path: str) -> Row:
    ids, weights = unpack_arrays(record, path)
    if len(ids) < 2:
        raise DataError(f"{path}: example {name_of(record)!r} needs two or more ids")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise DataError(
            f"{path}: example {name_of(record)!r} has a weight that is negative or not finite"
        )
    if len(ids) - 1 > length:
        raise DataError(
            f"{path}: example {name_of(record)!r} has {len(ids) - 1} targets but a row holds "
            f"{length}; raise data.max_length or prepare with the smaller one"
        )
    return {"tokens": ids[:-1], "targets": ids[1:], "weights": weights[1:]}


def _packed_row(packed: Row) -> Row:
    # The packer numbers every feature; all features of ours have the same lengths.
    row = {key: packed[key] for key in PACKED}
    row["positions"] = packed["tokens_positions"].astype(np.int32, copy=False)
    segments = packed["tokens_segment_ids"]
    sizes = np.bincount(segments[segments > 0])[1:]
    ends = np.repeat(np.cumsum(sizes, dtype=np.int32), sizes)
    row["visible_until"] = np.pad(ends, (0, len(segments) - len(ends)))
    return row
