"""Calls whose name stands in the marks, with the arguments as a JSON object behind it.

[TOOL_CALLS]f[ARGS]{"a": 1}
<function=f>{"a": 1}</function>
<|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{"a": 1}<|tool_call_end|>
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Sequence

from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.calls.call_text import NAME_PATTERN, CallSpan, CallText, check_name
from tl_jax.calls.json_style import find_arguments, write_arguments
from tl_jax.calls.json_values import scan_object, skip
from tl_jax.calls.marks import BLANKS, NOT_INSIDE, Frame, pattern, read_framed, step, written
from tl_jax.calls.syntax import CallSyntaxError


@dataclasses.dataclass(frozen=True)
class NamedForm(Frame):
    """How a format writes the name and the arguments.

    Attributes:
      middle: Between the name and the arguments.
      names: Pattern of a name.
    """

    middle: str = ""
    names: str = NAME_PATTERN

    @property
    def around(self) -> tuple[str, str, str]:
        """What is written before, between and after all calls."""
        return self.opening, self.separator, self.closing

    def parse(self, text: str, most: int, tools: Sequence[ToolSpec] = ()) -> tuple[ToolCall, ...]:
        """Read a text as calls; see ``style.Form``."""
        return read_framed(text, self, most, self._call)

    def write(self, call: ToolCall, number: int = 0) -> CallText:
        """Write a call; see ``style.Form``."""
        check_name(call.name, "tool", self.names)
        before, middle = written(self.before, number), written(self.middle, number)
        head = before + call.name + middle
        arguments = write_arguments(call)
        return CallText(
            head + arguments.text + self.after,
            (len(before), len(before) + len(call.name)),
            arguments.moved(len(head), "").argument_spans,
        )

    def find(self, text: str, start: int, stop: int, call: ToolCall) -> CallSpan | None:
        """Find a known call; see ``style.Form``."""
        head_pattern, after_pattern = _around(self)
        for head in head_pattern.finditer(text, start, stop):
            if head["name"] == call.name:
                found = find_arguments(text, head.end(), call)
                if found is not None and found[1] <= stop:
                    after = after_pattern.match(text, found[1], stop)
                    end = found[1] if after is None else after.end()
                    return CallSpan((head.start(), end), head.span("name"), found[0])
        return None

    def _call(self, text: str, at: int, calls: list[ToolCall], most: int) -> int:
        name = re.compile(self.names).match(text, at)
        if name is None:
            raise CallSyntaxError("no_call" if at < len(text) else "truncated", at)
        at = step(text, skip(text, name.end()), self.middle, "no_call")
        if text[at : at + 1] != "{":
            raise CallSyntaxError("bad_arguments" if at < len(text) else "truncated", at)
        arguments, at = scan_object(text, at, 0)
        calls.append(ToolCall(name[0], arguments))
        return skip(text, at)


@functools.lru_cache(maxsize=64)
def _around(form: NamedForm) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return the patterns of what stands before the arguments, and after them."""
    # A name that nothing stands before is not looked for inside a longer one.
    before = pattern(form.before)
    before = f"{before}{BLANKS}" if before else NOT_INSIDE
    name = f"(?P<name>{form.names})"
    return (
        re.compile(f"{before}{name}{BLANKS}{pattern(form.middle)}{BLANKS}"),
        re.compile(BLANKS + pattern(form.after) if form.after.strip() else ""),
    )
