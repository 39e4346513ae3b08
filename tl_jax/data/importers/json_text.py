"""Read JSON that a source keeps as text inside its rows."""

from __future__ import annotations

import json
import re
from typing import Any

from tl_jax.calls.parse import parse_call
from tl_jax.data.schema import RowError

_SURROGATE = re.compile(r"\\u[dD][89abAB]")


def load_json(text: str, what: str) -> Any:
    """Return the value of JSON text.

    Args:
      text: The text.
      what: What it is, for the message.

    Raises:
      RowError: Not JSON (``NaN`` and ``Infinity`` are not), or with lone surrogates in it, which
        cannot be written as UTF-8.
    """
    try:
        value = json.loads(text, parse_constant=_no_constant)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except (ValueError, RecursionError) as error:
        raise RowError(f"{what} is not JSON: {str(error)[:200]}") from error


def load_loose_json(text: str, what: str) -> Any:
    """Return the value of JSON text or of a Python literal, such as ``{'a': None}``.

    Raises:
      RowError: Neither.
    """
    try:
        return load_json(text, what)
    except RowError as error:
        try:
            return parse_call(f"value(x={text})").arguments["x"]
        except ValueError:
            raise error from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
