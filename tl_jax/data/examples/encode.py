"""Token ids of a written dialogue, and where in them every reply is.

A reply that is trained is tokenised apart from the text before it and ends with a stop token.
Prompts are cut at the same border, so the ids of a prompt followed by those of its reply are the
ids of the example.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.data.render import paper_template
from tl_jax.data.render.chat_template import render_chat
from tl_jax.data.render.paper_template import Rendered, ReplySpan, render_prompt, render_sample
from tl_jax.data.render.probe import open_template
from tl_jax.data.render.reply_cache import Places
from tl_jax.data.tokenize.tokenizer import Offsets, Tokenizer
from tl_jax.data.trajectory import Message, Trajectory

ACTIONS = ("drop", "mask")


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A rendered text as tokens.

    Attributes:
      rendered: The text and its spans.
      ids: Token ids.
      offsets: Character range in the text of every token.
      borders: For each reply that ends with a stop token, keyed by message index, its first token
        and the token after its last.
      samples: What ``fitting.fit`` has made of this text so far.
      sizes: Tokens of the messages that it has measured, by index.
      places: Replies that were found while texts of the trajectory were written.
    """

    rendered: Rendered
    ids: list[int]
    offsets: Offsets
    borders: Mapping[int, tuple[int, int]]
    samples: dict[Any, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)
    sizes: dict[int, int] = dataclasses.field(default_factory=dict, repr=False, compare=False)
    places: Places = dataclasses.field(default_factory=Places, repr=False, compare=False)


def encode_turns(
    tools: Sequence[ToolSpec],
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    *,
    template: str,
    action: str,
    places: Places | None = None,
    names: Sequence[int] = (),
) -> Encoded:
    """Tokenise turns that end with an assistant turn.

    In the released forms action ``"mask"`` makes every reply a piece of its own with a stop token;
    with ``"drop"`` the text before the last reply is one piece, of which the prompts are prefixes.
    In a chat template every reply is a piece of its own; for ``places`` and ``names`` see
    ``render_chat``.

    Raises:
      ValueError: The turns cannot be written.
    """
    if action not in ACTIONS:
        raise ValueError(f"unknown MAE action {action!r}; known: {', '.join(ACTIONS)}")
    if template in paper_template.STYLES:
        every = action == "mask"
        rendered = render_sample(
            tools, messages, template, tokenizer.eos_text, stop_after_every_reply=every
        )
    else:
        chat = open_template(template, tokenizer)
        rendered = render_chat(chat, tools, messages, places=places, names=names)
    return encode_rendered(rendered, tokenizer)


def encode_trajectory(
    trajectory: Trajectory, tokenizer: Tokenizer, *, template: str, action: str
) -> Encoded:
    """Tokenise a whole trajectory once, up to its last assistant turn; see ``encode_turns``."""
    last = max(i for i, m in enumerate(trajectory.messages) if m.role == "assistant")
    places = Places()
    encoded = encode_turns(
        trajectory.tools,
        trajectory.messages[: last + 1],
        tokenizer,
        template=template,
        action=action,
        places=places,
    )
    return dataclasses.replace(encoded, places=places)


def prompt_ids(
    tools: Sequence[ToolSpec],
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    *,
    template: str = "released",
    action: str = "drop",
) -> list[int]:
    """Return the ids of the prompt that asks for the next assistant turn.

    Args:
      tools: Tools of the prompt.
      messages: The turns so far.
      tokenizer: Tokenizer of the model.
      template: Rendering the model was trained with.
      action: MAE action the model was trained with; in the released forms, after ``"mask"`` every
        earlier reply is followed by the end-of-sequence token, as in training.
    """
    if template in paper_template.STYLES:
        every = action == "mask"
        rendered = render_prompt(
            tools, messages, template, eos_text=tokenizer.eos_text, stop_after_every_reply=every
        )
    else:
        rendered = render_chat(open_template(template, tokenizer), tools, messages, prompt=True)
    return encode_rendered(rendered, tokenizer).ids


def feedback_ids(
    tools: Sequence[ToolSpec],
    before: Sequence[Message],
    calls: Sequence[ToolCall],
    results: Sequence[str],
    tokenizer: Tokenizer,
    *,
    template: str = "released",
) -> list[int]:
    """Return the ids between the stop token of a reply and the reply to its results.

    They are those of a dialogue written anew and depend on neither the reply's text nor its
    tokens: in the released forms every reply ends with a stop token here (action ``"mask"``).

    Args:
      tools: Tools of the prompt.
      before: Turns before the reply.
      calls: Calls of the reply.
      results: What came of them, in order.
      tokenizer: Tokenizer of the model.
      template: Rendering the model was trained with.

    Raises:
      ValueError: The template does not write such turns, or rewrites a reply that has results.
    """
    messages = [*before, Message("assistant", "", tuple(calls))]
    messages += [Message("tool", result) for result in results]
    if template in paper_template.STYLES:
        rendered = render_prompt(
            tools, messages, template, eos_text=tokenizer.eos_text, stop_after_every_reply=True
        )
    else:
        rendered = render_chat(open_template(template, tokenizer), tools, messages, prompt=True)
    encoded = encode_rendered(rendered, tokenizer)
    if len(before) not in encoded.borders:
        raise ValueError("the chat template writes a reply otherwise once its results follow")
    return encoded.ids[encoded.borders[len(before)][1] :]


def encode_rendered(rendered: Rendered, tokenizer: Tokenizer) -> Encoded:
    """Tokenise a rendered text, piece by piece at the replies that end with a stop token."""
    if rendered.has_control:
        return _encode_with_control(rendered, tokenizer)
    ids: list[int] = []
    offsets: Offsets = []
    borders = {}

    def add(start: int, end: int) -> None:
        text = rendered.text[start:end]
        if text and start == 0:
            piece = tokenizer.encode(text, True, shared=min(rendered.head, end))
            ids.extend(piece[0])
            offsets.extend(piece[1])
        elif text:
            piece = tokenizer.encode_continuation(text)
            ids.extend(piece[0])
            offsets.extend([(a + start, b + start) for a, b in piece[1]])

    at = 0
    for reply in rendered.replies:
        if reply.end > reply.stop:
            add(at, reply.start)
            first = len(ids)
            add(reply.start, reply.stop)
            ids.append(tokenizer.eos_id)
            offsets.append((reply.stop, reply.end))
            borders[reply.message] = (first, len(ids))
            at = reply.end
    add(at, len(rendered.text))
    return Encoded(rendered, ids, offsets, borders)


def _encode_with_control(rendered: Rendered, tokenizer: Tokenizer) -> Encoded:
    """Tokenise a text whose control tokens are meant, but for those that ``breaks`` go through."""
    text, reading = rendered.text, tokenizer.with_control
    starts = (reply.start for reply in rendered.replies)
    cuts = sorted({0, *rendered.breaks, *starts, len(text)})
    ids: list[int] = []
    offsets: Offsets = []
    first_tokens = {}
    for start, end in itertools.pairwise(cuts):
        first_tokens[start] = len(ids)
        encode = reading.encode_continuation if start else reading.encode
        piece = encode(text[start:end])
        ids.extend(piece[0])
        offsets.extend([(a + start, b + start) for a, b in piece[1]])
    borders = {
        reply.message: (first_tokens[reply.start], _end_of(reply, rendered, ids, offsets, reading))
        for reply in rendered.replies
    }
    return Encoded(rendered, ids, offsets, borders)


def _end_of(
    reply: ReplySpan, rendered: Rendered, ids: list[int], offsets: Offsets, tokenizer: Tokenizer
) -> int:
    """Return the position after the stop token of a reply."""
    stop = bisect.bisect_right(offsets, reply.stop, key=lambda pair: pair[1])
    if ids[stop] != tokenizer.token_id(rendered.text[reply.stop : reply.end]):
        raise ValueError(f"turn {reply.turn} does not end with a stop token of its own")
    return stop + 1


def cut(encoded: Encoded, message: int, tokenizer: Tokenizer) -> Encoded | None:
    """Return the sample that ends with the given assistant turn, taken from the whole.

    None if the reply stands in the whole otherwise than in a text of its own.
    """
    whole = encoded.rendered
    replies = [reply for reply in whole.replies if reply.message <= message]
    if not replies or replies[-1].message != message:
        return None
    reply = replies[-1]
    rendered = dataclasses.replace(whole, text=whole.text[: reply.end], replies=tuple(replies))
    if message in encoded.borders:
        size = encoded.borders[message][1]
        return Encoded(rendered, encoded.ids[:size], encoded.offsets[:size], encoded.borders)
    size = bisect.bisect_left(encoded.offsets, reply.start, key=lambda pair: pair[0])
    context, ranges = encoded.ids[:size], encoded.offsets[:size]
    if ranges[-1][1] > reply.start:  # this tokenizer joins the colon with what follows it
        text = rendered.text[: reply.start]
        context, ranges = tokenizer.encode(text, True, shared=whole.head)
    ids, offsets = tokenizer.encode_continuation(rendered.text[reply.start : reply.stop])
    ids = [*context, *ids, tokenizer.eos_id]
    offsets = [(a + reply.start, b + reply.start) for a, b in offsets]
    borders = {message: (len(context), len(ids))}
    return Encoded(rendered, ids, [*ranges, *offsets, (reply.stop, reply.stop)], borders)
