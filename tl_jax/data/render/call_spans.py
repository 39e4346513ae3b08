"""Find calls that are known in a text that something else has written, such as a chat template.

The text is read as JSON from every opening bracket on until an object is the call; blanks, escapes
and the order of the fields are the writer's. A call is never recovered from the text: what is
found must equal what was to be written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from tl_jax.calls.call import ToolCall
from tl_jax.calls.compare import values_equal
from tl_jax.calls.json_values import close, scan_value, skip
from tl_jax.calls.parse import CallSyntaxError
from tl_jax.calls.render import PYTHON_STYLES, render_call_spans
from tl_jax.calls.styles import STYLES
from tl_jax.data.render.paper_template import CallSpan, Span

_OPENING = re.compile(r"<tool_call>\s*\Z")
_CLOSING = re.compile(r"\s*</tool_call>")
_MARGIN = 64
"""Characters before a call in which its opening tag is looked for."""
_NAMED = re.compile(r"\[TOOL_CALLS\]\s*([^\s\[\]{}]++)\s*(?:\[CALL_ID\]\s*\w++\s*)?\[ARGS\]\s*")

_Members = dict[str, tuple[Span, Span, Any]]


def find_calls(
    text: str, start: int, stop: int, calls: Sequence[ToolCall], style: str
) -> tuple[CallSpan, ...]:
    """Return where the calls are in ``text[start:stop]``, in order.

    The span of a call has its own Hermes tags in it; marks round several calls belong to none.

    Args:
      text: The whole text; spans are counted from its start.
      start: Where to begin.
      stop: Where to end.
      calls: The calls that were written.
      style: Call style of the text, one of ``calls.parse.STYLES``.

    Raises:
      ValueError: A call is not there.
    """
    spans = []
    for call in calls:
        span = _find(text, start, stop, call, style)
        if span is None:
            raise ValueError(f"the call of {call.name} is not in the text of its turn")
        spans.append(span)
        start = span.call[1]
    return tuple(spans)


def _find(text: str, start: int, stop: int, call: ToolCall, style: str) -> CallSpan | None:
    if style in PYTHON_STYLES:
        return _find_python(text, start, stop, call)
    form = STYLES[style]
    if form.named:
        for named in _NAMED.finditer(text, start, stop):
            found = _arguments(text, named.end(), call) if named[1] == call.name else None
            if found is not None:
                return CallSpan((named.start(1), found[1]), named.span(1), found[0])
    at = text.find("{", start, stop)
    while at >= 0:
        span = _read(text, at, call)
        if span is not None and span.call[1] <= stop:
            return _tagged(text, span, start, stop) if form.tagged else span
        at = text.find("{", at + 1, stop)
    return None


def _find_python(text: str, start: int, stop: int, call: ToolCall) -> CallSpan | None:
    for style in ("script", "released"):
        written = render_call_spans(call, style)
        at = text.find(written.text, start, stop)
        if at >= 0:
            return CallSpan(
                (at, at + len(written.text)),
                _moved(written.name_span, at),
                tuple((_moved(n, at), _moved(v, at)) for n, v in written.argument_spans),
            )
    return None


def _moved(span: Span, by: int) -> Span:
    return span[0] + by, span[1] + by


def _read(text: str, at: int, call: ToolCall) -> CallSpan | None:
    """Return the call if it is the object that begins at ``at``."""
    try:
        # The object's own bracket is not counted as nesting of its arguments.
        members, end = _members(text, at, -1)
    except CallSyntaxError:
        return None
    name = members.get("name")
    if name is None or name[2] != call.name:
        return None
    for key in ("arguments", "parameters"):
        if key in members:
            found = _arguments(text, members[key][1][0], call)
            if found is not None:
                return CallSpan((at, end), _inner(name[1]), found[0])
    return None


def _arguments(
    text: str, at: int, call: ToolCall
) -> tuple[tuple[tuple[Span, Span], ...], int] | None:
    """Return name and value spans and the end of the object at ``at``, if it is the arguments."""
    if text[at : at + 1] != "{":
        return None
    try:
        members, end = _members(text, at, 0)
    except CallSyntaxError:
        return None
    written = {name: value for name, (_, _, value) in members.items()}
    if not values_equal(written, dict(call.arguments)):
        return None
    spans = {name: (_inner(key), value) for name, (key, value, _) in members.items()}
    return tuple(spans[name] for name in call.arguments), end


def _inner(span: Span) -> Span:
    return span[0] + 1, span[1] - 1


def _members(text: str, at: int, depth: int) -> tuple[_Members, int]:
    """Read an object; per key the spans of key and value, quotes included, and the value."""
    members: _Members = {}
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


def _tagged(text: str, span: CallSpan, start: int, stop: int) -> CallSpan:
    """Widen a call to the tags that stand round it alone."""
    opening = _OPENING.search(text, max(start, span.call[0] - _MARGIN), span.call[0])
    closing = _CLOSING.match(text, span.call[1], stop)
    if opening is None or closing is None:
        return span
    return CallSpan((opening.start(), closing.end()), span.name, span.arguments)
