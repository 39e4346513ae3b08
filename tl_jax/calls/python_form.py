"""Calls in Python keyword form, on lines of their own or in a list, with or without tags.

f(key = 'value', n = 1)
<|tool_call_start|>[f(key='value', n=1)]<|tool_call_end|>
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.calls.call_text import CallSpan, CallText, check_name, check_value, json_text
from tl_jax.calls.compare import values_equal
from tl_jax.calls.json_values import skip
from tl_jax.calls.marks import NOT_INSIDE, Frame, step
from tl_jax.calls.python_style import scan_call, scan_calls
from tl_jax.calls.syntax import CallSyntaxError

_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F)} | {
    ord("\\"): "\\\\",
    ord("'"): "\\'",
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
}


def python_text(value: Any) -> str:
    """Return a value as a Python literal with single quotes."""
    if isinstance(value, str):
        return f"'{value.translate(_ESCAPES)}'"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(python_text, value))}]"
    if isinstance(value, dict):
        return (
            "{" + ", ".join(f"{python_text(k)}: {python_text(v)}" for k, v in value.items()) + "}"
        )
    return repr(value)


@dataclasses.dataclass(frozen=True)
class PythonForm(Frame):
    """How a format writes Python calls.

    Attributes:
      equals: Between the name of an argument and its value.
      literal: Writes a value.
      listed: The calls are written in one list, and are read in no other way.
      bare: Words without quotes are read as a text.
    """

    equals: str = " = "
    literal: Callable[[Any], str] = python_text
    listed: bool = False
    bare: bool = False

    @property
    def around(self) -> tuple[str, str, str]:
        """What is written before, between and after all calls."""
        if self.listed:
            return self.opening + "[", ", ", "]" + self.closing
        return self.opening, self.separator, self.closing

    def parse(self, text: str, most: int, tools: Sequence[ToolSpec] = ()) -> tuple[ToolCall, ...]:
        """Read a text as calls; see ``style.Form``."""
        at = step(text, skip(text, 0), self.opening, "no_call")
        listed = self.listed or most != 1
        calls, at = scan_calls(text, at, most, listed=listed, lines=not self.listed, bare=self.bare)
        at = step(text, at, self.closing, "trailing_text")
        if at < len(text):
            raise CallSyntaxError("trailing_text", at)
        return tuple(calls)

    def write(self, call: ToolCall, number: int = 0) -> CallText:
        """Write a call; see ``style.Form``."""
        check_name(call.name, "tool")
        text = f"{call.name}("
        spans = []
        for name, value in call.arguments.items():
            check_name(name, f"tool {call.name}: parameter")
            check_value(value, f"{call.name}.{name}")
            start = len(text) + (2 if spans else 0)
            rendered = self.literal(value)
            text += f"{', ' if spans else ''}{name}{self.equals}{rendered}"
            spans.append(((start, start + len(name)), (len(text) - len(rendered), len(text))))
        return CallText(text + ")", (0, len(call.name)), tuple(spans))

    def find(self, text: str, start: int, stop: int, call: ToolCall) -> CallSpan | None:
        """Find a known call; see ``style.Form``."""
        for head in _head(call.name).finditer(text, start, stop):
            try:
                found, span = scan_call(text, head.start(), bare=self.bare)
            except CallSyntaxError:
                continue
            if span.call[1] <= stop and values_equal(found.arguments, dict(call.arguments)):
                places = dict(zip(found.arguments, span.arguments, strict=True))
                arguments = tuple(places[name] for name in call.arguments)
                return dataclasses.replace(span, arguments=arguments)
        return None


RELEASED = PythonForm()
SCRIPT = PythonForm(equals="=", literal=json_text)


@functools.lru_cache(maxsize=1024)
def _head(name: str) -> re.Pattern[str]:
    return re.compile(rf"{NOT_INSIDE}{re.escape(name)}[ \t]*+\(")
