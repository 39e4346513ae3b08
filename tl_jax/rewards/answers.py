"""The right answers of a prompt: one call, several at once, none, or a choice of these."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.calls.parse import CallSyntaxError, parse_call, parse_calls
from tl_jax.calls.styles import STYLES


@dataclasses.dataclass(frozen=True)
class Parallel:
    """The calls of one turn, in any order; without any, no call is right.

    Attributes:
      calls: The calls.
      words: Where there are none, the right answer in words; empty if any words are right.
    """

    calls: tuple[ToolCall, ...] = ()
    words: str = ""


Answer = str | ToolCall | Parallel | None
"""A text, a call, the calls of one turn, or None for no call."""
Gold = Answer | Sequence[Answer]
"""A right answer, or several of which each is right."""


def read_golds(
    gold: Gold, style: str, given_tool: str, tools: Sequence[ToolSpec] = ()
) -> tuple[tuple[ToolCall, ...], ...]:
    """Return the calls of every accepted answer.

    Args:
      gold: A text may hold several calls (``parse.parse_calls``); an empty sequence is refused.
      style: Call style of texts.
      given_tool: As in ``rules.score``; such a text holds only the arguments of one call.
      tools: Those that are offered; see ``parse.parse_call``.

    Raises:
      CallSyntaxError: A text is no call.
      ValueError: There is no answer, or the given tool leaves no place for an answer that is not
        one call.
    """
    golds = tuple(_read(answer, style, given_tool, tools) for answer in alternatives(gold))
    if given_tool and any(len(calls) != 1 for calls in golds):
        raise ValueError(f"only one call can begin with the given tool {given_tool!r}")
    return golds


def alternatives(gold: Gold) -> Sequence[Answer]:
    """Return every accepted answer.

    Raises:
      ValueError: There is none.
    """
    if gold is None or isinstance(gold, (str, ToolCall, Parallel)):
        return (gold,)
    if not gold:
        raise ValueError("there is no gold answer; where no call is right, say so with None")
    return gold


def read_call_after(given_tool: str, text: str) -> tuple[ToolCall, bool]:
    """Return the call of a text after a prompt that may end with a tool's name.

    Returns:
      The call, and whether the text continues the given tool's name, as it should.

    Raises:
      CallSyntaxError: There is no such call.
    """
    arguments = text.lstrip()
    if given_tool and arguments.startswith("("):
        return parse_call(given_tool + arguments), True
    return parse_call(text), not given_tool


def right_words(gold: Gold) -> tuple[str, ...]:
    """Return the texts that are right where no call is; none if any words are."""
    silent = [answer for answer in alternatives(gold) if not isinstance(answer, str)]
    found = [answer for answer in silent if not as_calls(answer)]
    texts = tuple(answer.words if isinstance(answer, Parallel) else "" for answer in found)
    return texts if all(texts) else ()


def visible_words(text: str, style: str) -> str:
    """Return what a reply in words says to the user, without the thought before it."""
    end = STYLES[style].thoughts[1] if style in STYLES else ""
    return text.rpartition(end)[2].strip() if end else text.strip()


def as_calls(answer: ToolCall | Parallel | None) -> tuple[ToolCall, ...]:
    """Return the calls of an answer that is no text."""
    if answer is None:
        return ()
    return answer.calls if isinstance(answer, Parallel) else (answer,)


def _read(
    answer: Answer, style: str, given_tool: str, tools: Sequence[ToolSpec]
) -> tuple[ToolCall, ...]:
    if not isinstance(answer, str):
        return as_calls(answer)
    if style in STYLES and STYLES[style].typed_by_tools:
        return parse_calls(answer, style, tools)
    found = _read_text(answer, style, given_tool)
    if isinstance(found, CallSyntaxError):
        raise CallSyntaxError(found.reason, found.position)
    return found


# The samples of a prompt are scored one after another against the same gold text.
@functools.lru_cache(maxsize=4096)
def _read_text(text: str, style: str, given_tool: str) -> tuple[ToolCall, ...] | CallSyntaxError:
    try:
        if given_tool:
            return (read_call_after(given_tool, text)[0],)
        return parse_calls(text, style)
    except CallSyntaxError as error:
        return error.with_traceback(None)  # it would keep the frames of the parser alive
