"""The text form of a model: what it is trained on, asked with, and how its replies are read."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tl_jax.calls import parse, render
from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.config import DataConfig
from tl_jax.data.render import paper_template
from tl_jax.data.render.chat_template import render_chat, render_feedback
from tl_jax.data.render.dialogue import ChatTemplate
from tl_jax.data.render.encode import Encoded, encode_rendered
from tl_jax.data.render.paper_template import Rendered
from tl_jax.data.render.probe import SUFFIX, choose
from tl_jax.data.render.reply_cache import ReplyCache
from tl_jax.data.tokenize.tokenizer import Tokenizer
from tl_jax.data.trajectory import Message, Trajectory


@dataclasses.dataclass(frozen=True)
class Renderer:
    """Writes and reads the text form of one model; made by ``open_renderer``.

    All that a model reads or writes goes through one of these, so that training, sampling, scoring
    and export agree: ``encode`` makes what is trained, ``prompt_ids`` what is asked (the ids of a
    prompt are the beginning of those of the sample that trains its reply), ``feedback_ids`` what
    stands between a reply and the next one. A reply ends with one of ``stop_ids``; ``parse`` reads
    its calls, and reads back what ``render_calls`` writes.

    Attributes:
      tokenizer: Of the model.
      template: As ``data.template``, but never ``auto``.
      samples: As ``data.samples``.
      chat: The chat template; None for the released forms.
      more_stops: Ids that end a reply beside those of the template, as the model's
        ``generation_config.json`` says.
      reason: Why the text form is this one.
    """

    tokenizer: Tokenizer
    template: str
    samples: str
    chat: ChatTemplate | None
    more_stops: tuple[int, ...] = ()
    reason: str = "as set"

    @property
    def call_style(self) -> str:
        """How calls are read: one of ``calls.parse.STYLES``."""
        return "python" if self.chat is None else self.chat.call_style

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that end a reply."""
        own = (self.tokenizer.eos_id,) if self.chat is None else self.chat.stop_ids
        return tuple(dict.fromkeys([*own, *self.more_stops]))

    def described(self) -> str:
        """Return the text form in a line."""
        name = repr(self.template) if self.template.endswith(SUFFIX) else self.template
        return f"text form {name} with {self.call_style} calls: {self.reason}"

    def left_out(self, message: Message) -> list[str]:
        """Return what of an assistant turn is not written, in words."""
        found = []
        thoughts = "" if self.chat is None else self.chat.thoughts(message)
        preamble = "" if self.chat is None else self.chat.preamble(message)
        if message.thoughts and not thoughts:
            found.append("thoughts")
        if message.calls and message.content.strip() and not preamble:
            found.append("words before calls")
        return found

    def encode(
        self,
        tools: Sequence[ToolSpec],
        messages: Sequence[Message],
        *,
        places: ReplyCache | None = None,
        names: Sequence[int] = (),
    ) -> Encoded:
        """Tokenise turns that end with an assistant turn.

        In the released forms a sample per trajectory makes every reply a piece of its own with a
        stop token; with a sample per turn the text before the last reply is one piece, of which
        the prompts are prefixes. In a chat template every reply is a piece of its own.

        Args:
          tools: Tools of the prompt.
          messages: The turns.
          places: See ``render_chat``.
          names: See ``render_chat``.

        Raises:
          ValueError: The turns cannot be written.
        """
        if self.chat is None:
            rendered = paper_template.render_sample(
                tools,
                messages,
                self.template,
                self.tokenizer.eos_text,
                stop_after_every_reply=self.samples == "per_trajectory",
            )
        else:
            rendered = render_chat(self.chat, tools, messages, places=places, names=names)
        return encode_rendered(rendered, self.tokenizer)

    def encode_trajectory(self, trajectory: Trajectory) -> Encoded:
        """Tokenise a whole trajectory once, up to its last assistant turn; see ``encode``.

        With a chat template it ends with the last turn that the template can write.
        """
        messages = trajectory.messages
        turns = [i for i, m in enumerate(messages) if m.role == "assistant"]
        places = ReplyCache()
        for last in reversed(turns):
            try:
                encoded = self.encode(trajectory.tools, messages[: last + 1], places=places)
                return dataclasses.replace(encoded, places=places)
            except ValueError:
                if self.chat is None or last == turns[0]:
                    raise
        raise ValueError("there is no assistant turn")

    def render_prompt(self, tools: Sequence[ToolSpec], messages: Sequence[Message]) -> Rendered:
        """Write the prompt that asks for the next assistant turn.

        In the released forms every earlier reply is followed by the end-of-sequence text if it is
        in training, with a sample per trajectory.
        """
        return self._prompt(tools, messages, stops=self.samples == "per_trajectory")

    def prompt_ids(self, tools: Sequence[ToolSpec], messages: Sequence[Message]) -> list[int]:
        """Return the ids of ``render_prompt``.

        Args:
          tools: Tools of the prompt.
          messages: The turns so far.

        Raises:
          ValueError: The turns cannot be written.
        """
        return encode_rendered(self.render_prompt(tools, messages), self.tokenizer).ids

    def feedback_ids(
        self,
        tools: Sequence[ToolSpec],
        before: Sequence[Message],
        calls: Sequence[ToolCall],
        results: Sequence[str],
    ) -> list[int]:
        """Return the ids between the stop token of a reply and the reply to its results.

        They are those of a dialogue written anew and depend on neither the reply's text nor its
        tokens: in the released forms every reply ends with a stop token here.

        Args:
          tools: Tools of the prompt.
          before: Turns before the reply.
          calls: Calls of the reply.
          results: What came of them, in order.

        Raises:
          ValueError: The template does not write such turns, or rewrites a reply that has results.
        """
        reply = Message("assistant", "", tuple(calls))
        messages = [*before, reply, *(Message("tool", result) for result in results)]
        if self.chat is None:
            rendered = self._prompt(tools, messages, stops=True)
        else:
            rendered = render_feedback(self.chat, tools, messages, len(before))
        encoded = encode_rendered(rendered, self.tokenizer)
        return encoded.ids[encoded.borders[len(before)][1] :]

    def _prompt(
        self, tools: Sequence[ToolSpec], messages: Sequence[Message], *, stops: bool
    ) -> Rendered:
        if self.chat is not None:
            return render_chat(self.chat, tools, messages, prompt=True)
        return paper_template.render_prompt(
            tools,
            messages,
            self.template,
            eos_text=self.tokenizer.eos_text,
            stop_after_every_reply=stops,
        )

    def render_calls(self, calls: Sequence[ToolCall]) -> str:
        """Write the calls of one turn.

        Raises:
          ValueError: There is no call, or one that has no text form.
        """
        style = self.template if self.chat is None else self.call_style
        return render.render_calls(calls, style)

    def call_text(self, reply: str) -> str:
        """Return a reply from its first call mark on, without the thought before it."""
        return parse.reply_call_text(reply, self.call_style)

    def parse(self, reply: str, tools: Sequence[ToolSpec] = ()) -> tuple[ToolCall, ...]:
        """Return the calls of a reply, before which a thought may stand.

        Args:
          reply: Text of a reply without what ended it.
          tools: Those of the prompt; see ``parse.parse_call``.

        Returns:
          The calls in order; none if the reply is anything else.
        """
        try:
            return parse.parse_turn(self.call_text(reply), self.call_style, tools)
        except parse.CallSyntaxError:
            return ()

    def parse_call(self, reply: str, tools: Sequence[ToolSpec] = ()) -> ToolCall | None:
        """Return the one call of a reply, or None if it is anything else; see ``parse``."""
        calls = self.parse(reply, tools)
        return calls[0] if len(calls) == 1 else None


def open_renderer(
    data: DataConfig, tokenizer: Tokenizer, *, more_stops: Sequence[int] = ()
) -> Renderer:
    """Return the renderer of ``data.template`` and ``data.samples``.

    Args:
      data: Settings of the data.
      tokenizer: Of the model.
      more_stops: Ids that end a reply beside those of the template.

    Raises:
      DataError: The tokenizer has no such chat template, or it cannot be used.
    """
    form = choose(
        data.template, tokenizer, data.template_settings, train_thoughts=data.train_thoughts
    )
    return Renderer(tokenizer, form.name, data.samples, form.chat, tuple(more_stops), form.reason)
