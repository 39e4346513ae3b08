"""Calls with arguments in braces, keys without quotes and a token round each text.

    <|tool_call>call:f{a:<|"|>text<|"|>,n:1}<tool_call|>
    <start_function_call>call:f{a:<escape>text<escape>,n:<escape>1<escape>}<end_function_call>

In the second form the token may stand round any value, which is then read as ``text_values`` says.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.calls.call_text import (
    NAME_PATTERN,
    CallText,
    check_name,
    check_value,
    json_text,
)
from tl_jax.calls.compare import declared_type
from tl_jax.calls.json_values import close, scan_value, skip
from tl_jax.calls.marks import BLANKS
from tl_jax.calls.syntax import MAX_DEPTH, CallSyntaxError
from tl_jax.calls.text_form import Argument, TextForm
from tl_jax.calls.text_values import read_value, write_value

_KEY_PATTERN = r"""(?![ \t])[^{}\[\]<>:,"'\\\r\n]+(?<![ \t])"""
_NAME = re.compile(NAME_PATTERN)
_KEY = re.compile(rf"{BLANKS}([^{{}}\[\]<>:,\"'\\\r\n]++):{BLANKS}")
_NULL = "None"


@dataclasses.dataclass(frozen=True)
class BraceForm(TextForm):
    """How a format writes the calls.

    Attributes:
      quote: The token before and after a text.
      quoted: It stands round every value of the call, not only round texts.
    """

    quote: str = '"'
    quoted: bool = False

    def write(self, call: ToolCall, number: int = 0) -> CallText:
        """Write a call; see ``style.Form``."""
        check_name(call.name, "tool")
        text = self.before + call.name
        name_span = (len(self.before), len(text))
        text += "{"
        spans = []
        for name, value in call.arguments.items():
            where = f"{call.name}.{name}"
            check_name(name, f"tool {call.name}: parameter", _KEY_PATTERN)
            check_value(value, where)
            text += "," if spans else ""
            start = len(text)
            text += name + ":"
            rendered = self._written(value, where)
            inner = len(self.quote) if rendered.startswith(self.quote) else 0
            end = len(text) + len(rendered)
            spans.append(((start, start + len(name)), (len(text) + inner, end - inner)))
            text += rendered
        return CallText(text + "}" + self.after, name_span, tuple(spans))

    def _written(self, value: Any, where: str) -> str:
        if self.quoted:
            return self.quote + write_value(value, self.quote) + self.quote
        return self._nested(value, where)

    def _nested(self, value: Any, where: str) -> str:
        if isinstance(value, str):
            if self.quote in value or "\0" in value:
                raise ValueError(f"{where}: {self.quote} cannot be written in a text of this style")
            return self.quote + value + self.quote
        if isinstance(value, (list, tuple)):
            return f"[{','.join(self._nested(item, where) for item in value)}]"
        if isinstance(value, Mapping):
            for key in value:
                check_name(key, where, _KEY_PATTERN)
            return "{" + ",".join(f"{k}:{self._nested(v, where)}" for k, v in value.items()) + "}"
        return json_text(value)

    def arguments(self, text: str, at: int, tool: ToolSpec | None) -> tuple[list[Argument], int]:
        """Read the braces at ``at``; see ``TextForm.arguments``."""
        if text[at : at + 1] != "{":
            raise CallSyntaxError("bad_arguments" if at < len(text) else "truncated", at)
        found: list[Argument] = []
        names: set[str] = set()
        at = skip(text, at + 1)
        while text[at : at + 1] != "}":
            key = self._key(text, at)
            name = key[1].strip()
            if name in names:
                raise CallSyntaxError("duplicate_argument", at)
            names.add(name)
            begin = key.end()
            if text.startswith(self.quote, begin):
                raw, at = self._quoted(text, begin)
                span = (begin + len(self.quote), begin + len(self.quote) + len(raw))
                schema = declared_type(tool, name)
                value = read_value(raw, self.quote, schema) if self.quoted else raw
            else:
                value, at = self._value(text, begin, 0)
                raw, span = text[begin:at], (begin, at)
            found.append(Argument(name, value, raw, key.span(1), span))
            at = self._next(text, at, "}")
        return found, skip(text, at + 1)

    def _key(self, text: str, at: int) -> re.Match[str]:
        key = _KEY.match(text, at)
        if key is None:
            raise CallSyntaxError("bad_key" if at < len(text) else "truncated", at)
        return key

    def _quoted(self, text: str, at: int) -> tuple[str, int]:
        start = at + len(self.quote)
        end = text.find(self.quote, start)
        if end < 0:
            raise CallSyntaxError("truncated", len(text))
        return text[start:end], end + len(self.quote)

    def _value(self, text: str, at: int, depth: int) -> tuple[Any, int]:
        """Read a value; the position returned is right after it."""
        if text.startswith(self.quote, at):
            return self._quoted(text, at)
        first = text[at : at + 1]
        if first in ("[", "{"):
            if depth >= MAX_DEPTH:
                raise CallSyntaxError("too_deep", at)
            return (self._list if first == "[" else self._object)(text, skip(text, at + 1), depth)
        if text.startswith(_NULL, at):
            return None, at + len(_NULL)
        return scan_value(text, at, depth)

    def _list(self, text: str, at: int, depth: int) -> tuple[list[Any], int]:
        values: list[Any] = []
        while text[at : at + 1] != "]":
            value, at = self._value(text, at, depth + 1)
            values.append(value)
            at = self._next(text, at, "]")
        return values, at + 1

    def _object(self, text: str, at: int, depth: int) -> tuple[dict[str, Any], int]:
        values: dict[str, Any] = {}
        while text[at : at + 1] != "}":
            key = self._key(text, at)
            if key[1].strip() in values:
                raise CallSyntaxError("duplicate_key", at)
            values[key[1].strip()], at = self._value(text, key.end(), depth + 1)
            at = self._next(text, at, "}")
        return values, at + 1

    def _next(self, text: str, at: int, closer: str) -> int:
        """Step over the comma after a value; stay on the closing bracket."""
        at = skip(text, at)
        if text[at : at + 1] == ",":
            at = skip(text, at + 1)
            if text[at : at + 1] != closer:
                return at
            raise CallSyntaxError("bad_key" if closer == "}" else "bad_value", at)
        close(text, at, closer)
        return at
