"""The rows of a JSON file, in whatever shape it keeps them, as lines of JSON.

One row a line, rows over several lines, one list, or one object that holds the rows: by split,
under a key of its own, or column by column. The name's ending does not matter. Text is UTF-8, or
UTF-16 and UTF-32 as the first bytes say.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tl_jax.data.importers.opened import opened_text
from tl_jax.data.importers.rows import RawRow, not_utf8, numbers_lines, why
from tl_jax.data.importers.splits import choose, is_split_name
from tl_jax.errors import DataError

IsRow = Callable[[Any], bool]
"""Whether a value is a row of a known format."""

_SPACE = re.compile(r"[ \t\r\n]*")
_CHUNK = 1 << 20
_NEAR_END = 16
"""An error in so many last characters may come from a text's being cut there."""
_WRAPPERS = ("data", "rows", "examples", "samples", "instances", "records")
_DECODER = json.JSONDecoder()
_LOOKED_AT = 50
"""So many rows of a list tell whether it is one of rows."""


def json_rows(path: str, split: str, is_row: IsRow) -> Iterator[RawRow]:
    """Yield the rows of a file, few in memory at a time unless the file is one object.

    Args:
      path: The file.
      split: Name of the split, where the file is an object of several; empty: see ``splits``.
      is_row: Tells a row that stands alone from an object that holds the rows.

    Raises:
      DataError: The file is empty, no text, no JSON, or has no such split; a damaged ``.gz``.
    """
    shape = _shape(path)
    if shape == "object":
        rows, _ = _held(path, split, is_row)
        for number, row in enumerate(rows):
            yield RawRow(path, number, json.dumps(row).encode())
    elif split:
        raise DataError(f"{path}: there is no split {split!r}; its rows are in no splits at all")
    elif shape == "lines":
        with opened_text(path) as text:
            for number, line in enumerate(text):
                if line.strip():
                    yield RawRow(path, number, line.encode("utf-8", "surrogateescape"))
    else:
        yield from _values(path, shape == "list")


def json_split(path: str, split: str, is_row: IsRow) -> str:
    """Return in words which part of a file is taken, where it has several; else an empty text.

    Raises:
      DataError: As for ``json_rows``.
    """
    return _held(path, split, is_row)[1] if _shape(path) == "object" else ""


def _shape(path: str) -> str:
    """Return how a file keeps its rows: as ``lines``, ``values``, a ``list`` or an ``object``."""
    with opened_text(path) as text:
        first = _filled(text)
        if first.startswith("[") and len(first) == _CHUNK:
            return "list"
        while first and not first.endswith("\n") and (more := text.readline(_CHUNK)):
            first += more
        second = _filled(text)
    if not first:
        raise DataError(f"{path}: the file is empty")
    first = first.lstrip("\ufeff").strip()
    value = _value(first.removesuffix(",") if first.endswith("},") else first)
    if value is not None and second:
        return "lines"
    if isinstance(value, Mapping | list):
        return "list" if isinstance(value, list) else "object"
    if first.startswith("["):
        return "list"
    if not first.startswith("{") or not _goes_on(first):
        return "lines"
    try:
        with opened_text(path) as text:
            scanner = _Scanner(path, text)
            found = [scanner.value() for _ in range(2) if scanner.character()]
    except DataError:
        if isinstance(_value(second.strip().removesuffix(",")), Mapping):
            return "lines"  # and the first is cut off
        raise
    return "object" if len(found) == 1 else "values"


def _filled(text: io.TextIOWrapper) -> str:
    """Return the next line that is not blank, or its beginning if it is very long."""
    while (line := text.readline(_CHUNK)) and not line.strip("\ufeff \t\r\n"):
        pass
    return line


def _goes_on(first: str) -> bool:
    """Whether the value that begins in a line may end in another, or another value begins in it."""
    try:
        _DECODER.raw_decode(first)
    except json.JSONDecodeError as error:
        return _is_cut(error)
    except RecursionError:
        return False
    return True


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_cut(error: json.JSONDecodeError) -> bool:
    return error.msg.startswith("Unterminated") or error.pos >= len(error.doc) - _NEAR_END


class _Scanner:
    """Reads one JSON value after the other from a text, a part of it in memory at a time."""

    def __init__(self, path: str, text: io.TextIOWrapper):
        self._path, self._text = path, text
        self._buffer, self._at, self._lines = "", 0, 0

    def line(self) -> int:
        """Return the 0-based number of the line that is read."""
        return self._lines + self._buffer.count("\n", 0, self._at)

    def character(self) -> str:
        """Go to the next character that is not blank and return it; an empty text at the end."""
        while True:
            self._at = _SPACE.match(self._buffer, self._at).end()  # pyright: ignore
            if self._at < len(self._buffer) or not self._more():
                return self._buffer[self._at : self._at + 1]

    def skip(self) -> None:
        """Leave out one character."""
        self._at += 1

    def value(self) -> str:
        """Return the text of the value that begins here.

        Raises:
          DataError: Not JSON.
        """
        while True:
            try:
                _, end = _DECODER.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                if not (_is_cut(error) and self._more()):
                    raise self.error(why(error), error.pos) from error
            except RecursionError as error:
                raise self.error(why(error), self._at) from error
            else:
                text, self._at = self._buffer[self._at : end], end
                return text

    def error(self, reason: str, position: int | None = None) -> DataError:
        """Return the error with its line and, if there is no position, that of the scanner."""
        line = self._lines + self._buffer.count("\n", 0, self._at if position is None else position)
        return DataError(f"{self._path}: line {line + 1}: {reason}")

    def _more(self) -> bool:
        self._lines += self._buffer.count("\n", 0, self._at)
        rest = self._buffer[self._at :]
        chunk = self._text.read(max(_CHUNK, len(rest)))
        self._buffer, self._at = rest + chunk, 0
        return bool(chunk)


def _values(path: str, in_list: bool) -> Iterator[RawRow]:
    with opened_text(path) as text:
        scanner, number = _Scanner(path, text), 0
        if in_list:
            scanner.character()
            scanner.skip()
        while (character := scanner.character()) and not (in_list and character == "]"):
            place = scanner.line() if numbers_lines(path) and not in_list else number
            yield RawRow(path, place, scanner.value().encode("utf-8", "surrogateescape"))
            number += 1
            if in_list and (character := scanner.character()) not in ("]", ""):
                if character != ",":
                    raise scanner.error(f"not JSON: ',' or ']' must follow row {number}")
                scanner.skip()
                if scanner.character() == "]":
                    raise scanner.error("not JSON: a comma before the closing bracket")
        if in_list and not character:
            raise scanner.error(f"the list is not closed: the file is cut off after row {number}")
        if in_list:
            scanner.skip()
            if scanner.character():
                raise scanner.error("more text after the end of the list")


def _held(path: str, split: str, is_row: IsRow) -> tuple[Sequence[Any], str]:
    """Return the rows in a file of one object, and in words which of its parts they are."""
    with opened_text(path) as text:
        whole = text.read().lstrip("\ufeff")
    try:
        whole.encode()
        value = json.loads(whole)
    except UnicodeEncodeError as error:
        line = whole.count("\n", 0, error.start) + 1
        reason = not_utf8(ord(whole[error.start]) & 0xFF)
        raise DataError(f"{path}: line {line}: {reason}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: {why(error)}") from error
    parts = {} if is_row(value) else _parts(value, is_row)
    if parts:
        name, note = choose(parts, split, path)
        alone = "" if note or is_split_name(name) else f"the rows under {name!r}"
        return parts[name], note or alone
    if split:
        raise DataError(f"{path}: it has no split {split!r}; its keys are {', '.join(value)}")
    columns = None if is_row(value) else _columns(value)
    return ([value], "") if columns is None else (columns, "columns of equal length")


def _parts(value: Mapping[str, Any], is_row: IsRow) -> dict[str, list[Any]]:
    """Return the lists of rows in an object by their keys."""
    lists = {
        key: part
        for key, part in value.items()
        if isinstance(part, list) and part and all(isinstance(row, Mapping) for row in part)
    }
    found = {key: part for key, part in lists.items() if any(map(is_row, part[:_LOOKED_AT]))}
    if found:
        return found
    return {k: part for k, part in lists.items() if k in _WRAPPERS or is_split_name(k)}


def _columns(value: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Return the rows of an object of columns, each a list or, as pandas has it, by row number."""
    columns = list(value.values())
    if all(isinstance(column, list) and column for column in columns):
        if len(set(map(len, columns))) != 1:
            return None
    elif all(isinstance(column, Mapping) and column for column in columns):
        if any(column.keys() != columns[0].keys() for column in columns):
            return None
        if not all(key.isdecimal() for key in columns[0]):
            return None
        columns = [list(column.values()) for column in columns]
    else:
        return None
    return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]
