"""Read the files beside a data file that hold its tools."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Mapping
from typing import Any

from tl_jax.data.schema import RowError


def read_json(path: str | os.PathLike[str]) -> Any:
    """Return the value of a ``.json`` file or the list of rows of a ``.jsonl`` file, or ``.gz``.

    Raises:
      ValueError: Not JSON in UTF-8; the message names the file.
    """
    name = str(path)
    opener = gzip.open if name.endswith(".gz") else open
    try:
        with opener(name, "rt", encoding="utf-8-sig") as stream:
            if name.removesuffix(".gz").endswith(".jsonl"):
                return [json.loads(line) for line in stream if line.strip()]
            return json.load(stream)
    except (ValueError, EOFError, RecursionError) as error:
        raise ValueError(f"{name}: not JSON in UTF-8: {error}") from error


def read_table(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    """Return the object of a ``.json`` file, such as tools by domain.

    Raises:
      ValueError: Not JSON, or no object.
    """
    value = read_json(path)
    if not isinstance(value, Mapping):
        raise ValueError(f"{path}: expected an object, not {type(value).__name__}")
    return value


def tools_of(tables: Any, key: Any, what: str) -> Any:
    """Return the tool declarations of one suite or domain.

    Args:
      tables: Declarations by name, or None where no such file was found.
      key: The name.
      what: What the names are, for the message.

    Raises:
      RowError: No file, or no such name in it.
    """
    if tables is None:
        raise RowError("the tools are not known: put tools.json beside the file or set tools_path")
    if not isinstance(key, str) or not isinstance(tables.get(key), list):
        raise RowError(f"no tools of the {what} {key!r} in the tools file")
    return tables[key]
