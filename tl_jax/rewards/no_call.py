"""Replies in words: whether a text that should hold no call holds one."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tl_jax.calls.parse import CallSyntaxError, parse_calls
from tl_jax.calls.styles import STYLES

_MARKS = tuple(mark for style in STYLES.values() for mark in style.marks)
_NAME = r"[\w.\-$@/:]"
# A name, a bracket and a keyword argument. The look-behind keeps the search linear.
_PYTHON_CALL = re.compile(rf"(?<!{_NAME}){_NAME}++[ \t]*+\([ \t\r\n]*+{_NAME}++[ \t\r\n]*+=(?!=)")
_JSON_CALL = re.compile(r"""(["'])(?:name|function|tool)\1[ \t\r\n]*+:[ \t\r\n]*+["'{]""")
_BRACKET = re.compile(r"[ \t\r\n]*+[({]|[ \t]*+\[")
_NAME_CHARACTER = re.compile(_NAME)
_CONTROL = re.compile(r"<[|/]?[^<>\s]*[|>]?>|\[/?[A-Z_]+\]")


def holds_words(text: str) -> bool:
    """Tell whether ``text`` has a letter or digit outside control tokens such as ``<|im_end|>``."""
    return any(map(str.isalnum, _CONTROL.sub(" ", text)))


def holds_call(text: str, tool_names: Iterable[str], style: str) -> bool:
    """Tell whether a call stands anywhere in ``text``, whole or begun, in any call style.

    That is more than ``parse.parse_calls`` reads, so that a broken or hidden call is not taken for
    a reply in words: the mark of a style, an offered name with a bracket after it, any name with a
    keyword argument, the field of a JSON or Python dictionary that names a tool.

    Args:
      text: A reply.
      tool_names: Names of the offered tools.
      style: Call style of the run.
    """
    if any(mark in text for mark in _MARKS) or _JSON_CALL.search(text):
        return True
    if _PYTHON_CALL.search(text) or any(_begins_call(text, name) for name in tool_names):
        return True
    try:
        parse_calls(text, style)
    except CallSyntaxError:
        return False
    return True


def _begins_call(text: str, name: str) -> bool:
    at = text.find(name) if name else -1
    while at >= 0:
        inside = at > 0 and _NAME_CHARACTER.match(text, at - 1) is not None
        at += len(name)
        if not inside and _BRACKET.match(text, at):
            return True
        at = text.find(name, at)
    return False
