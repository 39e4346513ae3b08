"""Examples in a directory of ArrayRecord files, each of bounded size, and what is in each of them.

``index.json`` beside the files names them in their order, with the number of records, the size and
the sha256 of each. A file that was cut off reads as an empty one, so its size is looked at first.
"""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
import hashlib
import importlib
import itertools
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tl_jax.data.examples.build import Example
from tl_jax.data.examples.record import pack_example, unpack_example
from tl_jax.errors import DataError

INDEX = "index.json"
_VERSION = 1
_OPTIONS = "group_size:1,zstd:1"
"""A record of its own for each example, so that any is read alone."""
_BLOCK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Shard:
    """One file of examples.

    Attributes:
      name: Its name in the directory.
      records: How many examples are in it.
      size: Its bytes.
      sha256: Of its bytes.
    """

    name: str
    records: int
    size: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Shards:
    """A directory of examples, from ``open_shards``.

    Attributes:
      path: The directory.
      shards: Its files, in order.
    """

    path: str
    shards: tuple[Shard, ...]

    @property
    def fingerprint(self) -> str:
        """sha256 of what is in the files."""
        return hashlib.sha256("".join(shard.sha256 for shard in self.shards).encode()).hexdigest()

    def __len__(self) -> int:
        return sum(shard.records for shard in self.shards)

    def example(self, index: int) -> Example:
        """Return the example of a number, from 0.

        Raises:
          IndexError: There is none.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        with open_records(self) as record:
            return unpack_example(*record(index))

    def __iter__(self) -> Iterator[Example]:
        with open_records(self) as record:
            for number in range(len(self)):
                yield unpack_example(*record(number))


@contextlib.contextmanager
def open_records(shards: Shards) -> Iterator[Callable[[int], tuple[bytes, str]]]:
    """Give what returns the record of an example by its number, and the file that it is in."""
    names = [os.path.join(shards.path, shard.name) for shard in shards.shards]
    ends = list(itertools.accumulate(shard.records for shard in shards.shards))
    readers: dict[int, Any] = {}

    def record(number: int) -> tuple[bytes, str]:
        at = bisect.bisect_right(ends, number)
        if at not in readers:
            readers[at] = _reader(names[at])
        found = readers[at].read([number - ends[at] + shards.shards[at].records])
        return found[0], names[at]

    try:
        yield record
    finally:
        for reader in readers.values():
            reader.close()


def open_shards(path: str | os.PathLike[str]) -> Shards:
    """Open a directory of examples, whose files must be there and whole.

    Raises:
      DataError: No such directory, its list is damaged, or a file is missing or was cut off.
    """
    folder = Path(path)
    try:
        found = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        version, entries = found["version"], found["shards"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: no examples there; write them with `tl-jax prepare`") from error
    if version != _VERSION:
        raise DataError(f"{path}: examples of another version; run `tl-jax prepare` again")
    try:
        shards = tuple(Shard(**entry) for entry in entries)
        kinds = [type(value) for shard in shards for value in dataclasses.astuple(shard)]
        if kinds != [str, int, int, str] * len(shards):
            raise TypeError("a value of another type")
    except TypeError as error:
        raise DataError(
            f"{folder / INDEX} is damaged ({error}); run `tl-jax prepare` again"
        ) from error
    for shard in shards:
        try:
            size = (folder / shard.name).stat().st_size
        except OSError:
            size = -1
        if size != shard.size:
            what = "is missing" if size < 0 else f"has {size} bytes and not {shard.size}"
            raise DataError(f"{folder / shard.name} {what}; run `tl-jax prepare` again")
    return Shards(str(path), shards)


def shard_name(number: int) -> str:
    """Return the name of a file by its number."""
    return f"{number:05d}.array_record"


def write_shard(path: Path, records: Iterable[bytes]) -> Shard:
    """Write records to a file, which appears when it is whole."""
    # Processes on two hosts may have the same number.
    draft = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    writer = _module().ArrayRecordWriter(str(draft), _OPTIONS)
    count = 0
    for record in records:
        writer.write(record)
        count += 1
    writer.close()
    digest = hashlib.sha256()
    with open(draft, "rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    size = draft.stat().st_size
    draft.replace(path)
    return Shard(path.name, count, size, digest.hexdigest())


def write_index(folder: Path, shards: Sequence[Shard]) -> None:
    """Write what is in each file; the last file of a directory to write."""
    entries = [dataclasses.asdict(shard) for shard in shards]
    text = json.dumps({"version": _VERSION, "shards": entries}, indent=1)
    (folder / INDEX).write_text(text + "\n", encoding="utf-8")


def write_examples(path: str | os.PathLike[str], examples: Iterable[Example]) -> None:
    """Write examples to a new directory of one file."""
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    shard = write_shard(folder / shard_name(0), map(pack_example, examples))
    write_index(folder, [shard] if shard.records else [])


def check_available() -> None:
    """Refuse a machine on which examples can be neither written nor read.

    Raises:
      DataError: The package ``array_record`` cannot be imported.
    """
    _module()


def _reader(path: str) -> Any:
    return _module().ArrayRecordReader(path, "readahead_buffer_size:0,max_parallelism:0")


def _module() -> Any:
    try:
        return importlib.import_module("array_record.python.array_record_module")
    except ImportError as error:
        raise DataError(
            "examples are kept in ArrayRecord files, but the package array_record cannot be "
            f"imported ({error}); it has wheels for Linux on x86-64 and ARM and for macOS on ARM: "
            "pip install array_record there"
        ) from error
