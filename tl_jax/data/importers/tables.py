"""The rows of tables in CSV, Parquet and Arrow (Feather) files, few in memory at a time."""

from __future__ import annotations

import contextlib
import csv
import functools
import importlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tl_jax.data.importers.opened import opened_text
from tl_jax.data.importers.rows import BadRow, JsonText, RawRow, not_utf8
from tl_jax.errors import DataError

_BATCH_ROWS = 256
_DELIMITERS = ",;\t|"
_LONGEST_CELL = 2**31 - 1
_IPC_FILE, _FEATHER_1 = b"ARROW1", b"FEA1"
_JSON = "arrow.json"


def csv_rows(path: str) -> Iterator[RawRow]:
    """Yield the rows of a CSV file whose first line names the columns; empty cells are absent.

    Raises:
      DataError: The file is empty, names a column twice, or cannot be divided into cells.
    """
    csv.field_size_limit(_LONGEST_CELL)
    with opened_text(path, newline="") as text:
        head = text.readline()
        delimiter = max(_DELIMITERS, key=head.count)
        cells = csv.reader(itertools.chain([head], text), delimiter=delimiter, strict=True)
        try:
            names = next(cells, None)
            if not names:
                raise DataError(f"{path}: the file is empty")
            if twice := [name for name, number in Counter(names).items() if number > 1]:
                raise DataError(f"{path}: its first line names the column {twice[0]!r} twice")
            for number, row in enumerate(cells):
                if row:
                    yield RawRow(path, number, _named(path, number, names, row), table=True)
        except csv.Error as error:
            raise DataError(f"{path}: line {cells.line_num}: not CSV: {error}") from error


def parquet_rows(path: str) -> Iterator[RawRow]:
    """Yield the rows of a Parquet file.

    Raises:
      DataError: pyarrow is not installed, or the file is damaged.
    """
    parquet = _pyarrow(path, "pyarrow.parquet")
    # Buffered beforehand, the whole file would be in memory before the first row.
    with _arrow_errors(path), parquet.ParquetFile(path, pre_buffer=False) as file:
        yield from _of_batches(path, file.iter_batches(batch_size=_BATCH_ROWS))


def arrow_rows(path: str) -> Iterator[RawRow]:
    """Yield the rows of an Arrow file or stream, such as Feather's or a cache of ``datasets``.

    Raises:
      DataError: As for ``parquet_rows``.
    """
    arrow = _pyarrow(path, "pyarrow")
    with open(path, "rb") as stream:
        head = stream.read(len(_IPC_FILE))
    if head.startswith(_FEATHER_1):
        raise DataError(f"{path}: Feather in its old version 1; write it again as Parquet")
    with _arrow_errors(path), arrow.memory_map(path) as source:
        if head == _IPC_FILE:
            with arrow.ipc.open_file(source) as file:
                batches = map(file.get_batch, range(file.num_record_batches))
                yield from _of_batches(path, batches)
        else:
            with arrow.ipc.open_stream(source) as batches:
                yield from _of_batches(path, batches)


def _of_batches(path: str, batches: Iterable[Any]) -> Iterator[RawRow]:
    number = 0
    for batch in batches:
        found = {field.name: _json_reader(field.type) for field in batch.schema}
        readers = {name: reader for name, reader in found.items() if reader is not None}
        for start in range(0, batch.num_rows, _BATCH_ROWS):
            for row in batch.slice(start, _BATCH_ROWS).to_pylist(maps_as_pydicts="strict"):
                row.update({name: reader(row[name]) for name, reader in readers.items()})
                yield RawRow(path, number, row, table=True)
                number += 1


def _json_reader(kind: Any) -> Callable[[Any], Any] | None:
    """Return what marks the texts of JSON in a value of an Arrow type; None if it has none."""
    if getattr(kind, "extension_name", None) == _JSON:
        return lambda value: value if value is None else JsonText(value)
    is_map = hasattr(kind, "item_type")
    if is_map or hasattr(kind, "value_type"):
        part = _json_reader(kind.item_type if is_map else kind.value_type)
        if part is None:
            return None
        parts = functools.partial(_each, part)
        return lambda value: value and parts(value)
    fields = [kind.field(index) for index in range(kind.num_fields)]
    named = {field.name: part for field in fields if (part := _json_reader(field.type))}
    if not named:
        return None
    return lambda value: value and value | {name: named[name](value[name]) for name in named}


def _each(part: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, dict):
        return {name: part(each) for name, each in value.items()}
    return [part(each) for each in value]


def _named(path: str, number: int, names: list[str], cells: list[str]) -> Any:
    """Return the cells of a CSV row by column, or what is wrong with it."""
    reason = ""
    if len(cells) != len(names):
        reason = f"{len(cells)} cells, but the first line names {len(names)} columns"
    try:
        "".join(cells).encode()
    except UnicodeEncodeError as error:
        reason = not_utf8(ord(error.object[error.start]) & 0xFF)
        cells = [cell.encode(errors="backslashreplace").decode() for cell in cells]
    if reason:
        return BadRow(path, number, reason, cells)
    return {name: cell for name, cell in zip(names, cells, strict=True) if cell}


def _pyarrow(path: str, name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DataError(
            f"{path}: Parquet and Arrow files need pyarrow, which is not installed: "
            "pip install 'tl_jax[data]'"
        ) from error


@contextlib.contextmanager
def _arrow_errors(path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, NotImplementedError) as error:
        if isinstance(error, DataError):
            raise
        # pyarrow's own errors are all among these.
        raise DataError(f"{path}: it cannot be read: {str(error)[:300]}") from error
