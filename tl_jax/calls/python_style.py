"""Scanner for calls in Python keyword form, ``name(key = 'value', n = 1)``.

Grammar, a closed subset of Python with the names that real interfaces use:

    calls  := call (newline call)* | "[" call ("," call)* [","] "]"
    call   := name "(" [pair ("," pair)* [","]] ")"
    pair   := name "=" value
    value  := string+ | number | literal | "[" values "]" | "(" values ")" | "{" entries "}" | words
    name   := letters, digits and any of _ . - $ @ / :

Strings take either quote, Python escapes and implicit concatenation; numbers are decimal with at
most one sign; literals are True, False, None and their JSON spellings; tuples become lists. Words
without quotes are a text only where a form says so.
Names are compared as written, so keywords (``from``) and hyphens (``user-id``) are ordinary.
Scanning is one pass of possessive patterns: time is linear in the text, nothing is evaluated.
"""

from __future__ import annotations

import re
from typing import Any

from tl_jax.calls.call import ToolCall
from tl_jax.calls.call_text import NAME_PATTERN, CallSpan
from tl_jax.calls.syntax import MAX_DEPTH, MAX_DIGITS, CallSyntaxError, check_room

_SPACE = re.compile(r"[ \t\r\n]*+")
_COMMA = re.compile(r"[ \t\r\n]*+,[ \t\r\n]*+")
_NAME = re.compile(NAME_PATTERN)
_HEAD = re.compile(rf"({NAME_PATTERN})[ \t]*+\(")
_KEY = re.compile(rf"({NAME_PATTERN})[ \t\r\n]*+=[ \t\r\n]*+")
_STRING = re.compile(
    r"'([^'\\\n\r]*+(?:\\[^\n\r][^'\\\n\r]*+)*+)'|\"([^\"\\\n\r]*+(?:\\[^\n\r][^\"\\\n\r]*+)*+)\""
)
_NUMBER = re.compile(r"[+-]?+(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][+-]?+[0-9]++)?+")
# The common case of a number, which needs no further checks.
_INTEGER = re.compile(r"-?+(?:0|[1-9][0-9]{0,17}+)(?=[ \t\r\n,)\]}])")
_WORD = re.compile(r"[^\W\d]\w*+")
_BARE = re.compile(r"[^\W\d][^,()\[\]{}'\"=\\\r\n]*+")
_ESCAPE = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{1,3})|(.))", re.DOTALL
)
_CHARACTER = {
    "\\": "\\",
    "'": "'",
    '"': '"',
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "v": "\v",
}
_QUOTES = ("'", '"')
_BLANKS = (" ", "\t", "\r", "\n")
_LITERALS = {"True": True, "true": True, "False": False, "false": False, "None": None, "null": None}
_NON_FINITE = re.compile(r"[+-]?(?:nan|NaN|inf|Infinity)\b")


def scan_calls(
    text: str, at: int, most: int, *, listed: bool, lines: bool, bare: bool
) -> tuple[list[ToolCall], int]:
    """Read the calls that begin at ``at``; see ``style.Form.parse``.

    Args:
      text: The whole text.
      at: Where they begin.
      most: How many there may be.
      listed: They may stand in brackets.
      lines: They may stand on lines of their own.
      bare: Words without quotes are read as a text.

    Returns:
      The calls, and the position after them and the blanks behind.

    Raises:
      CallSyntaxError: None begins there.
    """
    if listed and (text.startswith("[", at) or not lines):
        return _bracketed_calls(text, at, most, bare)
    call, span = scan_call(text, at, bare=bare)
    calls = [call]
    at = span.call[1]
    while (following := _skip(text, at)) < len(text):
        # A further call stands on a line of its own.
        if "\n" not in text[at:following] or _HEAD.match(text, following) is None:
            return calls, following
        check_room(len(calls), most, following)
        call, span = scan_call(text, following, bare=bare)
        calls.append(call)
        at = span.call[1]
    return calls, following


def _bracketed_calls(text: str, at: int, most: int, bare: bool) -> tuple[list[ToolCall], int]:
    if not text.startswith("[", at):
        raise CallSyntaxError("no_call" if at < len(text) else "truncated", at)
    calls: list[ToolCall] = []
    at = _skip(text, at + 1)
    while not calls or text[at : at + 1] != "]":
        check_room(len(calls), most, at)
        call, span = scan_call(text, at, bare=bare)
        calls.append(call)
        at = _next_item(text, span.call[1], "]")
    return calls, _skip(text, at + 1)


def scan_call(text: str, at: int, *, bare: bool = False) -> tuple[ToolCall, CallSpan]:
    """Read the call that begins at ``at``, and where its parts are; see ``scan_calls``."""
    head = _HEAD.match(text, at)
    if head is None:
        raise _head_error(text, at)
    arguments: dict[str, Any] = {}
    spans = []
    at = _skip(text, head.end())
    while text[at : at + 1] != ")":
        key = _KEY.match(text, at)
        if key is None:
            raise _argument_error(text, at)
        if key[1] in arguments:
            raise CallSyntaxError("duplicate_argument", at)
        words = _BARE.match(text, key.end()) if bare else None
        if words is not None and words[0].rstrip() not in _LITERALS:
            arguments[key[1]], at = words[0].rstrip(), key.end() + len(words[0].rstrip())
        else:
            arguments[key[1]], at = scan_value(text, key.end(), 0)
        spans.append((key.span(1), (key.end(), at)))
        at = _next_item(text, at, ")")
    return ToolCall(head[1], arguments), CallSpan(
        (head.start(), at + 1), head.span(1), tuple(spans)
    )


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found, "blanks may be none"
    return found.end()


def _next_item(text: str, at: int, closer: str) -> int:
    """Step over the comma after an item; stay on the closing bracket."""
    comma = _COMMA.match(text, at)
    if comma is not None:
        return comma.end()
    at = _skip(text, at)
    following = text[at : at + 1]
    if following == closer:
        return at
    raise CallSyntaxError("missing_delimiter" if following else "truncated", at)


def scan_value(text: str, at: int, depth: int) -> tuple[Any, int]:
    """Read the value that begins at ``at``, with so many brackets around it."""
    integer = _INTEGER.match(text, at)
    if integer is not None:
        return int(integer[0]), integer.end()
    first = text[at : at + 1]
    if first in ("'", '"'):
        return _strings(text, at)
    if first in ("[", "(", "{"):
        if depth == MAX_DEPTH:
            raise CallSyntaxError("too_deep", at)
        if first == "{":
            return _dictionary(text, at, depth + 1)
        return _sequence(text, at, depth + 1)
    number = _NUMBER.match(text, at)
    if number is not None:
        return _number(number[0], at, text[number.end() : number.end() + 1]), number.end()
    word = _WORD.match(text, at)
    if word is not None and word[0] in _LITERALS:
        return _LITERALS[word[0]], word.end()
    raise _value_error(text, at)


def _strings(text: str, at: int) -> tuple[str, int]:
    parts = []
    end = at
    while text[at : at + 1] in _QUOTES:
        string = _STRING.match(text, at)
        if string is None:
            raise CallSyntaxError("bad_string", at)
        body = string[string.lastindex or 1]
        parts.append(_unescape(body, at + 1) if "\\" in body else body)
        end = at = string.end()
        if text[at : at + 1] in _BLANKS:
            at = _skip(text, at)
    return (parts[0] if len(parts) == 1 else "".join(parts)), end


def _unescape(body: str, at: int) -> str:
    def character(match: re.Match[str]) -> str:
        digits = match[1] or match[2] or match[3]
        if digits or match[4]:
            code = int(digits, 16) if digits else int(match[4], 8)
            if code > 0x10FFFF or 0xD800 <= code < 0xE000:
                raise CallSyntaxError("bad_escape", at + match.start())
            return chr(code)
        if match[5] in "xuUN":
            raise CallSyntaxError("bad_escape", at + match.start())
        return _CHARACTER.get(match[5], match[0])

    return _ESCAPE.sub(character, body)


def _number(token: str, at: int, following: str) -> int | float:
    digits = token.lstrip("+-")
    padded = len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
    glued = following not in ("", " ", "\t", "\r", "\n", ",", ")", "]", "}")
    if padded or glued or len(digits) > MAX_DIGITS:
        raise CallSyntaxError("bad_number", at)
    if digits.isdigit():
        return int(token)
    number = float(token)
    if number in (float("inf"), float("-inf")):
        raise CallSyntaxError("non_finite", at)
    return number


def _sequence(text: str, at: int, depth: int) -> tuple[Any, int]:
    closer = "]" if text[at] == "[" else ")"
    values: list[Any] = []
    comma = False
    at = _skip(text, at + 1)
    while text[at : at + 1] != closer:
        value, end = scan_value(text, at, depth)
        values.append(value)
        at = _next_item(text, end, closer)
        comma = "," in text[end:at]
    if closer == ")" and len(values) == 1 and not comma:
        return values[0], at + 1  # (x) is x, (x,) a tuple
    return values, at + 1


def _dictionary(text: str, at: int, depth: int) -> tuple[dict[str, Any], int]:
    values: dict[str, Any] = {}
    at = _skip(text, at + 1)
    while text[at : at + 1] != "}":
        if text[at : at + 1] not in ("'", '"'):
            raise CallSyntaxError("bad_key" if at < len(text) else "truncated", at)
        key, colon = _strings(text, at)
        colon = _skip(text, colon)
        if text[colon : colon + 1] != ":":
            raise CallSyntaxError("bad_key" if colon < len(text) else "truncated", colon)
        if key in values:
            raise CallSyntaxError("duplicate_key", at)
        values[key], at = scan_value(text, _skip(text, colon + 1), depth)
        at = _next_item(text, at, "}")
    return values, at + 1


def _head_error(text: str, at: int) -> CallSyntaxError:
    if at == len(text):
        return CallSyntaxError("truncated" if text.strip(" \t\r\n") else "empty", at)
    name = _NAME.match(text, at)
    complete = name is not None and _skip(text, name.end()) == len(text)
    return CallSyntaxError("truncated" if complete else "no_call", at)


def _argument_error(text: str, at: int) -> CallSyntaxError:
    if at == len(text):
        return CallSyntaxError("truncated", at)
    if text[at] == "*":
        return CallSyntaxError("unpacking", at)
    return CallSyntaxError("missing_delimiter" if text[at] == "," else "positional_argument", at)


def _value_error(text: str, at: int) -> CallSyntaxError:
    if at == len(text):
        return CallSyntaxError("truncated", at)
    if _NON_FINITE.match(text, at):
        return CallSyntaxError("non_finite", at)
    if text[at] in "+-~":
        return CallSyntaxError("bad_number", at)
    return CallSyntaxError("unquoted_value" if _WORD.match(text, at) else "bad_value", at)
