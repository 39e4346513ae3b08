"""Token ids of a written dialogue, and where in them every reply is.

A reply that is trained is tokenised apart from the text before it and ends with a stop token.
Prompts are cut at the same border, so the ids of a prompt followed by those of its reply are the
ids of the example.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

from tl_jax.data.render.paper_template import Rendered, ReplySpan
from tl_jax.data.render.reply_cache import ReplyCache
from tl_jax.data.tokenize.offsets import Offsets
from tl_jax.data.tokenize.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A rendered text as tokens.

    Attributes:
      rendered: The text and its spans.
      ids: Token ids.
      offsets: Character range in the text of every token.
      borders: For each reply that ends with a stop token, keyed by message index, its first token
        and the token after its last.
      samples: What ``truncate.fit`` has made of this text so far.
      sizes: Tokens of the messages that it has measured, by index.
      places: Replies that were found while texts of the trajectory were written.
    """

    rendered: Rendered
    ids: list[int]
    offsets: Offsets
    borders: Mapping[int, tuple[int, int]]
    samples: dict[Any, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)
    sizes: dict[int, int] = dataclasses.field(default_factory=dict, repr=False, compare=False)
    places: ReplyCache = dataclasses.field(default_factory=ReplyCache, repr=False, compare=False)


def encode_rendered(rendered: Rendered, tokenizer: Tokenizer) -> Encoded:
    """Tokenise a rendered text, piece by piece at the replies that end with a stop token."""
    if rendered.has_control:
        return _encode_with_control(rendered, tokenizer)
    ids: list[int] = []
    offsets: list[Offsets] = []
    borders = {}

    def add(start: int, end: int) -> None:
        text = rendered.text[start:end]
        if text and start == 0:
            piece = tokenizer.encode(text, True, shared=min(rendered.head, end))
            ids.extend(piece[0])
            offsets.append(piece[1])
        elif text:
            piece = tokenizer.encode_continuation(text)
            ids.extend(piece[0])
            offsets.append(piece[1].shifted(start))

    at = 0
    for reply in rendered.replies:
        if reply.end > reply.stop:
            add(at, reply.start)
            first = len(ids)
            add(reply.start, reply.stop)
            ids.append(tokenizer.eos_id)
            offsets.append(Offsets.of([(reply.stop, reply.end)]))
            borders[reply.message] = (first, len(ids))
            at = reply.end
    add(at, len(rendered.text))
    return Encoded(rendered, ids, Offsets.joined(offsets), borders)


def _encode_with_control(rendered: Rendered, tokenizer: Tokenizer) -> Encoded:
    """Tokenise a text whose control tokens are meant, but for those that ``breaks`` go through."""
    text, reading = rendered.text, tokenizer.with_control
    starts = (reply.start for reply in rendered.replies)
    cuts = sorted({0, *rendered.breaks, *starts, len(text)})
    ids: list[int] = []
    parts: list[Offsets] = []
    first_tokens = {}
    for start, end in itertools.pairwise(cuts):
        first_tokens[start] = len(ids)
        encode = reading.encode_continuation if start else reading.encode
        piece = encode(text[start:end])
        ids.extend(piece[0])
        parts.append(piece[1].shifted(start))
    offsets = Offsets.joined(parts)
    borders = {
        reply.message: (first_tokens[reply.start], _end_of(reply, rendered, ids, offsets, reading))
        for reply in rendered.replies
    }
    return Encoded(rendered, ids, offsets, borders)


def _end_of(
    reply: ReplySpan, rendered: Rendered, ids: list[int], offsets: Offsets, tokenizer: Tokenizer
) -> int:
    """Return the position after the stop token of a reply."""
    stop = offsets.over(reply.stop, reply.stop).start
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
    size = encoded.offsets.before(reply.start)
    context, ranges = encoded.ids[:size], encoded.offsets[:size]
    if ranges[-1][1] > reply.start:  # this tokenizer joins the colon with what follows it
        text = rendered.text[: reply.start]
        context, ranges = tokenizer.encode(text, True, shared=whole.head)
    ids, offsets = tokenizer.encode_continuation(rendered.text[reply.start : reply.stop])
    ids = [*context, *ids, tokenizer.eos_id]
    stop = Offsets.of([(reply.stop, reply.stop)])
    offsets = Offsets.joined([ranges, offsets.shifted(reply.start), stop])
    return Encoded(rendered, ids, offsets, {message: (len(context), len(ids))})
