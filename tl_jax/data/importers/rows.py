"""The raw rows of a data file, lazily and each with its place, before any format reads them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from tl_jax.data.importers.json_text import check_characters
from tl_jax.data.importers.opened import opened
from tl_jax.errors import DataError

_SHOWN = 2000
"""Most bytes or characters of a row that is kept as text."""


@dataclasses.dataclass(frozen=True)
class BadRow:
    """A row that could not be read.

    Attributes:
      path: Source file.
      line: 0-based row number (the line, in a JSON-lines file).
      reason: What is wrong with it.
      row: The row as parsed, or its text where it is not JSON.
    """

    path: str
    line: int
    reason: str
    row: Any


@dataclasses.dataclass(frozen=True, slots=True)
class RawRow:
    """A row as it stands in its file; small and picklable, for other processes to read.

    Attributes:
      path: The file.
      line: 0-based row number (the line, in a JSON-lines file).
      value: The line's bytes where rows are lines of JSON, to be parsed by ``parsed``; else the
        value, or a ``BadRow``.
    """

    path: str
    line: int
    value: Any


def raw_rows(path: str) -> Iterator[RawRow]:
    """Yield the rows of a file, one in memory at a time where rows are lines.

    Raises:
      DataError: A damaged ``.gz`` file, or a ``.json`` file that is not JSON.
    """
    with opened(path, "rb") as stream:
        if path.removesuffix(".gz").endswith(".json"):
            yield from _whole(path, stream.read())
        else:
            for line, raw in enumerate(stream):
                if raw.strip():
                    yield RawRow(path, line, raw)


def parsed(row: RawRow) -> Any:
    """Return the value of a row, or a ``BadRow`` where there is none."""
    raw = row.value
    if not isinstance(raw, bytes):
        return raw
    try:
        text = raw.decode("utf-8-sig" if row.line == 0 else "utf-8")
        return check_characters(json.loads(text), text)
    except (ValueError, RecursionError) as error:
        shown = raw[:_SHOWN].decode("utf-8", errors="replace")
        return BadRow(row.path, row.line, _reason(error), shown)


def _whole(path: str, raw: bytes) -> Iterator[RawRow]:
    try:
        text = raw.decode("utf-8-sig")
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: {_reason(error)}; a file of one row a line must end in .jsonl"
        ) from error
    for number, row in enumerate(rows if isinstance(rows, list) else [rows]):
        try:
            value = check_characters(row, text)
        except (UnicodeError, RecursionError) as error:
            shown = json.dumps(row)[:_SHOWN] if isinstance(error, UnicodeError) else None
            value = BadRow(path, number, _reason(error), shown)
        yield RawRow(path, number, value)


def _reason(error: Exception) -> str:
    kind = "not UTF-8 text" if isinstance(error, UnicodeError) else "not JSON"
    return f"{kind}: {str(error)[:200]}"
