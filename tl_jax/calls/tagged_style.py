"""Calls whose arguments stand in tags of their own, as text.

    <tool_call>
    <function=f>
    <parameter=a>
    1
    </parameter>
    </function>
    </tool_call>

    <tool_call>f<arg_key>a</arg_key><arg_value>1</arg_value></tool_call>

What a value is, is said in ``text_values``, unless the tag says whether it is a string.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.calls.call_text import NAME_PATTERN, CallText, check_name, check_value
from tl_jax.calls.compare import declared_type
from tl_jax.calls.marks import (
    begins,
    step,
    step_to_end,
    written,
)
from tl_jax.calls.syntax import CallSyntaxError
from tl_jax.calls.text_form import Argument, TextForm
from tl_jax.calls.text_values import CDATA, CDATA_END, read_value, write_json, write_value

_NAME = re.compile(NAME_PATTERN)
_KEY = re.compile(r'[^<>"\r\n]++')
_WRITTEN_KEY = r'(?![ \t])[^<>"\r\n]+(?<![ \t])'
_KIND = re.compile(r"\w++")
_KINDS = {
    **{str: "string", bool: "boolean", int: "number", float: "number", type(None): "null"},
    **{list: "array", tuple: "array", dict: "object"},
}


@dataclasses.dataclass(frozen=True)
class TaggedForm(TextForm):
    """How a format writes the name and each argument.

    Attributes:
      key_before, key_after: Around the name of an argument.
      value_after: After its value, which goes on to the tag in it. A line feed at its start, and
        one at the end of what stands before the value, do not belong to the value.
      kinds: By the type of the value in JSON, what stands for it after ``key_after``; empty where
        nothing tells a text from other values.
      kind_after: After that.
    """

    key_before: str = ""
    key_after: str = ""
    value_after: str = ""
    kinds: tuple[tuple[str, str], ...] = ()
    kind_after: str = ""

    def write(self, call: ToolCall, number: int = 0) -> CallText:
        """Write a call; see ``style.Form``."""
        check_name(call.name, "tool")
        text = written(self.before, number)
        name_span = (len(text), len(text) + len(call.name))
        text += call.name + written(self.middle, number)
        spans = []
        for name, value in call.arguments.items():
            where = f"{call.name}.{name}"
            check_name(name, f"tool {call.name}: parameter", _WRITTEN_KEY)
            check_value(value, where)
            text += self.key_before
            start = len(text)
            kind, rendered = self._written(value)
            text += name + self.key_after + kind
            spans.append(((start, start + len(name)), (len(text), len(text) + len(rendered))))
            text += rendered + self.value_after
        return CallText(text + self.after, name_span, tuple(spans))

    @property
    def _closing_tag(self) -> str:
        return self.value_after.split()[0]

    def _written(self, value: Any) -> tuple[str, str]:
        """Return the kind of a value with what stands after it, and the value's text."""
        closing = self._closing_tag
        if not self.kinds:
            return "", write_value(value, closing)
        plain = isinstance(value, str) and closing not in value and "\0" not in value
        # A string that cannot stand as it is goes as JSON, under the kind of an object.
        kind = "string" if plain else "object" if isinstance(value, str) else _KINDS[type(value)]
        text = value if plain else write_json(value, closing)
        return dict(self.kinds)[kind] + self.kind_after, text

    def arguments(self, text: str, at: int, tool: ToolSpec | None) -> tuple[list[Argument], int]:
        """Read the arguments of a call; see ``TextForm.arguments``."""
        found: list[Argument] = []
        names: set[str] = set()
        while begins(text, at, self.key_before):
            argument, at = self._argument(text, at, tool)
            if argument.name in names:
                raise CallSyntaxError("duplicate_argument", argument.name_span[0])
            names.add(argument.name)
            found.append(argument)
        return found, at

    def _argument(self, text: str, at: int, tool: ToolSpec | None) -> tuple[Argument, int]:
        at = step(text, at, self.key_before, "positional_argument")
        key = _KEY.match(text, at)
        if key is None:
            raise CallSyntaxError("positional_argument" if at < len(text) else "truncated", at)
        name = key[0].rstrip(" \t")
        at = step_to_end(text, key.end(), self.key_after, "bad_key")
        kind = None
        if self.kinds:
            kind = _KIND.match(text, at)
            if kind is None:
                raise CallSyntaxError("bad_key" if at < len(text) else "truncated", at)
            at = step_to_end(text, kind.end(), self.kind_after, "bad_key")
        data = text.startswith(CDATA, at)
        end = text.find(CDATA_END if data else self._closing_tag, at)
        if end < 0:
            raise CallSyntaxError("truncated", len(text))
        end += len(CDATA_END) if data else 0
        following = step(text, end, self.value_after, "missing_delimiter")
        if (self.kind_after or self.key_after).endswith("\n") and text.startswith("\n", at, end):
            at += 1
        if self.value_after.startswith("\n") and text.endswith("\n", at, end):
            end -= 1
        raw = text[at:end]
        if data:
            at, end = at + len(CDATA), end - len(CDATA_END)
            value = raw = text[at:end]
        elif kind is None:
            value = read_value(raw, self._closing_tag, declared_type(tool, name))
        else:
            plain = kind[0] == dict(self.kinds)["string"]
            value = raw if plain else read_value(raw, self._closing_tag)
        span = (key.start(), key.start() + len(name))
        return Argument(name, value, raw, span, (at, end)), following
