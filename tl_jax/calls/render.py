"""Write calls as text, with the character spans of their parts."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Sequence
from typing import Any

from tl_jax.calls import styles
from tl_jax.calls.call import ToolCall
from tl_jax.calls.json_style import JsonStyle
from tl_jax.calls.python_style import NAME_PATTERN
from tl_jax.calls.syntax import MAX_CALLS, MAX_DEPTH, MAX_LENGTH

STYLES = ("released", "script", *styles.STYLES)
"""``released``: ``f(key = 'value', n = 1)``; ``script``: ``f(key="value", n=1)``; ``python``, the
call style that reads both, is written as ``released``; the others as in ``json_style``."""
PYTHON_STYLES = (
    *("released", "script"),
    *(name for name, style in styles.STYLES.items() if style.form is None),
)
"""Those that ``parse.parse_call`` reads as ``python``; the others it reads under their own name."""

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
        brackets belong to the value. The quotes of a name do not belong to it.
    """

    text: str
    name_span: Span
    argument_spans: tuple[tuple[Span, Span], ...]


@dataclasses.dataclass(frozen=True)
class CallsText:
    """Calls rendered as one text.

    Attributes:
      text: The calls, without a blank before or after them.
      calls: Each call's own text, with its spans counted from its own start.
      starts: Where each call's text begins in ``text``. Marks that stand around all calls
        together belong to none of them.
    """

    text: str
    calls: tuple[CallText, ...]
    starts: tuple[int, ...]


def render_call(call: ToolCall, style: str = "released") -> str:
    """Render ``call``; ``parse_call`` reads every style back as an equal call.

    Args:
      call: Name and JSON-like arguments; tuples are written as lists.
      style: ``"released"`` is the form of the released model and the paper's figures (Python
        literals, blanks round ``=``); ``"script"`` that of the published conversion script (JSON
        values, no blanks); for the others see ``STYLES``.

    Raises:
      ValueError: The call has no such text: a Python name with blanks or brackets, an empty tool
        name, a value outside JSON, a number that is not finite, a lone surrogate, or too much
        depth or length.
    """
    return render_call_spans(call, style).text


def render_calls(calls: Sequence[ToolCall], style: str = "released") -> str:
    """Render the calls of one turn; ``parse_calls`` reads every style back.

    Raises:
      ValueError: There is no call, there are too many, or as in ``render_call``.

    Example:
      >>> import tl_jax as tl
      >>> tl.render_calls([tl.ToolCall("weather", {"city": "Rome"})])
      "weather(city = 'Rome')"
      >>> tl.render_calls([tl.ToolCall("weather", {"city": "Rome"})], style="llama_json")
      '{"name": "weather", "parameters": {"city": "Rome"}}'
    """
    return render_calls_spans(calls, style).text


def render_call_spans(call: ToolCall, style: str = "released") -> CallText:
    """Render ``call`` and return where its parts are; see ``render_call``."""
    rendered = render_calls_spans((call,), style)
    return _shifted(rendered.calls[0], rendered.starts[0], rendered.text)


def render_calls_spans(calls: Sequence[ToolCall], style: str = "released") -> CallsText:
    """Render the calls of one turn and return where their parts are; see ``render_calls``."""
    if style not in STYLES:
        raise ValueError(f"unknown call rendering {style!r}; known: {', '.join(STYLES)}")
    if not calls:
        raise ValueError("there is no call to render")
    if len(calls) > MAX_CALLS:
        raise ValueError(f"{len(calls)} calls in one turn; at most {MAX_CALLS} can be read back")
    form = None if style in PYTHON_STYLES else styles.STYLES[style].form
    if form is not None:
        texts = tuple(_json_call(call, form) for call in calls)
        opening, separator, closing = form.opening, form.separator, form.closing
    else:
        texts = tuple(_python_call(call, style) for call in calls)
        opening, separator, closing = "", "\n", ""
    starts = [len(opening)]
    for text in texts[:-1]:
        starts.append(starts[-1] + len(text.text) + len(separator))
    whole = opening + separator.join(text.text for text in texts) + closing
    if len(whole) > MAX_LENGTH:
        names = ", ".join(dict.fromkeys(call.name for call in calls))
        raise ValueError(f"tool {names}: the call is longer than {MAX_LENGTH} characters")
    return CallsText(whole, texts, tuple(starts))


def _shifted(call: CallText, by: int, text: str) -> CallText:
    def moved(span: Span) -> Span:
        return span[0] + by, span[1] + by

    arguments = tuple((moved(name), moved(value)) for name, value in call.argument_spans)
    return CallText(text, moved(call.name_span), arguments)


def _python_call(call: ToolCall, style: str) -> CallText:
    literal, equals = (_json, "=") if style == "script" else (_python, " = ")
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
    return CallText(text + ")", (0, len(call.name)), tuple(spans))


def _json_call(call: ToolCall, form: JsonStyle) -> CallText:
    if not call.name:
        raise ValueError("tool name '' cannot be written in a call; give the tool a name")
    _check_text(call.name, f"tool {call.name!r}")
    text = f'{form.before}{{"name": {_json(call.name)}'
    name_span = (len(text) - len(_json(call.name)) + 1, len(text) - 1)
    text += f', "{form.arguments}": {{'
    spans = []
    for name, value in call.arguments.items():
        where = f"{call.name}.{name}"
        _check_text(name, where)
        _check_value(value, where, 0)
        quoted, rendered = _json(name), _json(value)
        start = len(text) + (3 if spans else 1)
        text += f"{', ' if spans else ''}{quoted}: {rendered}"
        spans.append(((start, start + len(quoted) - 2), (len(text) - len(rendered), len(text))))
    return CallText(f"{text}}}}}{form.after}", name_span, tuple(spans))


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
