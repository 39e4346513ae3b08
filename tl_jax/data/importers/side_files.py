"""Read the files beside a data file that hold its tools, once, in normalised form."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tl_jax.calls.call import ToolSpec
from tl_jax.data.importers.json_text import check_characters
from tl_jax.data.importers.opened import opened
from tl_jax.data.importers.schemas import normalised_tools, repair_tags
from tl_jax.errors import DataError, RowError

Tools = tuple[tuple[ToolSpec, ...], dict[str, str]]
"""Tools, and the tag of the repairs they needed."""


def read_tools(path: str | os.PathLike[str]) -> Tools:
    """Return the tools of a file that is one list of declarations.

    Raises:
      ValueError: Not JSON, or a tool that cannot be read; the message names the file.
    """
    return _normalised(read_json(path), str(path))


def read_tool_table(path: str | os.PathLike[str]) -> dict[str, Tools]:
    """Return the tools by suite or domain of a file that is an object of lists.

    Raises:
      ValueError: Not such a file, or a tool that cannot be read; the message names the file.
    """
    return {
        key: _normalised(declared, f"{path}: {key}") for key, declared in read_table(path).items()
    }


def read_table(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    """Return the object of a ``.json`` file, such as tools by domain.

    Raises:
      ValueError: Not JSON, or no object.
    """
    value = read_json(path)
    if not isinstance(value, Mapping):
        raise ValueError(f"{path}: expected an object, not {type(value).__name__}")
    return value


def read_json(path: str | os.PathLike[str]) -> Any:
    """Return the value of a ``.json`` file or the list of rows of a ``.jsonl`` file, or ``.gz``.

    Raises:
      ValueError: Not JSON in UTF-8, or a damaged ``.gz`` file; the message names the file.
    """
    name = str(path)
    try:
        with opened(name, "rt", encoding="utf-8-sig") as stream:
            if name.removesuffix(".gz").endswith(".jsonl"):
                rows = (line for line in stream if line.strip())
                return [check_characters(json.loads(row), row) for row in rows]
            text = stream.read()
            return check_characters(json.loads(text), text)
    except DataError:
        raise
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name}: not JSON in UTF-8: {error}") from error


def tools_of(tables: Mapping[str, Tools] | None, key: Any, what: str) -> Tools:
    """Return the tools of one suite or domain.

    Args:
      tables: Tools by name, or None where no such file was found.
      key: The name.
      what: What the names are, for the message.

    Raises:
      RowError: No file, or no such name in it.
    """
    if tables is None:
        raise RowError("the tools are not known: put tools.json beside the file or set tools_path")
    if not isinstance(key, str) or key not in tables:
        raise RowError(f"no tools of the {what} {key!r} in the tools file")
    return tables[key]


def _normalised(declared: Any, where: str) -> Tools:
    repairs: Counter[str] = Counter()
    try:
        return normalised_tools(declared, repairs, keep_names=True), repair_tags(repairs)
    except RowError as error:
        raise ValueError(f"{where}: {error}") from error
