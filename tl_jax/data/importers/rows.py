"""A row as it stands in a data file, and one that cannot be read."""

from __future__ import annotations

import codecs
import dataclasses
import datetime
import json
import math
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from tl_jax.data.importers.json_text import check_characters, load_json, load_loose_json
from tl_jax.errors import RowError

SHOWN = 2000
"""Most bytes or characters of a row that is kept as text."""

_BLANK = " \t\r\n"

REPAIRS: Mapping[str, str] = {
    "nan": "NaN, which table libraries write for what is absent, read as null",
    "row_comma": "a comma behind a row that is a line of its own, left out",
    "python_literal": "a column of lists that were written with str or repr, read",
    "table_null": "a null inside a column of objects, which all have the keys of any, left out",
    "bytes": "bytes that are no text, replaced by their number",
}
"""Every kind of repair that is counted here."""

_TEXT_COLUMNS = ("messages", "conversations", "contents", "prompt", "completion", "input", "tools")
"""Keys under which tables keep lists as text."""
_STRUCTURES = {"messages": ("role", "content"), "conversations": ("from", "value")}
"""Keys that any message has, by that of the list, which may be written as columns."""
_PROSE_TOO = ("prompt", "completion", "input")
"""Those of them that hold plain texts, too."""


@dataclasses.dataclass(frozen=True)
class BadRow:
    """A row that could not be read.

    Attributes:
      path: Source file.
      line: 0-based row number (the line, in a JSON-lines file).
      reason: What is wrong with it.
      row: The row as parsed, or its text where it is not JSON.
      unread: Its keys that nothing read, where it was read and then refused; see ``Trajectory``.
    """

    path: str
    line: int
    reason: str
    row: Any
    unread: Mapping[str, int] = dataclasses.field(default_factory=dict, compare=False)


class JsonText(str):
    """A text of a table at a place that is declared to be JSON, as ``datasets`` does."""


@dataclasses.dataclass(frozen=True, slots=True)
class RawRow:
    """A row as it stands in its file; small and picklable, for other processes to read.

    Attributes:
      path: The file.
      line: 0-based row number (the line, in a JSON-lines file).
      value: The line's bytes where rows are lines of JSON, to be parsed by ``parsed``; else the
        value, or a ``BadRow``.
      table: Whether the file has columns, so that each row has every key of any.
    """

    path: str
    line: int
    value: Any
    table: bool = False


def numbers_lines(path: str) -> bool:
    """Whether the number of a row in a file is that of its line, by the name of the file."""
    return path.lower().removesuffix(".gz").endswith((".jsonl", ".ndjson"))


def parsed(row: RawRow, repairs: Counter[str]) -> Any:
    """Return the value of a row, or a ``BadRow`` where there is none.

    Lists that a table keeps as text are read.

    Args:
      row: The row.
      repairs: Counts what was needed to read it.
    """
    raw = row.value
    try:
        if isinstance(raw, bytes):
            raw = _line(raw, repairs)
        elif row.table and isinstance(raw, dict):
            raw = {name: _plain(cell, repairs) for name, cell in raw.items()}
        if _is_dialogue(raw):
            raw = {"messages": raw}
        return with_lists(raw, repairs) if isinstance(raw, dict) else raw
    except RowError as error:
        return BadRow(row.path, row.line, str(error), raw)
    except (ValueError, RecursionError) as error:
        shown = raw[:SHOWN].decode("utf-8", errors="replace") if isinstance(raw, bytes) else None
        return BadRow(row.path, row.line, why(error), shown)


def _is_dialogue(value: Any) -> bool:
    """Whether a row is nothing but a list of messages."""
    if not isinstance(value, list) or len(value) < 2:
        return False
    return all(isinstance(one, dict) and {"role", "content"} <= one.keys() for one in value)


def load(text: str, repairs: Counter[str]) -> Any:
    """Return the value of JSON text; ``NaN``, which tables have for what is absent, is null.

    Raises:
      ValueError: Not JSON.
    """
    if "NaN" not in text and "Infinity" not in text:
        return json.loads(text)
    found = 0

    def constant(name: str) -> None:
        nonlocal found
        if name != "NaN":
            raise ValueError(f"{name} is no JSON number; write a finite number or null")
        found += 1

    value = json.loads(text, parse_constant=constant)
    if found:
        repairs["nan"] += found
    return value


def why(error: Exception) -> str:
    """Return in plain words what keeps a text from being read."""
    if isinstance(error, UnicodeDecodeError):
        return not_utf8(error.object[error.start])
    if isinstance(error, UnicodeError):
        return f"not UTF-8 text: {str(error)[:200]}"
    if isinstance(error, json.JSONDecodeError) and _before_closing(error.doc, error.pos):
        return f"not JSON: a comma before the closing bracket at character {error.pos + 1}"
    return f"not JSON: {str(error)[:200]}"


def not_utf8(byte: int) -> str:
    """Return what to do about a byte that no UTF-8 text has in that place."""
    return (
        f"not UTF-8 text: byte 0x{byte:02x} ({chr(byte)!r} in Latin-1); if that is its encoding, "
        "convert the file: iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW"
    )


def _before_closing(text: str, position: int) -> bool:
    """Whether the comma at or before ``position`` is the last thing inside a bracket."""
    head, tail = text[: position + 1].rstrip(" \t\r\n]}"), text[position:].lstrip(" \t\r\n,")
    return head.endswith(",") and tail[:1] in ("}", "]")


def _line(raw: bytes, repairs: Counter[str]) -> Any:
    text = raw.removeprefix(codecs.BOM_UTF8).decode("utf-8").strip(_BLANK)
    try:
        return check_characters(load(text, repairs), text)
    except json.JSONDecodeError:
        if not text.endswith("},"):
            raise
    # One of the rows of a list whose brackets are not there.
    value = load(text[:-1], repairs)
    repairs["row_comma"] += 1
    return check_characters(value, text)


def with_lists(row: dict[str, Any], repairs: Counter[str]) -> dict[str, Any]:
    """Return a row whose lists are read where it keeps them as text.

    Raises:
      RowError: Text that begins as a list of messages and is none.
    """
    found: dict[str, Any] = {}
    for key, names in _STRUCTURES.items():
        value = row.get(key)
        if isinstance(value, dict) and (lists := _rows(value, names)):
            found[key] = lists
        elif isinstance(value, list) and value and all(map(_is_object_text, value)):
            found[key] = [load_json(text, f"a text in {key!r}") for text in value]
    for key in _TEXT_COLUMNS:
        text = row.get(key)
        if isinstance(text, str) and text.lstrip()[:1] == "[":
            value = _list(key, text, repairs)
            if value is not None:
                found[key] = value
    return {**row, **found} if found else row


def _is_object_text(value: Any) -> bool:
    return isinstance(value, str) and value.lstrip().startswith("{")


def _rows(columns: dict[str, Any], names: Collection[str]) -> list[Any] | None:
    """Return the messages of an object of columns, as older ``datasets`` store them."""
    values = columns.values()
    if not all(name in columns for name in names) or not all(isinstance(v, list) for v in values):
        return None
    if len(set(map(len, values))) != 1:
        return None
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]


def _list(key: str, text: str, repairs: Counter[str]) -> Any:
    """Return the list that a cell holds as text, or None if it is to stay text."""
    prose = key in _PROSE_TOO
    try:
        value = load_json(text, repr(key))
    except RowError:
        try:
            value = load_loose_json(text, repr(key))
        except RowError as error:
            if prose or key == "tools":
                return None
            raise RowError(
                f"{error}; write the column with json.dumps, not with str or repr"
            ) from error
        repairs["python_literal"] += 1
    if prose and not (value and all(isinstance(entry, Mapping) for entry in value)):
        return None
    return value


def _plain(value: Any, repairs: Counter[str]) -> Any:
    """Return a value of a table as JSON has it, without the nulls that fill objects up."""
    if isinstance(value, JsonText):
        # Its nulls are the row's own: such a column does not fill up.
        return load_json(value, "a value of a column of JSON")
    if isinstance(value, dict):
        found = {key: _plain(part, repairs) for key, part in value.items()}
        # An object that was absent may be there with nothing but nulls in it.
        absent = [
            k
            for k, part in found.items()
            if not isinstance(value[k], JsonText) and (part is None or (part == {} and value[k]))
        ]
        if not absent:
            return found
        repairs["table_null"] += len(absent)
        return {key: part for key, part in found.items() if key not in absent}
    if isinstance(value, list):
        return [_plain(part, repairs) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        if not math.isnan(value):
            raise RowError(f"{value} is no JSON number; write a finite number or null")
        repairs["nan"] += 1
        return None
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            repairs["bytes"] += 1
            return f"[{len(value)} bytes]"
    return value if isinstance(value, str | int | float | None) else str(value)
