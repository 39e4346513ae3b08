"""The call styles, each one entry: how it is read, written, found in a text and constrained.

A new style is a file with its parser, a form or a writer of its own, and an entry here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from tl_jax.calls.call import ToolCall
from tl_jax.calls.json_style import (
    HERMES,
    LLAMA,
    MISTRAL,
    JsonStyle,
    parse_hermes,
    parse_llama_json,
    parse_mistral,
)
from tl_jax.calls.python_style import parse_python


@dataclasses.dataclass(frozen=True)
class Style:
    """One way in which models write calls.

    Attributes:
      parse: Reads a text as calls, given how many there may be at most.
      form: How a call is written as JSON; None: in Python syntax.
      marks: Texts that only a call of this style has; where no call is right, one of them anywhere
        in a reply is a call all the same.
      named: Whether a chat template may write a call as ``name[ARGS]{...}``.
      constrained: Whether a reply can be held to the offered names. A style that is written in two
        forms cannot: which one comes is not known.
    """

    parse: Callable[[str, int], tuple[ToolCall, ...]]
    form: JsonStyle | None = None
    marks: tuple[str, ...] = ()
    named: bool = False
    constrained: bool = True

    @property
    def mark(self) -> str:
        """What the first call of a reply always begins with; empty if there is no such thing."""
        return self.form.mark if self.form is not None else ""

    @property
    def tagged(self) -> bool:
        """Whether every call stands between tags of its own."""
        return self.form is not None and bool(self.form.before)


STYLES: Mapping[str, Style] = {
    "python": Style(parse_python),
    "hermes": Style(parse_hermes, HERMES, marks=("<tool_call", "</tool_call")),
    "llama_json": Style(parse_llama_json, LLAMA, marks=("<|python_tag|>",)),
    "mistral": Style(
        parse_mistral, MISTRAL, marks=("[TOOL_CALLS]",), named=True, constrained=False
    ),
}
"""Call styles by name."""
