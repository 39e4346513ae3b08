"""Calls as written text: where their parts stand, and what has no text at all."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from typing import Any

from tl_jax.calls.syntax import MAX_DEPTH

Span = tuple[int, int]

NAME_PATTERN = r"[\w.\-$@/:]++"
"""A tool or parameter name where it stands without quotes."""


@dataclasses.dataclass(frozen=True)
class CallText:
    """A rendered call.

    Attributes:
      text: The call, without a blank before or after it.
      name_span: (start, end) of the tool name, in characters of ``text``.
      argument_spans: Per argument, in order, the span of its name and of its value; quotes and
        brackets belong to the value. The quotes of a name do not belong to it.
    """

    text: str
    name_span: Span
    argument_spans: tuple[tuple[Span, Span], ...]

    def moved(self, by: int, text: str) -> CallText:
        """Return the call as a part of ``text``, ``by`` characters from its start."""
        arguments = tuple(
            (moved(name, by), moved(value, by)) for name, value in self.argument_spans
        )
        return CallText(text, moved(self.name_span, by), arguments)


@dataclasses.dataclass(frozen=True)
class CallSpan:
    """Character spans of one call in a longer text.

    Attributes:
      call: The whole call, with the marks that belong to it alone.
      name: The tool name.
      arguments: Per argument, in the order of the call, the spans of its name and its value.
    """

    call: Span
    name: Span
    arguments: tuple[tuple[Span, Span], ...]


def moved(span: Span, by: int) -> Span:
    """Return a span counted from another place."""
    return span[0] + by, span[1] + by


def json_text(value: Any) -> str:
    """Return a value as JSON, with characters beyond ASCII as they are."""
    return json.dumps(value, ensure_ascii=False)


def check_name(name: str, what: str, names: str = NAME_PATTERN) -> None:
    """Refuse a name that cannot stand without quotes; ``names`` is the pattern of those that can.

    Raises:
      ValueError: It has blanks, brackets or the like, or is empty.
    """
    if not re.compile(names).fullmatch(name):
        raise ValueError(
            f"{what} name {name!r} cannot be written in a call; rename it to letters, digits, _ - ."
        )


def check_value(value: Any, where: str, depth: int = 0) -> None:
    """Refuse a value that no call can have; ``where`` names its place.

    Raises:
      ValueError: It is no JSON value, not finite, too deep, or has a lone surrogate.
    """
    if value is None or isinstance(value, (bool, int)):
        return
    if isinstance(value, str):
        check_text(value, where)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where}: {value} has no literal; use null or a string")
    elif not isinstance(value, (list, tuple, dict)):
        raise ValueError(f"{where}: {type(value).__name__} is not a JSON value")
    elif depth == MAX_DEPTH:
        raise ValueError(f"{where}: nested deeper than {MAX_DEPTH}")
    else:
        items = value
        if isinstance(value, dict):
            items = value.values()
            for key in value:
                check_text(key, where)
        for item in items:
            check_value(item, where, depth + 1)


def check_text(text: Any, where: str) -> None:
    """Refuse what is no text, or no text that UTF-8 can hold.

    Raises:
      ValueError: So it is.
    """
    if not isinstance(text, str):
        raise ValueError(f"{where}: object keys must be strings, not {type(text).__name__}")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{where}: a lone surrogate cannot be written as UTF-8") from None
