"""The rows of JSON lines, each with its place in the file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

from tl_jax.data.importers.opened import opened_text
from tl_jax.errors import DataError, RowError


def json_objects(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the objects of JSON lines, each with its place in the file.

    Raises:
      DataError: There is no such file, or it is damaged.
      RowError: A line that is no JSON object.
    """
    if not os.path.isfile(path):
        raise DataError(f"no file {path}")
    with opened_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            place = f"{path}:{number}"
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                why = getattr(error, "msg", error)
                raise RowError(f"{place}: not JSON ({why}); a file has one item a line") from error
            if not isinstance(row, dict):
                raise RowError(f"{place}: no JSON object; a file has one item a line")
            yield place, row
