"""How the replies of a system are read and written: one of the call styles, or ReAct text."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.calls.parse import STYLES as CALL_STYLES
from tl_jax.calls.parse import CallSyntaxError, parse_turn, reply_call_text
from tl_jax.calls.render import render_calls
from tl_jax.evaluate.suites.rotbench_rules import parse_react
from tl_jax.evaluate.suites.suite import Read, Reader, Writer
from tl_jax.rewards.no_call import holds_call, holds_words

REACT = "react"
STYLES = (*CALL_STYLES, REACT)
"""Styles of replies: those of ``calls``, and the ReAct text of RoTBench and ToolAlpaca."""


def reader(style: str, tools: Sequence[ToolSpec]) -> Reader:
    """Return what reads replies to a prompt with some tools; the same for whoever wrote them."""
    names = [tool.name for tool in tools]

    def read(text: str) -> Read:
        problem = "no Action with an Action Input that is a JSON object"
        if style == REACT:
            call = parse_react(text)
            if call is not None:
                return Read((call,))
            silent = "Action:" not in text and not holds_call(text, names, "python")
            return Read((), problem, silent and holds_words(text))
        try:
            return Read(parse_turn(reply_call_text(text, style), style, tools))
        except CallSyntaxError as error:
            words = holds_words(text) and not holds_call(text, names, style)
            return Read((), str(error), words)

    return read


def unread(problem: str) -> Reader:
    """Return what reads nothing, for a reply that is none."""
    return lambda text: Read((), problem)


def writer(style: str) -> Writer:
    """Return what writes the calls of one turn."""

    def write(calls: Sequence[ToolCall]) -> str:
        if style != REACT:
            return render_calls(calls, style)
        if len(calls) != 1:
            raise ValueError("ReAct text has one call a turn")
        arguments = json.dumps(dict(calls[0].arguments), ensure_ascii=False)
        return f"Thought:\nAction: {calls[0].name}\nAction Input: {arguments}"

    return write
