"""Read a trajectory file of any known format, row by row, without stopping at bad rows."""

from __future__ import annotations

import dataclasses
import gzip
import itertools
import json
import os
import re
from collections.abc import Iterator
from typing import Any

from tl_jax.data.importers import canonical, rotllama, tl_training
from tl_jax.data.schema import RowError, Trajectory

FORMATS = {module.NAME: module for module in (canonical, tl_training, rotllama)}

_ROWS_TO_RECOGNISE = 50
_SURROGATE = re.compile(r"\\u[dD][89abAB]")


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


@dataclasses.dataclass(frozen=True)
class Source:
    """A file and the format it is read as; iterate over it to get its rows.

    Attributes:
      path: The file.
      format: Name of the format.
      reason: Why this format.
    """

    path: str
    format: str
    reason: str

    def __iter__(self) -> Iterator[Trajectory | BadRow]:
        importer = FORMATS[self.format]
        name = os.path.basename(self.path)
        for line, row in _rows(self.path):
            if isinstance(row, BadRow):
                yield row
                continue
            try:
                if not isinstance(row, dict):
                    raise RowError(f"a row must be an object, not {type(row).__name__}")
                found = importer.trajectory(row, source=name, line=line)
                _check(found)
            except RowError as error:
                yield BadRow(self.path, line, str(error), row)
            except (TypeError, KeyError, AttributeError, ValueError, RecursionError) as error:
                yield BadRow(self.path, line, f"not a {self.format} row: {error!r}", row)
            else:
                yield found


def read(path: str | os.PathLike[str], format: str = "auto") -> Source:  # noqa: A002
    """Open a trajectory file.

    Args:
      path: A ``.json`` (one list) or ``.jsonl`` (one row a line) file, either also with ``.gz``.
      format: A name in ``FORMATS``, or ``"auto"`` to recognise it by the first rows.

    Returns:
      An iterable of ``Trajectory`` and, for rows that cannot be read, ``BadRow``.

    Raises:
      ValueError: An unknown format or file ending, or a file that no importer recognises.
      FileNotFoundError: No such file.
    """
    path = str(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path}: no such file; set data.path to a trajectory file")
    if not path.removesuffix(".gz").endswith((".json", ".jsonl")):
        raise ValueError(f"{path}: expected a .json or .jsonl file, also with .gz")
    if format != "auto":
        if format not in FORMATS:
            raise ValueError(f"unknown format {format!r}; known: auto, {', '.join(FORMATS)}")
        return Source(path, format, "set by the configuration")
    keys: dict[str, None] = {}
    for line, row in itertools.islice(_rows(path), _ROWS_TO_RECOGNISE):
        for name, module in FORMATS.items():
            if reason := module.recognise(row):
                return Source(path, name, f"row {line}: {reason}")
        if isinstance(row, dict):
            keys.update(dict.fromkeys(row))
    seen = f"its rows have the keys {', '.join(keys)}" if keys else "it has no JSON objects"
    raise ValueError(
        f"{path}: format not recognised ({seen}); set data.format to one of {', '.join(FORMATS)}"
    )


def _rows(path: str) -> Iterator[tuple[int, Any]]:
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rb") as stream:
        if path.removesuffix(".gz").endswith(".json"):
            yield from _whole(path, stream.read())
        else:
            for line, raw in enumerate(stream):
                if raw.strip():
                    yield line, _parse(path, line, raw)


def _whole(path: str, raw: bytes) -> Iterator[tuple[int, Any]]:
    rows = _parse(path, 0, raw)
    if isinstance(rows, BadRow):
        raise ValueError(f"{path}: {rows.reason}; a file of one row a line must end in .jsonl")
    yield from enumerate(rows if isinstance(rows, list) else [rows])


def _parse(path: str, line: int, raw: bytes) -> Any:
    try:
        text = raw.decode("utf-8-sig" if line == 0 else "utf-8")
        row = json.loads(text)
        if _SURROGATE.search(text):
            json.dumps(row, ensure_ascii=False).encode()
        return row
    except (ValueError, RecursionError) as error:
        kind = "not UTF-8 text" if isinstance(error, UnicodeError) else "not JSON"
        text = raw[:2000].decode("utf-8", errors="replace")
        return BadRow(path, line, f"{kind}: {str(error)[:200]}", text)


def _check(found: Trajectory) -> None:
    if not any(message.role == "assistant" for message in found.messages):
        raise RowError("no assistant turn")
    if any(message.role == "system" for message in found.messages[1:]):
        raise RowError("a system turn that is not the first")
