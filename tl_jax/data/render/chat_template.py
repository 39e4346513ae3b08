"""Write dialogues with a tokenizer's chat template, and find every reply in the text.

A turn is trained after the prompt that an engine would send: the turns before it, rendered with the
generation prompt. The reply is what the template writes for the turn, up to and with the token that
ends it; the template marks nothing.

Some templates write an earlier turn otherwise than the last one (Qwen3 leaves old thoughts out,
Mistral moves the tools). Such an earlier reply is context, but cannot be trained in that text; it
is trained in a text of its own.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Sequence

from tl_jax.calls.call import ToolSpec
from tl_jax.calls.call_text import CallSpan, moved
from tl_jax.calls.compare import values_equal
from tl_jax.calls.parse import parse_turn, reply_call_text
from tl_jax.calls.syntax import CallSyntaxError
from tl_jax.data.render.call_spans import find_calls
from tl_jax.data.render.control_tokens import without_marks
from tl_jax.data.render.dialogue import THOUGHT_TAGS, ChatTemplate, Dialogue
from tl_jax.data.render.paper_template import Rendered, ReplySpan
from tl_jax.data.render.reply_cache import CachedReply, ReplyCache, digests_before
from tl_jax.data.trajectory import Message

_THOUGHT_AT_START = re.compile(
    rf"\A.*?(?:{'|'.join(re.escape(closing) for _, closing in THOUGHT_TAGS)})\s*", re.DOTALL
)


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
      ValueError: The template refuses the dialogue, drops a call of its last turn, or leaves that
        turn without a token that ends it; or the last turn is no assistant turn.
    """
    dialogue = Dialogue(template, tools, messages)
    turns = [index for index, message in enumerate(messages) if message.role == "assistant"]
    places = places or ReplyCache()
    numbers = places.numbers(dialogue.mark, names or range(len(messages)))
    replies: dict[int, CachedReply] = {}
    problem, before = "", ""
    for index in filter(None, turns):
        before = ""
        if numbers[index] not in places.known:
            before, places.known[numbers[index]] = _place(
                dialogue, template, tools, messages, index
            )
        found = places.known[numbers[index]]
        if isinstance(found, CachedReply):
            replies[index] = found
        else:
            problem = found
    text = ""
    if prompt:
        text = dialogue.write(len(messages), prompt=True)
    elif not turns or turns[-1] != len(messages) - 1:
        raise ValueError("a training text must end with an assistant turn")
    elif last := replies.get(turns[-1]):
        text = (before or dialogue.write(turns[-1], prompt=True)) + last.text
    elif turns[-1]:
        raise ValueError(problem)
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
            calls = tuple(_moved(call, start) for call in reply.calls)
            spans.append(ReplySpan(index, number, start, stop, end, calls))
    return Rendered(plain, tuple(spans), breaks=breaks, has_control=True)


def render_feedback(
    template: ChatTemplate, tools: Sequence[ToolSpec], messages: Sequence[Message], index: int
) -> Rendered:
    """Render the prompt for the turn after the results of a reply, with the reply found in it.

    Unlike ``render_chat`` this also finds a reply that is written otherwise once results follow.

    Args:
      template: From ``probe.open_template``.
      tools: Tools of the prompt.
      messages: The turns, the results of the reply included.
      index: The reply.

    Raises:
      ValueError: The template refuses the dialogue, or does not write the reply before its results.
    """
    dialogue = Dialogue(template, tools, messages)
    _, found = _place(dialogue, template, tools, messages, index)
    if not isinstance(found, CachedReply):
        raise ValueError(found)
    text = dialogue.write(len(messages), prompt=True)
    for written in (found.text, _THOUGHT_AT_START.sub("", found.text)):
        at = text.rfind(written) if written else -1
        if at < 0:
            continue
        plain, breaks = without_marks(text, dialogue.mark)
        end = at + len(written)
        start, stop, end = (
            place - text.count(dialogue.mark, 0, place)
            for place in (at, end - (found.end - found.stop), end)
        )
        span = ReplySpan(index, 1, start, stop, end, ())
        return Rendered(plain, (span,), breaks=breaks, has_control=True)
    raise ValueError("the chat template writes a reply otherwise once its results follow")


def _place(
    dialogue: Dialogue,
    template: ChatTemplate,
    tools: Sequence[ToolSpec],
    messages: Sequence[Message],
    index: int,
) -> tuple[str, CachedReply | str]:
    """Return the prompt of a turn and where its reply is, or why it is nowhere."""
    try:
        before, rest = dialogue.write_reply(index)
        found = template.stop_pattern.search(rest)
        if found is None:
            raise ValueError(f"the chat template writes no token that ends turn {index}")
        body = without_marks(rest[: found.start()], dialogue.mark)[0]
        calls = _calls_of(body, messages[index], template, tools)
    except ValueError as error:
        return "", str(error)
    start = len(before)
    end = start + found.end()
    digest = digests_before(before + rest, [end])[end]
    reply = rest[: found.end()]
    return before, CachedReply(start, start + found.start(), end, digest, reply, calls)


def _calls_of(
    body: str, message: Message, template: ChatTemplate, tools: Sequence[ToolSpec]
) -> tuple[CallSpan, ...]:
    """Return where the calls are in a reply.

    Raises:
      ValueError: The reply lacks a part of the turn, or its calls would not be read back.
    """
    words = template.preamble(message) if message.calls else message.content
    after = 0
    for what, text in (("thoughts", template.thoughts(message)), ("words", words)):
        at = body.find(text.strip(), after)
        if at < 0:
            raise ValueError(f"the chat template does not write the {what} of a turn as they are")
        after = at + len(text.strip())
    if not message.calls:
        return ()
    spans = find_calls(body, after, len(body), message.calls, template.call_style)
    try:
        read = parse_turn(reply_call_text(body, template.call_style), template.call_style, tools)
    except CallSyntaxError as error:
        raise ValueError(f"the calls that the chat template writes cannot be read ({error})") from (
            error
        )
    same = len(read) == len(message.calls) and all(
        one.name == other.name and values_equal(dict(one.arguments), dict(other.arguments))
        for one, other in zip(read, message.calls, strict=True)
    )
    if not same:
        raise ValueError("the calls that the chat template writes are read as other calls")
    return spans


def _moved(call: CallSpan, by: int) -> CallSpan:
    """Return the spans of a call counted from another place."""
    arguments = tuple((moved(name, by), moved(value, by)) for name, value in call.arguments)
    return CallSpan(moved(call.call, by), moved(call.name, by), arguments)
