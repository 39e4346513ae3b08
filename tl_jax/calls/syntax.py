"""What makes text fail to be a call, and the limits that keep parsing cheap."""

from __future__ import annotations

from collections.abc import Mapping

MAX_LENGTH = 65_536
"""Longest text, in characters, that is read as a call."""
MAX_DEPTH = 32
"""Deepest nesting of brackets inside one argument value."""
MAX_DIGITS = 4_300
"""Longest number, in characters; the limit CPython itself sets for integers."""

REASONS: Mapping[str, str] = {
    "empty": "there is no text",
    "too_long": f"the text is longer than {MAX_LENGTH} characters",
    "too_deep": f"brackets are nested deeper than {MAX_DEPTH}",
    "bad_character": "the text holds a NUL or a lone surrogate",
    "no_call": "the text does not begin with a tool name and an opening parenthesis",
    "truncated": "the text ends inside the call",
    "trailing_text": "something follows the closing parenthesis",
    "positional_argument": "an argument has no name",
    "unpacking": "an argument is unpacked with * or **",
    "duplicate_argument": "an argument name occurs twice",
    "duplicate_key": "a key occurs twice in one dictionary",
    "bad_key": "a dictionary entry is not a quoted key, a colon and a value",
    "bad_value": "a value is neither a literal nor a list or dictionary of literals",
    "unquoted_value": "a bare word stands where a value is due",
    "bad_string": "a string is not closed on its line",
    "bad_escape": "a string holds an escape that names no character",
    "bad_number": "a number is not in plain decimal form with at most one sign",
    "non_finite": "a number is infinite or not a number",
    "missing_delimiter": "a comma or closing bracket is missing after a value",
}
"""Every ``CallSyntaxError.reason`` with its definition."""


class CallSyntaxError(ValueError):
    """Text that is not exactly one call.

    Attributes:
      reason: A key of ``REASONS``.
      position: 0-based character index in the text given to the parser.
    """

    def __init__(self, reason: str, position: int):
        super().__init__(f"{REASONS[reason]} (at character {position})")
        self.reason = reason
        self.position = position
