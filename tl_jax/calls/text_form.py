"""Calls whose arguments are not JSON: what their readers have in common."""

from __future__ import annotations

import abc
import dataclasses
import functools
import re
from collections.abc import Sequence
from typing import Any

from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.calls.call_text import NAME_PATTERN, CallSpan, Span
from tl_jax.calls.compare import values_equal
from tl_jax.calls.json_values import skip
from tl_jax.calls.marks import BLANKS, Frame, pattern, read_framed, step
from tl_jax.calls.syntax import CallSyntaxError

_NAME = re.compile(NAME_PATTERN)


@dataclasses.dataclass(frozen=True)
class Argument:
    """An argument as it stands in a text.

    Attributes:
      name: Its name.
      value: What it is read as.
      text: What stands there, if it is meant as a text.
      name_span, value_span: Where they stand; tokens round a text do not belong to it.
    """

    name: str
    value: Any
    text: str
    name_span: Span
    value_span: Span

    def holds(self, value: Any) -> bool:
        """Tell whether it is a known value; a text may look like anything."""
        if isinstance(value, str) and self.text == value:
            return True
        return values_equal(self.value, value)


@dataclasses.dataclass(frozen=True)
class TextForm(Frame, abc.ABC):
    """How a format writes calls by their name and, one by one, their arguments.

    Attributes:
      middle: Between the name and the arguments.
    """

    middle: str = ""

    @property
    def around(self) -> tuple[str, str, str]:
        """What is written before, between and after all calls."""
        return self.opening, self.separator, self.closing

    @abc.abstractmethod
    def arguments(self, text: str, at: int, tool: ToolSpec | None) -> tuple[list[Argument], int]:
        """Read the arguments that begin at ``at``.

        Args:
          text: The whole text.
          at: Where they begin.
          tool: The tool, if it is known.

        Returns:
          They, each name once, and the position after them and the blanks behind.

        Raises:
          CallSyntaxError: They are not well formed.
        """

    def parse(self, text: str, most: int, tools: Sequence[ToolSpec] = ()) -> tuple[ToolCall, ...]:
        """Read a text as calls; see ``style.Form``."""
        declared = {tool.name: tool for tool in tools}

        def read(text: str, at: int, calls: list[ToolCall], most: int) -> int:
            name = _NAME.match(text, at)
            if name is None:
                raise CallSyntaxError("no_call" if at < len(text) else "truncated", at)
            at = step(text, skip(text, name.end()), self.middle, "no_call")
            found, at = self.arguments(text, at, declared.get(name[0]))
            calls.append(ToolCall(name[0], {a.name: a.value for a in found}))
            return at

        return read_framed(text, self, most, read)

    def find(self, text: str, start: int, stop: int, call: ToolCall) -> CallSpan | None:
        """Find a known call; see ``style.Form``."""
        text = text[:stop]
        head_pattern, after_pattern = _around(self.before, self.middle, self.after)
        for head in head_pattern.finditer(text, start):
            if head["name"] != call.name:
                continue
            try:
                found, at = self.arguments(text, head.end(), None)
            except CallSyntaxError:
                continue
            after = after_pattern.match(text, at)
            places = {argument.name: argument for argument in found}
            if after is None or places.keys() != call.arguments.keys():
                continue
            if all(places[name].holds(value) for name, value in call.arguments.items()):
                spans = ((places[n].name_span, places[n].value_span) for n in call.arguments)
                return CallSpan((head.start(), after.end()), head.span("name"), tuple(spans))
        return None


@functools.lru_cache(maxsize=64)
def _around(before: str, middle: str, after: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return the patterns of what stands before the arguments, and after them."""
    head = (pattern(before), f"(?P<name>{NAME_PATTERN})", pattern(middle))
    return re.compile(BLANKS.join(head) + BLANKS), re.compile(pattern(after))
