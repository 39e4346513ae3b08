"""Scanner for JSON values (RFC 8259) that names what is wrong and where.

``json.loads`` is no scanner for model output: it lets the last of two equal keys win, reads NaN
and lone surrogates, and stops at the interpreter's recursion limit. This one refuses all four.
Scanning is one pass of possessive patterns: time is linear in the text, nothing is evaluated.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tl_jax.calls.syntax import MAX_DEPTH, MAX_DIGITS, CallSyntaxError

_BLANK = r"[ \t\r\n]*+"
_SPACE = re.compile(_BLANK)
_COMMA = re.compile(rf"{_BLANK},{_BLANK}")
_COLON = re.compile(rf"{_BLANK}:{_BLANK}")
_STRING_PATTERN = r'"([^"\\\x00-\x1f]*+(?:\\[^\x00-\x1f][^"\\\x00-\x1f]*+)*+)"'
_STRING = re.compile(_STRING_PATTERN)
_WHOLE = r"-?+(?:0|[1-9][0-9]*+)"
_END = r"(?=[ \t\r\n,\]}]|\Z)"
_TOKEN = re.compile(
    rf"{_STRING_PATTERN}|({_WHOLE}){_END}"
    rf"|({_WHOLE}(?:\.[0-9]++)?+(?:[eE][+-]?+[0-9]++)?+){_END}|(true|false|null)\b|([\[{{])"
)
_TEXT, _INTEGER, _FLOAT, _LITERAL = range(1, 5)
_LITERALS = {"true": True, "false": False, "null": None}
_NON_FINITE = re.compile(r"[+-]?(?:nan|NaN|inf|Infinity)\b")


def skip(text: str, at: int) -> int:
    """Return the position of the first character from ``at`` on that is no blank."""
    found = _SPACE.match(text, at)
    assert found, "blanks may be none"
    return found.end()


def scan_value(text: str, at: int, depth: int) -> tuple[Any, int]:
    """Read the value that begins at ``at``.

    Args:
      text: The whole text.
      at: Where the value begins.
      depth: Brackets around the value; at ``MAX_DEPTH`` no further one may open.

    Returns:
      The value and the position after it.

    Raises:
      CallSyntaxError: No such value begins there.
    """
    token = _TOKEN.match(text, at)
    if token is None:
        raise _value_error(text, at)
    kind = token.lastindex
    if kind == _TEXT:
        return (_unescape(text, token) if "\\" in token[1] else token[1]), token.end()
    if kind == _LITERAL:
        return _LITERALS[token[0]], token.end()
    if kind == _INTEGER:
        return _integer(token[0], at), token.end()
    if kind == _FLOAT:
        return _float(token[0], at), token.end()
    if depth >= MAX_DEPTH:
        raise CallSyntaxError("too_deep", at)
    if text[at] == "[":
        return _array(text, at, depth + 1)
    return scan_object(text, at, depth + 1)


def scan_object(text: str, at: int, depth: int) -> tuple[dict[str, Any], int]:
    """Read the object whose ``{`` is at ``at``.

    Args:
      text: The whole text.
      at: Where the object begins.
      depth: Brackets around its members; 0 if the members are a call's arguments.

    Returns:
      The members, in order, and the position after the closing bracket.

    Raises:
      CallSyntaxError: No object begins there.
    """
    members: dict[str, Any] = {}
    at = skip(text, at + 1)
    if text[at : at + 1] == "}":
        return members, at + 1
    while True:
        key, colon = _key(text, at)
        if key in members:
            raise CallSyntaxError("duplicate_key" if depth else "duplicate_argument", at)
        members[key], at = scan_value(text, colon, depth)
        comma = _COMMA.match(text, at)
        if comma is None:
            return members, close(text, at, "}")
        at = comma.end()


def close(text: str, at: int, bracket: str) -> int:
    """Return the position after ``bracket``, which must come next but for blanks.

    Raises:
      CallSyntaxError: Something else comes next, or nothing.
    """
    at = skip(text, at)
    following = text[at : at + 1]
    if following != bracket:
        raise CallSyntaxError("missing_delimiter" if following else "truncated", at)
    return at + 1


def _array(text: str, at: int, depth: int) -> tuple[list[Any], int]:
    values: list[Any] = []
    at = skip(text, at + 1)
    if text[at : at + 1] == "]":
        return values, at + 1
    while True:
        value, at = scan_value(text, at, depth)
        values.append(value)
        comma = _COMMA.match(text, at)
        if comma is None:
            return values, close(text, at, "]")
        at = comma.end()


def _key(text: str, at: int) -> tuple[str, int]:
    """Read a quoted key and its colon."""
    string = _STRING.match(text, at)
    if string is None:
        following = text[at : at + 1]
        if following == '"':
            raise CallSyntaxError("bad_string", at)
        raise CallSyntaxError("bad_key" if following else "truncated", at)
    colon = _COLON.match(text, string.end())
    if colon is None:
        at = skip(text, string.end())
        raise CallSyntaxError("bad_key" if at < len(text) else "truncated", at)
    return (_unescape(text, string) if "\\" in string[1] else string[1]), colon.end()


def _unescape(text: str, string: re.Match[str]) -> str:
    try:
        value = json.loads(text[string.start(1) - 1 : string.end(1) + 1])
    except json.JSONDecodeError as error:
        raise CallSyntaxError("bad_escape", string.start(1) - 1 + error.pos) from None
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:  # \ud83d without the other half
            raise CallSyntaxError("bad_escape", string.start(1) - 1) from None
    return value


def _integer(token: str, at: int) -> int:
    if len(token) > MAX_DIGITS and len(token.lstrip("-")) > MAX_DIGITS:
        raise CallSyntaxError("bad_number", at)
    return int(token)


def _float(token: str, at: int) -> float:
    if len(token) > MAX_DIGITS:
        raise CallSyntaxError("bad_number", at)
    number = float(token)
    if number in (float("inf"), float("-inf")):
        raise CallSyntaxError("non_finite", at)
    return number


def _value_error(text: str, at: int) -> CallSyntaxError:
    first = text[at : at + 1]
    if not first:
        return CallSyntaxError("truncated", at)
    if first == '"':
        return CallSyntaxError("bad_string", at)
    if _NON_FINITE.match(text, at):
        return CallSyntaxError("non_finite", at)
    if first in "+-.0123456789":
        return CallSyntaxError("bad_number", at)
    return CallSyntaxError("unquoted_value" if first.isalpha() else "bad_value", at)
