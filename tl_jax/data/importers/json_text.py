"""Read JSON that a source keeps as text inside its rows."""

from __future__ import annotations

import json
import re
from typing import Any

from tl_jax.calls.parse import parse_call
from tl_jax.errors import RowError

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def check_characters(value: Any, text: str) -> Any:
    """Return ``value``, which was read from JSON text, if all its characters are some.

    Raises:
      UnicodeEncodeError: A lone surrogate, high or low, which cannot be written as UTF-8.
    """
    if _SURROGATE.search(text):
        json.dumps(value, ensure_ascii=False).encode()
    return value


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
        return check_characters(json.loads(text, parse_constant=_no_constant), text)
    except (ValueError, RecursionError) as error:
        raise RowError(f"{what} is not JSON: {str(error)[:200]}") from error


def load_json_at(text: str, start: int, what: str) -> tuple[Any, int]:
    """Return the JSON value that begins at ``start``, and where it ends.

    Raises:
      RowError: As for ``load_json``.
    """
    try:
        value, end = _DECODER.raw_decode(text, start)
        return check_characters(value, text[start:end]), end
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
            arguments = parse_call(f"value(x={text})").arguments
        except ValueError:
            raise error from None
        # "{...}, y={...}" would be read as two arguments.
        if len(arguments) != 1:
            raise
        return arguments["x"]


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)
