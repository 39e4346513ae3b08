"""What a call style is: the forms in which its calls are written and read."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.calls.call_text import CallSpan, CallText
from tl_jax.calls.syntax import CallSyntaxError
from tl_jax.calls.text_form import TextForm


class Form(Protocol):
    """One way to write calls."""

    @property
    def mark(self) -> str:
        """What the first call of a reply always begins with; empty if there is no such thing."""
        ...

    @property
    def around(self) -> tuple[str, str, str]:
        """What is written before, between and after all calls."""
        ...

    def parse(self, text: str, most: int, tools: Sequence[ToolSpec] = ()) -> tuple[ToolCall, ...]:
        """Read a whole text as calls.

        Args:
          text: The text.
          most: How many calls there may be.
          tools: Those that are offered, as far as known: they tell a text from a number where the
            form does not.

        Raises:
          CallSyntaxError: It is anything else.
        """
        ...

    def write(self, call: ToolCall, number: int = 0) -> CallText:
        """Write the call of a turn that has a number, counted from 0.

        Raises:
          ValueError: The call has no text in this form.
        """
        ...

    def find(self, text: str, start: int, stop: int, call: ToolCall) -> CallSpan | None:
        """Find the first place in ``text[start:stop]`` at which a known call stands.

        The span of the call has its own tags in it; marks round several calls belong to none.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Style:
    """One way in which models write calls.

    Attributes:
      forms: How calls are written, the first, and how else they may stand in a reply.
      marks: Texts that only a call of this style has; where no call is right, one of them anywhere
        in a reply is a call all the same.
      thoughts: Tags round the thought that may stand before the calls.
      constrained: Whether a reply can be held to the offered names (``sampling.grammar``). A style
        that is written in two forms cannot: which one comes is not known.
    """

    forms: tuple[Form, ...]
    marks: tuple[str, ...] = ()
    thoughts: tuple[str, str] = ("<think>", "</think>")
    constrained: bool = False

    @property
    def form(self) -> Form:
        """The form in which calls are written."""
        return self.forms[0]

    @property
    def mark(self) -> str:
        """What the first call of a reply always begins with; empty if there is no such thing."""
        return self.form.mark

    @property
    def typed_by_tools(self) -> bool:
        """Whether it needs the tools to tell a text from a number."""
        return any(isinstance(form, TextForm) for form in self.forms)

    def parse(self, text: str, most: int, tools: Sequence[ToolSpec] = ()) -> tuple[ToolCall, ...]:
        """Read a text as calls in any of the forms; see ``Form.parse``.

        Raises:
          CallSyntaxError: It is none; the error is that of the form which came furthest.
        """
        errors = []
        for form in self.forms:
            try:
                return form.parse(text, most, tools)
            except CallSyntaxError as error:
                errors.append(error)
        raise max(errors, key=lambda error: error.position)

    def find(self, text: str, start: int, stop: int, call: ToolCall) -> CallSpan | None:
        """Find a known call in any of the forms; see ``Form.find``."""
        found = (form.find(text, start, stop, call) for form in self.forms)
        return min(filter(None, found), key=lambda span: span.call[0], default=None)
