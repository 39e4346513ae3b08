"""The fixed texts around calls, such as ``<tool_call>``: read with blanks between them, in order.

A mark is written as it stands. Where it has a blank or a line feed, and before and after it, any
blanks are read, or none; ``{id}`` stands for a number or a name that says nothing new.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable

from tl_jax.calls.call import ToolCall
from tl_jax.calls.json_values import skip
from tl_jax.calls.syntax import CallSyntaxError, check_room

ID = "{id}"
BLANKS = r"[ \t\r\n]*+"
NOT_INSIDE = r"(?<![\w.\-$@])"
"""Not inside a name; a colon may end the prompt before it."""

_ID = re.compile(r"[\w.\-]++")
_PARTS = re.compile(r"\{id\}|(?:(?!\{id\})\S)+")


@dataclasses.dataclass(frozen=True)
class Frame:
    """What stands around the calls of a reply.

    Attributes:
      opening, closing: Around all calls together.
      before, after: Around each call.
      separator: Between two calls.
      optional: A text that may stand before all calls instead of ``opening``.
    """

    opening: str = ""
    closing: str = ""
    before: str = ""
    after: str = ""
    separator: str = "\n"
    optional: str = ""

    @property
    def mark(self) -> str:
        """What the first call of a reply always begins with; empty if there is no such thing."""
        parts = (*_parts(self.opening), *_parts(self.before))
        return parts[0] if parts else ""


def step(text: str, at: int, mark: str, otherwise: str) -> int:
    """Step over a mark and the blanks after it.

    Args:
      text: The whole text.
      at: Where the mark must begin.
      mark: An empty one is stepped over without a move.
      otherwise: Reason of the error if it is not there.

    Raises:
      CallSyntaxError: It is not there.
    """
    for part in _parts(mark):
        at = skip(text, _part(text, at, part, otherwise))
    return at


def step_to_end(text: str, at: int, mark: str, otherwise: str) -> int:
    """Step over a mark, but not over blanks after it; else as ``step``."""
    end = at
    for part in _parts(mark):
        end = _part(text, at, part, otherwise)
        at = skip(text, end)
    return end


def begins(text: str, at: int, mark: str) -> bool:
    """Tell whether a mark that has a first part stands at ``at``, as far as this part goes."""
    parts = _parts(mark)
    return bool(parts) and text.startswith(parts[0], at)


def written(mark: str, number: int) -> str:
    """Return the text of a mark in the call with a number."""
    return mark.replace(ID, str(number))


def pattern(mark: str) -> str:
    """Return the pattern of a mark, without the blanks before and after it."""
    return BLANKS.join(_ID.pattern if part == ID else re.escape(part) for part in _parts(mark))


def read_framed(
    text: str,
    frame: Frame,
    most: int,
    read: Callable[[str, int, list[ToolCall], int], int],
) -> tuple[ToolCall, ...]:
    """Read a whole text as calls.

    Args:
      text: The text.
      frame: What stands around them.
      most: How many there may be.
      read: Reads at a position what stands between ``before`` and ``after``, adds to the calls,
        of which there may be so many, and returns the position after it and its blanks.

    Raises:
      CallSyntaxError: The text is anything else.
    """
    calls: list[ToolCall] = []
    at = skip(text, 0)
    if frame.optional and text.startswith(frame.optional[0], at):
        at = step(text, at, frame.optional, "no_call")
    at = step(text, at, frame.opening, "no_call")
    while True:
        if calls:
            check_room(len(calls), most, at)
            at = step(text, at, frame.separator, "trailing_text")
        missing = "trailing_text" if calls and not frame.separator.strip() else "no_call"
        at = step(text, at, frame.before, missing)
        at = step(text, read(text, at, calls, most), frame.after, "trailing_text")
        if frame.closing:
            if at == len(text) or begins(text, at, frame.closing):
                at = step(text, at, frame.closing, "trailing_text")
                if at < len(text):
                    raise CallSyntaxError("trailing_text", at)
                return tuple(calls)
        elif at == len(text):
            return tuple(calls)


def _part(text: str, at: int, part: str, otherwise: str) -> int:
    if part == ID:
        found = _ID.match(text, at)
        if found is not None:
            return found.end()
        raise CallSyntaxError(otherwise if at < len(text) else "truncated", at)
    if text.startswith(part, at):
        return at + len(part)
    if not text.strip(" \t\r\n"):
        raise CallSyntaxError("empty", at)
    cut = len(text) - at < len(part) and part.startswith(text[at:])
    raise CallSyntaxError("truncated" if cut else otherwise, at)


@functools.lru_cache(maxsize=1024)
def _parts(mark: str) -> tuple[str, ...]:
    return tuple(_PARTS.findall(mark))
