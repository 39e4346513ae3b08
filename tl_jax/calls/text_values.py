"""Argument values that stand between tags without quotes.

The rule: what is JSON is read as JSON, ``True``, ``False``, ``None`` and Python lists and
dictionaries as what they are, everything else as a text. Where the tools are known, a parameter
that is declared as a string, and as nothing else but null, is read as a text whatever it looks
like. A text that would be read otherwise is written as a JSON string, and is read back as such.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tl_jax.calls import python_style
from tl_jax.calls.call_text import json_text
from tl_jax.calls.json_values import scan_value
from tl_jax.calls.syntax import CallSyntaxError

CDATA, CDATA_END = "<![CDATA[", "]]>"
"""Round a text that some forms mark as such."""

_NULLS = ("null", "None")
_WORDS = {"True": True, "False": False, "None": None}
_MOST_CHOICES = 4


def write_value(value: Any, closing: str) -> str:
    """Return the text of a value before a closing tag, which does not occur in it."""
    if isinstance(value, str) and not _must_be_quoted(value, closing):
        return value
    return write_json(value, closing)


def write_json(value: Any, closing: str) -> str:
    """Return a value as JSON before a closing tag, which does not occur in it."""
    # A tag can only stand in a string, where its first character may be an escape.
    return json_text(value).replace(closing, f"\\u{ord(closing[0]):04x}{closing[1:]}")


def read_value(text: str, closing: str, schema: Mapping[str, Any] | None = None) -> Any:
    """Return the value of a text before a closing tag.

    Args:
      text: The text.
      closing: The tag.
      schema: What is declared for the parameter, if that is known.
    """
    kinds = _kinds(schema or {})
    if "string" not in kinds or kinds - {"string", "null"}:
        return _guess(text)
    if "null" in kinds and text in _NULLS:
        return None
    quoted = _read_json(text) if text.startswith('"') else None
    return quoted if isinstance(quoted, str) and _must_be_quoted(quoted, closing) else text


def _must_be_quoted(text: str, closing: str) -> bool:
    """Tell whether a text would not be read back as it is."""
    held = closing in text or "\0" in text or text.startswith(("\n", CDATA)) or text.endswith("\n")
    return held or _guess(text) is not text


def _guess(text: str) -> Any:
    """Return what a text looks like; the very text if it looks like nothing else."""
    try:
        return _read_json(text)
    except CallSyntaxError:
        pass
    if text in _WORDS:
        return _WORDS[text]
    if text[:1] in ("[", "{"):
        try:
            return _whole(python_style.scan_value, text)
        except CallSyntaxError:
            pass
    return text


def _read_json(text: str) -> Any:
    return _whole(scan_value, text)


def _whole(scan: Callable[[str, int, int], tuple[Any, int]], text: str) -> Any:
    value, end = scan(text, 0, 0)
    if end < len(text):
        raise CallSyntaxError("trailing_text", end)
    return value


def _kinds(schema: Mapping[str, Any], depth: int = 0) -> frozenset[str]:
    """Return the types that a schema allows, as far as it says; ``any`` where it does not."""
    kind = schema.get("type")
    if isinstance(kind, str) and kind != "any":
        return frozenset({kind})
    if isinstance(kind, (list, tuple)):
        return frozenset(map(str, kind))
    for key in ("anyOf", "oneOf"):
        choices = schema.get(key)
        if isinstance(choices, (list, tuple)) and depth < _MOST_CHOICES:
            found = (_kinds(c if isinstance(c, Mapping) else {}, depth + 1) for c in choices)
            return frozenset().union(*found)
    listed = schema.get("enum")
    if isinstance(listed, (list, tuple)) and all(isinstance(item, str) for item in listed):
        return frozenset({"string"})
    return frozenset({"any"})
