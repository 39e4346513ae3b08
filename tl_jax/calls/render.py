"""Write calls as text, with the character spans of their parts."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from typing import Any

from tl_jax.calls.call import ToolCall
from tl_jax.calls.python_style import NAME_PATTERN
from tl_jax.calls.syntax import MAX_DEPTH, MAX_LENGTH

STYLES = ("released", "script")
"""``released``: ``f(key = 'value', n = 1)``; ``script``: ``f(key="value", n=1)``."""

Span = tuple[int, int]

_NAME = re.compile(NAME_PATTERN)
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F)} | {
    ord("\\"): "\\\\",
    ord("'"): "\\'",
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
}


@dataclasses.dataclass(frozen=True)
class CallText:
    """A rendered call.

    Attributes:
      text: The call, without a blank before or after it.
      name_span: (start, end) of the tool name, in characters of ``text``.
      argument_spans: Per argument, in order, the span of its name and of its value; quotes and
        brackets belong to the value.
    """

    text: str
    name_span: Span
    argument_spans: tuple[tuple[Span, Span], ...]


def render_call(call: ToolCall, style: str = "released") -> str:
    """Render ``call``; ``parse_call`` reads either style back as an equal call.

    Args:
      call: Name and JSON-like arguments; tuples are written as lists.
      style: ``"released"`` is the form of the released model and the paper's figures (Python
        literals, blanks round ``=``); ``"script"`` that of the published conversion script (JSON
        values, no blanks).

    Raises:
      ValueError: The call has no such text: a name with blanks or brackets, a value outside JSON,
        a number that is not finite, a lone surrogate, or too much depth or length.
    """
    return render_call_spans(call, style).text


def render_call_spans(call: ToolCall, style: str = "released") -> CallText:
    """Render ``call`` and return where its parts are; see ``render_call``."""
    if style not in STYLES:
        raise ValueError(f"unknown call rendering {style!r}; known: {', '.join(STYLES)}")
    literal, equals = (_python, " = ") if style == "released" else (_json, "=")
    _check_name(call.name, "tool")
    text = f"{call.name}("
    spans = []
    for name, value in call.arguments.items():
        _check_name(name, f"tool {call.name}: parameter")
        _check_value(value, f"{call.name}.{name}", 0)
        start = len(text) + (2 if spans else 0)
        rendered = literal(value)
        text += f"{', ' if spans else ''}{name}{equals}{rendered}"
        spans.append(((start, start + len(name)), (len(text) - len(rendered), len(text))))
    text += ")"
    if len(text) > MAX_LENGTH:
        raise ValueError(f"tool {call.name}: the call is longer than {MAX_LENGTH} characters")
    return CallText(text, (0, len(call.name)), tuple(spans))


def _python(value: Any) -> str:
    if isinstance(value, str):
        return f"'{value.translate(_ESCAPES)}'"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_python, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_python(k)}: {_python(v)}" for k, v in value.items()) + "}"
    return repr(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _check_name(name: str, what: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{what} name {name!r} cannot be written in a call; rename it to letters, digits, _ - ."
        )


def _check_value(value: Any, where: str, depth: int) -> None:
    if value is None or isinstance(value, (bool, int)):
        return
    if isinstance(value, str):
        _check_text(value, where)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where}: {value} has no literal; use null or a string")
    elif not isinstance(value, (list, tuple, dict)):
        raise ValueError(f"{where}: {type(value).__name__} is not a JSON value")
    elif depth == MAX_DEPTH:
        raise ValueError(f"{where}: nested deeper than {MAX_DEPTH}")
    else:
        items = value
        if isinstance(value, dict):
            items = value.values()
            for key in value:
                _check_text(key, where)
        for item in items:
            _check_value(item, where, depth + 1)


def _check_text(text: Any, where: str) -> None:
    if not isinstance(text, str):
        raise ValueError(f"{where}: object keys must be strings, not {type(text).__name__}")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{where}: a lone surrogate cannot be written as UTF-8") from None
