"""What makes text fail to be a call, and the limits that keep parsing cheap."""

from __future__ import annotations

from collections.abc import Mapping

from tl_jax.errors import TlJaxError

MAX_LENGTH = 65_536
"""Longest text, in characters, that is read as a call."""
MAX_CALLS = 256
"""Most calls that are read from one text."""
MAX_DEPTH = 32
"""Deepest nesting of brackets inside one argument value."""
MAX_DIGITS = 4_300
"""Longest number, in characters; the limit CPython itself sets for integers."""

REASONS: Mapping[str, str] = {
    "empty": "there is no text",
    "too_long": f"the text is longer than {MAX_LENGTH} characters",
    "too_many_calls": f"there are more than {MAX_CALLS} calls",
    "too_deep": f"brackets are nested deeper than {MAX_DEPTH}",
    "bad_character": "the text holds a NUL or a lone surrogate",
    "no_call": "no call begins where one should",
    "truncated": "the text ends inside the call",
    "trailing_text": "something follows the call",
    "unknown_field": "a call has a field beside its name and arguments",
    "missing_field": "a call has no name or no arguments",
    "bad_name": "the name of a call is not a string, or is empty",
    "bad_arguments": "the arguments of a call are not an object",
    "positional_argument": "an argument has no name",
    "unpacking": "an argument is unpacked with * or **",
    "duplicate_argument": "an argument name occurs twice",
    "duplicate_key": "a key occurs twice in one dictionary",
    "bad_key": "a dictionary entry is not a quoted key, a colon and a value",
    "bad_value": "a value is neither a literal nor a list or dictionary of literals",
    "unquoted_value": "a bare word stands where a value is due",
    "bad_string": "a string is not closed on its line, or holds a raw control character",
    "bad_escape": "a string holds an escape that names no character",
    "bad_number": "a number is not in plain decimal form with at most one sign",
    "non_finite": "a number is infinite or not a number",
    "missing_delimiter": "a comma or closing bracket is missing after a value",
}
"""Every ``CallSyntaxError.reason`` with its definition."""


class CallSyntaxError(TlJaxError, ValueError):
    """Text that is not a call, or not calls, and nothing else.

    Attributes:
      reason: A key of ``REASONS``.
      position: 0-based character index in the text given to the parser.
    """

    def __init__(self, reason: str, position: int):
        super().__init__(f"{REASONS[reason]} (at character {position})")
        self.reason = reason
        self.position = position


def check_room(count: int, most: int, at: int) -> None:
    """Refuse the call that begins at ``at`` if ``count`` calls before it are all there may be.

    Raises:
      CallSyntaxError: There is no room; after a single call that is due, more is trailing text.
    """
    if count == most:
        raise CallSyntaxError("trailing_text" if most == 1 else "too_many_calls", at)
