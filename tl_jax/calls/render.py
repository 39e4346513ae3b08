"""Write calls as text, with the character spans of their parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tl_jax.calls import styles
from tl_jax.calls.call import ToolCall
from tl_jax.calls.call_text import CallText
from tl_jax.calls.marks import ID
from tl_jax.calls.python_form import RELEASED, SCRIPT
from tl_jax.calls.syntax import MAX_CALLS, MAX_LENGTH

_PYTHON = {"released": RELEASED, "script": SCRIPT}
STYLES = (*_PYTHON, *styles.STYLES)
"""``released``: ``f(key = 'value', n = 1)``; ``script``: ``f(key="value", n=1)``; ``python``, the
call style that reads both, is written as ``released``; the others as their first form says."""
PYTHON_STYLES = (*_PYTHON, "python")
"""Those that ``parse.parse_call`` reads as ``python``; the others it reads under their own name."""


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
    return rendered.calls[0].moved(rendered.starts[0], rendered.text)


def render_calls_spans(calls: Sequence[ToolCall], style: str = "released") -> CallsText:
    """Render the calls of one turn and return where their parts are; see ``render_calls``."""
    if style not in STYLES:
        raise ValueError(f"unknown call rendering {style!r}; known: {', '.join(STYLES)}")
    if not calls:
        raise ValueError("there is no call to render")
    if len(calls) > MAX_CALLS:
        raise ValueError(f"{len(calls)} calls in one turn; at most {MAX_CALLS} can be read back")
    form = _PYTHON.get(style) or styles.STYLES[style].form
    texts = tuple(form.write(call, number) for number, call in enumerate(calls))
    opening, separator, closing = form.around
    whole, starts = opening, []
    for number, (call, text) in enumerate(zip(calls, texts, strict=True)):
        whole += separator.replace(ID, call.name) if number else ""
        starts.append(len(whole))
        whole += text.text
    whole += closing
    if len(whole) > MAX_LENGTH:
        names = ", ".join(dict.fromkeys(call.name for call in calls))
        raise ValueError(f"tool {names}: the call is longer than {MAX_LENGTH} characters")
    return CallsText(whole, texts, tuple(starts))
