"""Write dialogues with a tokenizer's chat template, and find every reply in the text.

A reply is what the template writes after its generation prompt: the turns before it are rendered
with the prompt, the same turns and the reply without. The second text begins with the first, and
the rest, up to and with the token that ends the turn, is the reply. The template marks nothing.

Some templates write an earlier turn otherwise than the last one (Qwen3 leaves old thoughts out,
Mistral moves the tools). Such an earlier reply is context, but cannot be trained in that text; it
is trained in a text of its own.

Templates run in the sandbox of ``transformers``. What they may ask for beside the dialogue is
fixed (``settings``), so that the same dialogue always gives the same text.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from tl_jax.calls.call import ToolSpec, tool_entry
from tl_jax.calls.parse import reply_call_text
from tl_jax.data.render.call_spans import find_calls
from tl_jax.data.render.control_tokens import ControlTokens, unused_character, without_marks
from tl_jax.data.render.paper_template import Rendered, ReplySpan
from tl_jax.data.render.reply_cache import CachedReply, ReplyCache, digests_before
from tl_jax.data.tokenize.tokenizer import Tokenizer
from tl_jax.data.trajectory import Message

CALL_ID = "call{:05d}"
"""Nine letters and digits, the only form that Mistral's templates take."""

_TEMPLATE_ERRORS = (
    jinja2.TemplateError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
)


@dataclasses.dataclass(frozen=True, eq=False)
class ChatTemplate:
    """A chat template and what was found out about it (``probe.open_template``).

    Attributes:
      name: The value of ``data.template``.
      source: The template.
      tokenizer: Its control tokens are those of the text.
      control: Tokens that only the template may write.
      settings: Variables of the template beside the dialogue.
      text_arguments: It takes the arguments of a call as JSON text, not as an object.
      call_style: Style in which it writes calls, one of ``calls.parse.STYLES``.
      writes_thoughts: It writes the thought of a turn before the calls, in a form that can be told
        from them. Otherwise, and where a thought quotes the mark of a call, the turn is written
        without it, as in the released forms.
      writes_greetings: It writes an assistant turn that opens the dialogue. Otherwise that turn,
        which is never trained, is left out.
      stops: Texts of the control tokens that end a reply.
    """

    name: str
    source: str = dataclasses.field(repr=False)
    tokenizer: Tokenizer = dataclasses.field(repr=False)
    control: ControlTokens = dataclasses.field(repr=False)
    settings: Mapping[str, Any]
    text_arguments: bool
    call_style: str = ""
    writes_thoughts: bool = True
    writes_greetings: bool = True
    stops: tuple[str, ...] = ()

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that end a reply: those of ``stops``, then the end-of-sequence id."""
        ids = map(self.tokenizer.token_id, self.stops)
        return tuple(dict.fromkeys([*ids, self.tokenizer.eos_id]))

    @property
    def fingerprint(self) -> str:
        """sha256 of the template."""
        return hashlib.sha256(self.source.encode()).hexdigest()

    @functools.cached_property
    def reply_control(self) -> ControlTokens:
        """Tokens that a reply's own text may not bring in; tags like ``<think>`` it may."""
        special = self.tokenizer.added_tokens
        kept = (t for t in self.control.texts if special[t] or t in self.stops)
        return ControlTokens(frozenset(kept))

    @functools.cached_property
    def stop_pattern(self) -> re.Pattern[str]:
        """Matches the end of a reply."""
        return re.compile("|".join(map(re.escape, self.stops)) or "(?!)")


class Dialogue:
    """A dialogue as the template sees it, with marks in the control tokens typed in it.

    Attributes:
      mark: The mark.

    Args:
      template: Who writes it.
      tools: Tools of the prompt.
      messages: The turns.
    """

    def __init__(
        self, template: ChatTemplate, tools: Sequence[ToolSpec], messages: Sequence[Message]
    ):
        self._template = template
        chat = _chat(messages, template)
        schemas = [tool_entry(tool) for tool in tools]
        self.mark = unused_character([chat, schemas])
        self._tools = template.control.mark(schemas, self.mark) or None
        self._chat = [self._marked(turn) for turn in chat]
        greeted = bool(messages) and messages[0].role == "assistant"
        self._first = int(greeted and not template.writes_greetings)

    def _marked(self, turn: dict[str, Any]) -> dict[str, Any]:
        marked = self._template.control.mark(turn, self.mark)
        if turn["role"] == "assistant":
            marked["content"] = self._template.reply_control.mark(turn["content"], self.mark)
        return marked

    def write(self, count: int, *, prompt: bool = False) -> str:
        """Return the text, with marks, of the first ``count`` turns.

        Raises:
          ValueError: The template refuses them.
        """
        turns = self._chat[self._first : count]
        if not turns:
            raise ValueError("a chat template needs a turn before the first reply")
        try:
            return self._template.tokenizer.fast.apply_chat_template(
                turns,
                tools=self._tools,
                chat_template=self._template.source,
                add_generation_prompt=prompt,
                tokenize=False,
                **self._template.settings,
            )
        except _TEMPLATE_ERRORS as error:
            raise ValueError(
                f"the chat template refuses the dialogue ({type(error).__name__}: {error})"
            ) from error

    def write_reply(self, index: int) -> tuple[str, str]:
        """Return the prompt for turn ``index`` and what the template writes after it.

        Raises:
          ValueError: The template refuses the turns, or does not continue its own prompt.
        """
        before = self.write(index, prompt=True)
        through = self.write(index + 1)
        if not through.startswith(before):
            raise ValueError(
                f"the chat template does not write turn {index} after its own generation prompt"
            )
        return before, through[len(before) :]


def render_chat(
    template: ChatTemplate,
    tools: Sequence[ToolSpec],
    messages: Sequence[Message],
    *,
    prompt: bool = False,
    places: ReplyCache | None = None,
    names: Sequence[int] = (),
) -> Rendered:
    """Render a dialogue that ends with an assistant turn, or what comes before such a turn.

    Args:
      template: From ``probe.open_template``.
      tools: Tools of the prompt.
      messages: The turns.
      prompt: Write all turns and the generation prompt.
      places: What is known of texts of the same template, tools and dialogue.
      names: What tells each of the messages from others of that dialogue; their numbers, if empty.

    Returns:
      The text with its control tokens. ``replies`` are those assistant turns that stand in it as
      they stand where they are the last turn; the last turn of a training text always does. An
      assistant turn that opens the dialogue is no reply; if it is all there is, the text is empty.

    Raises:
      ValueError: The template refuses the dialogue, drops a call, or leaves a reply without a
        token that ends it; or the last turn is no assistant turn.
    """
    dialogue = Dialogue(template, tools, messages)
    turns = [index for index, message in enumerate(messages) if message.role == "assistant"]
    places = places or ReplyCache()
    numbers = places.numbers(dialogue.mark, names or range(len(messages)))
    replies: dict[int, CachedReply] = {}
    text = ""
    for index in filter(None, turns):
        text = ""
        if numbers[index] not in places.known:
            text, places.known[numbers[index]] = _place(dialogue, template, index)
        replies[index] = places.known[numbers[index]]
    if prompt:
        text = dialogue.write(len(messages), prompt=True)
    elif not turns or turns[-1] != len(messages) - 1:
        raise ValueError("a training text must end with an assistant turn")
    elif last := replies.get(turns[-1]):
        text = (text or dialogue.write(len(messages)))[: last.end]
    plain, breaks = without_marks(text, dialogue.mark)
    marks = [found.start() for found in re.finditer(dialogue.mark, text)]
    digests = digests_before(text, [reply.end for reply in replies.values()])
    spans = []
    for number, index in enumerate(turns, start=1):
        reply = replies.get(index)
        if reply and digests[reply.end] == reply.digest:
            start, stop, end = (
                at - bisect.bisect_left(marks, at) for at in (reply.start, reply.stop, reply.end)
            )
            after = _end_of_thought(plain, start, stop, messages[index], template)
            calls = find_calls(plain, after, stop, messages[index].calls, template.call_style)
            spans.append(ReplySpan(index, number, start, stop, end, calls))
    return Rendered(plain, tuple(spans), breaks=breaks, has_control=True)


def _place(dialogue: Dialogue, template: ChatTemplate, index: int) -> tuple[str, CachedReply]:
    """Return the text through a turn, and where in it the reply is."""
    before, rest = dialogue.write_reply(index)
    found = template.stop_pattern.search(rest)
    if found is None:
        raise ValueError(f"the chat template writes no token that ends turn {index}")
    text = before + rest
    start = len(before)
    end = start + found.end()
    digest = digests_before(text, [end])[end]
    return text, CachedReply(start, start + found.start(), end, digest)


def _end_of_thought(
    text: str, start: int, stop: int, message: Message, template: ChatTemplate
) -> int:
    """Return where the calls of a reply may begin, as its thought may quote one of them."""
    thought = _thought(message.content, template).strip()
    at = text.find(thought, start, stop)
    return at + len(thought) if at >= 0 else start  # some templates rewrite thoughts


def _thought(content: str, template: ChatTemplate) -> str:
    """Return what is written before the calls of a turn: nothing that could be taken for a call."""
    after_blank = f" {content}"
    marked = reply_call_text(after_blank, template.call_style) != after_blank
    return content if template.writes_thoughts and not marked else ""


def _chat(messages: Sequence[Message], template: ChatTemplate) -> list[dict[str, Any]]:
    """Return the turns in the form that chat templates read; results refer to their calls."""
    chat: list[dict[str, Any]] = []
    waiting: list[dict[str, Any]] = []
    number = 0
    for message in messages:
        turn: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.role == "assistant":
            waiting = []
            if message.calls:
                turn["content"] = _thought(message.content, template)
            for call in message.calls:
                arguments: Any = dict(call.arguments)
                if template.text_arguments:
                    arguments = json.dumps(arguments, ensure_ascii=False)
                function = {"name": call.name, "arguments": arguments}
                waiting.append(
                    {"type": "function", "id": CALL_ID.format(number), "function": function}
                )
                number += 1
            if waiting:
                turn["tool_calls"] = list(waiting)
        elif message.role == "tool" and waiting:
            answered = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            turn["name"] = answered["function"]["name"]
            turn["tool_call_id"] = answered["id"]
        chat.append(turn)
    return chat
