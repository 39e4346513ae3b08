"""Calls that are JSON objects with a name and arguments, in whatever tags.

    <tool_call>
    {"name": "f", "arguments": {"a": 1}}
    </tool_call>                                          tags round each call
    [TOOL_CALLS][{"name": "f", "arguments": {"a": 1}}]    a list, a tag in front of it
    {"name": "f", "parameters": {"a": 1}}                 bare

A form says what stands around the calls, which keys they have, and whether they stand in a list. A
call has exactly a name, which is a string, and arguments, which are an object; ``ignored`` fields
may be there and say nothing. Everything else is an error: nothing is repaired, guessed or skipped.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator, Sequence
from typing import Any

from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.calls.call_text import CallSpan, CallText, Span, check_text, check_value, json_text
from tl_jax.calls.compare import values_equal
from tl_jax.calls.json_values import close, scan_object, scan_value, skip
from tl_jax.calls.marks import BLANKS, Frame, pattern, read_framed
from tl_jax.calls.syntax import CallSyntaxError, check_room

Arguments = tuple[tuple[Span, Span], ...]

_MARGIN = 64
"""Characters before a call in which its opening tag is looked for."""


@dataclasses.dataclass(frozen=True)
class JsonForm(Frame):
    """How a format writes calls as JSON objects.

    Attributes:
      name, arguments: Keys of the name and of the arguments.
      also: Other keys of the arguments that are read.
      ignored: Fields that may stand beside them; their values are strings.
      numbered: A field that is written with the number of the call.
      keyed: The object has the name as its only key, and the arguments as its value.
      listed: The calls are written as one list.
      lists, objects: Calls are read in a list, or without one.
      between: Characters of which one may stand between two calls that have no list.
    """

    name: str = "name"
    arguments: str = "arguments"
    also: tuple[str, ...] = ()
    ignored: frozenset[str] = frozenset()
    numbered: str = ""
    keyed: bool = False
    listed: bool = False
    lists: bool = True
    objects: bool = True
    between: str = ""

    @property
    def around(self) -> tuple[str, str, str]:
        """What is written before, between and after all calls."""
        if self.listed:
            return self.opening + "[", ", ", "]" + self.closing
        return self.opening, self.separator, self.closing

    def parse(self, text: str, most: int, tools: Sequence[ToolSpec] = ()) -> tuple[ToolCall, ...]:
        """Read a text as calls; see ``style.Form``."""
        return read_framed(text, self, most, self._group)

    def write(self, call: ToolCall, number: int = 0) -> CallText:
        """Write a call; see ``style.Form``."""
        if not call.name:
            raise ValueError("tool name '' cannot be written in a call; give the tool a name")
        check_text(call.name, f"tool {call.name!r}")
        name = json_text(call.name)
        text = self.before + "{"
        if self.numbered:
            text += f'"{self.numbered}": "{number}", '
        text += name if self.keyed else f'"{self.name}": {name}'
        name_span = (len(text) - len(name) + 1, len(text) - 1)
        text += ": " if self.keyed else f', "{self.arguments}": '
        arguments = write_arguments(call)
        return CallText(
            f"{text}{arguments.text}}}{self.after}",
            name_span,
            arguments.moved(len(text), "").argument_spans,
        )

    def find(self, text: str, start: int, stop: int, call: ToolCall) -> CallSpan | None:
        """Find a known call; see ``style.Form``."""
        at = text.find("{", start, stop)
        while at >= 0:
            span = self._find_at(text, at, call)
            if span is not None and span.call[1] <= stop:
                return self._tagged(text, span, start, stop)
            at = text.find("{", at + 1, stop)
        return None

    def _group(self, text: str, at: int, calls: list[ToolCall], most: int) -> int:
        """Read one call, or those of a list."""
        marked = self.before or self.separator.strip()
        if calls and not marked and not (self.objects and text[at] in "{["):
            raise CallSyntaxError("trailing_text", at)
        while True:
            at = self._calls(text, at, calls, most)
            if not self.between or text[at : at + 1] not in tuple(self.between):
                return at
            check_room(len(calls), most, at)
            at = skip(text, at + 1)

    def _calls(self, text: str, at: int, calls: list[ToolCall], most: int) -> int:
        if not self.lists or not text.startswith("[", at):
            if not self.objects:
                raise CallSyntaxError("no_call" if at < len(text) else "truncated", at)
            call, at = self._call(text, at)
            calls.append(call)
            return at
        at = skip(text, at + 1)
        while True:
            call, at = self._call(text, at)
            calls.append(call)
            if text[at : at + 1] != ",":
                return skip(text, close(text, at, "]"))
            check_room(len(calls), most, at)
            at = skip(text, at + 1)

    def _call(self, text: str, at: int) -> tuple[ToolCall, int]:
        """Read one object as a call; the position returned is after blanks."""
        if text[at : at + 1] != "{":
            missing = "truncated" if text.strip(" \t\r\n") else "empty"
            raise CallSyntaxError("no_call" if at < len(text) else missing, at)
        # The object's own bracket and that of the arguments are not counted as nesting.
        fields, end = scan_object(text, at, -1)
        if self.keyed:
            if len(fields) != 1:
                raise CallSyntaxError("unknown_field" if fields else "missing_field", at)
            ((name, arguments),) = fields.items()
        else:
            name, arguments = self._fields(fields, at)
        if not isinstance(name, str) or not name:
            raise CallSyntaxError("bad_name", at)
        if not isinstance(arguments, dict):
            raise CallSyntaxError("bad_arguments", at)
        return ToolCall(name, arguments), skip(text, end)

    def _fields(self, fields: dict[str, Any], at: int) -> tuple[Any, Any]:
        key = next((key for key in (self.arguments, *self.also) if key in fields), "")
        for field, value in fields.items():
            known = field in self.ignored and isinstance(value, str)
            if not known and field not in (self.name, key or self.arguments):
                raise CallSyntaxError("unknown_field", at)
        if self.name not in fields or not key:
            raise CallSyntaxError("missing_field", at)
        return fields[self.name], fields[key]

    def _find_at(self, text: str, at: int, call: ToolCall) -> CallSpan | None:
        """Return the call if it is the object that begins at ``at``."""
        try:
            members, end = _members(text, at, -1)
        except CallSyntaxError:
            return None
        keys = (call.name,) if self.keyed else (self.arguments, *self.also)
        name = members.get(call.name if self.keyed else self.name)
        if name is None or not (self.keyed or name[2] == call.name):
            return None
        for key in keys:
            found = find_arguments(text, members[key][1][0], call) if key in members else None
            if found is not None:
                return CallSpan((at, end), _inner(name[0] if self.keyed else name[1]), found[0])
        return None

    def _tagged(self, text: str, span: CallSpan, start: int, stop: int) -> CallSpan:
        """Widen a call to the tags that stand round it alone."""
        if not self.before:
            return span
        opening, closing = _tags(self.before, self.after)
        before = opening.search(text, max(start, span.call[0] - _MARGIN), span.call[0])
        after = closing.match(text, span.call[1], stop)
        if before is None or after is None:
            return span
        return dataclasses.replace(span, call=(before.start(), after.end()))


def write_arguments(call: ToolCall) -> CallText:
    """Return the arguments of a call as a JSON object; the span of the name is empty.

    Raises:
      ValueError: A value has no text.
    """
    text = "{"
    spans = []
    for name, value in call.arguments.items():
        where = f"{call.name}.{name}"
        check_text(name, where)
        check_value(value, where)
        quoted, rendered = json_text(name), json_text(value)
        start = len(text) + (3 if spans else 1)
        text += f"{', ' if spans else ''}{quoted}: {rendered}"
        spans.append(((start, start + len(quoted) - 2), (len(text) - len(rendered), len(text))))
    return CallText(text + "}", (0, 0), tuple(spans))


def find_arguments(text: str, at: int, call: ToolCall) -> tuple[Arguments, int] | None:
    """Return name and value spans and the end of the object at ``at``, if it is the arguments."""
    if text[at : at + 1] != "{":
        return None
    try:
        members, end = _members(text, at, 0)
    except CallSyntaxError:
        return None
    found = {name: value for name, (_, _, value) in members.items()}
    if not values_equal(found, dict(call.arguments)):
        return None
    spans = {name: (_inner(key), value) for name, (key, value, _) in members.items()}
    return tuple(spans[name] for name in call.arguments), end


@functools.lru_cache(maxsize=64)
def _tags(before: str, after: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    closing = BLANKS + pattern(after) if after.strip() else ""
    return re.compile(rf"{pattern(before)}{BLANKS}\Z"), re.compile(closing)


def _inner(span: Span) -> Span:
    return span[0] + 1, span[1] - 1


def _members(text: str, at: int, depth: int) -> tuple[dict[str, tuple[Span, Span, Any]], int]:
    """Read an object; per key the spans of key and value, quotes included, and the value."""
    members: dict[str, tuple[Span, Span, Any]] = {}
    for key, key_span, value, value_span in _pairs(text, at, depth):
        members[key] = key_span, value_span, value
        at = value_span[1]
    return members, close(text, at if members else at + 1, "}")


def _pairs(text: str, at: int, depth: int) -> Iterator[tuple[str, Span, Any, Span]]:
    at = skip(text, at + 1)
    while text[at : at + 1] == '"':
        key, end = scan_value(text, at, depth)
        colon = skip(text, close(text, end, ":"))
        value, stop = scan_value(text, colon, depth)
        yield key, (at, end), value, (colon, stop)
        at = skip(text, stop)
        if text[at : at + 1] != ",":
            return
        at = skip(text, at + 1)
