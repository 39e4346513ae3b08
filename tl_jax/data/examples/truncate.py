"""Make the sample of a turn fit the length limit: what is left out, and in which order.

First the content of tool feedback, the oldest first; then, if the sample trains its last turn only,
old turns: what followed the first request, whole exchanges after that, then the steps taken since
the request that is being answered, the oldest first. The tools, a leading system turn, the first
request and what closed it, the request that is being answered, the user's last turn and the reply
are never left out, and a call never without its results. A user turn that answers a question of
the assistant's is no new request, and goes or stays together with the question. So no two user
turns come to stand next to each other, which many chat templates refuse.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence

from tl_jax.data.render.encode import Encoded, cut
from tl_jax.data.render.renderer import Renderer
from tl_jax.data.tokenize.tokenizer import Tokenizer
from tl_jax.data.trajectory import Message, Trajectory

ELIDED = "..."
"""Stands for the content of a tool feedback that was left out to fit the length limit."""

_FRAME = 6
"""Tokens that a template writes round a turn, about."""
_QUESTION_MARKS = ("?", "？", "؟")

Turns = list[tuple[int, Message]]
"""Messages with their indices in the trajectory."""
Encode = Callable[[Turns], Encoded]


@dataclasses.dataclass(frozen=True)
class Fitted:
    """The sample that ends with a turn.

    Attributes:
      sample: The sample, or None if it is too long without all that may be left out.
      elided: Tool feedbacks in it without their content.
      dropped: Messages left out.
    """

    sample: Encoded | None
    elided: int = 0
    dropped: int = 0


def fit(
    trajectory: Trajectory,
    message: int,
    renderer: Renderer,
    encoded: Encoded,
    *,
    max_length: int,
) -> Fitted:
    """Return the sample that ends with an assistant turn, shortened if need be.

    Args:
      trajectory: The dialogue.
      message: Index of the turn; the sample's spans and borders speak of the same indices.
      renderer: Of the model; with a sample per trajectory no turns are left out.
      encoded: The whole trajectory, from ``renderer.encode_trajectory``.
      max_length: Most tokens of the sample.
    """
    key = message, max_length
    if key not in encoded.samples:
        turns = list(enumerate(trajectory.messages[: message + 1]))

        def encode(turns: Turns) -> Encoded:
            whole = trajectory.messages
            sample = renderer.encode(
                trajectory.tools,
                [turn for _, turn in turns],
                places=encoded.places,
                names=[index if turn is whole[index] else ~index for index, turn in turns],
            )
            return sample if len(turns) == message + 1 else _renumbered(sample, turns, trajectory)

        sample = cut(encoded, message, renderer.tokenizer) or encode(turns)
        if len(sample.ids) > max_length:
            sizes = _sizes(turns, encoded, renderer.tokenizer)
            per_turn = renderer.samples == "per_turn"
            shorten = _without_turns if per_turn else _without_feedback
            sample, turns = shorten(sample, turns, sizes, encode, max_length)
        elided = sum(turn.content != trajectory.messages[index].content for index, turn in turns)
        fits = len(sample.ids) <= max_length
        dropped = message + 1 - len(turns)
        encoded.samples[key] = Fitted(sample if fits else None, elided, dropped)
    return encoded.samples[key]


def _without_feedback(
    sample: Encoded, turns: Turns, sizes: Sequence[int], encode: Encode, max_length: int
) -> tuple[Encoded, Turns]:
    """Leave out the content of as many feedbacks, the oldest first, as the limit asks for."""
    places = collections.deque(_feedbacks(turns))
    while len(sample.ids) > max_length and places:
        excess = len(sample.ids) - max_length
        going = []
        while places and excess > 0:
            going.append(places.popleft())
            excess -= sizes[going[-1]] - 1
        turns = _elided(turns, going)
        sample = encode(turns)
    return sample, turns


def _without_turns(
    sample: Encoded, turns: Turns, sizes: Sequence[int], encode: Encode, max_length: int
) -> tuple[Encoded, Turns]:
    """Leave out feedback; if that is not enough, as few old parts as the limit asks for, too.

    With each part the text gets shorter, so only the border has to be found. The sizes of the
    turns tell about where it is, so that hardly any text far beyond the limit is written.
    """
    feedbacks = set(_feedbacks(turns))
    bare = _elided(turns, feedbacks)
    parts = old_parts([turn for _, turn in turns])

    @functools.cache
    def without(count: int) -> tuple[Encoded, Turns]:
        left_out = {place for part in parts[:count] for place in part}
        left = [turn for place, turn in enumerate(bare) if place not in left_out]
        return encode(left), left

    def fits(count: int) -> bool:
        return len(without(count)[0].ids) <= max_length

    if not fits(len(parts)):
        return without(len(parts))
    room = max_length - len(without(len(parts))[0].ids)
    likely = len(parts)
    for part in reversed(parts):
        room -= sum(_FRAME + (1 if place in feedbacks else sizes[place]) for place in part)
        if room < 0:
            break
        likely -= 1
    if likely and (fewest := _first(fits, likely, len(parts))) > 1:
        return without(fewest)
    sample, shortened = _without_feedback(sample, turns, sizes, encode, max_length)
    if len(sample.ids) <= max_length:
        return sample, shortened
    return without(_first(fits, likely, len(parts)))


def _first(holds: Callable[[int], bool], likely: int, last: int) -> int:
    """Return the first of 1 to ``last`` from which on something holds, as it does for ``last``."""
    below, step, at = 0, 1, min(max(likely, 1), last - 1)
    while last - below > 1:
        if holds(at):
            last, at = at, at - step
        else:
            below, at = at, at + step
        step *= 2
        if not below < at < last:
            at = (below + last) // 2
    return last


def _elided(turns: Turns, places: Iterable[int]) -> Turns:
    """Return the turns without the content of the feedbacks at ``places``."""
    turns = list(turns)
    for place in places:
        index, turn = turns[place]
        turns[place] = index, dataclasses.replace(turn, content=ELIDED)
    return turns


def old_parts(messages: Sequence[Message]) -> list[list[int]]:
    """Return the places of messages that are left out together, in the order in which they go.

    Args:
      messages: The turns; the last one is the reply.
    """
    last = len(messages) - 1
    users = [place for place in range(last) if messages[place].role == "user"]
    requests = [i for i in users if i == users[0] or not _asks(messages[i - 1])]
    current = requests[-1] if requests else -1
    kept = {*users[:1], *requests[-1:], *users[-1:]}
    if messages[0].role == "system":
        kept.add(0)
    if len(requests) > 1 and messages[requests[1] - 1].role == "assistant":
        kept.add(requests[1] - 1)
    if users and users[-1] != current:
        kept.add(users[-1] - 1)
    parts: list[list[int]] = []
    for place in range(last):
        step = place > current and messages[place].role == "assistant"
        if place in kept:
            continue
        if not parts or step or place in requests or place - 1 in kept:
            parts.append([])
        parts[-1].append(place)
    return parts if kept else parts[:-1]  # a reply needs a turn before it


def _asks(message: Message) -> bool:
    """Return whether the user turn after a message is an answer to it, and no request."""
    question = message.content.rstrip().endswith(_QUESTION_MARKS)
    return message.role == "assistant" and (bool(message.calls) or question)


def _feedbacks(turns: Turns) -> list[int]:
    """Return the places of the tool feedbacks that are longer than what would stand for them."""
    return [
        place
        for place, (_, turn) in enumerate(turns)
        if turn.role == "tool" and len(turn.content) > len(ELIDED)
    ]


def _sizes(turns: Turns, encoded: Encoded, tokenizer: Tokenizer) -> list[int]:
    """Return the tokens of each turn's own text; those of calls are about as many."""
    for index, turn in turns:
        if index not in encoded.sizes:
            calls = "".join(f"{call.name} {dict(call.arguments)}" for call in turn.calls)
            encoded.sizes[index] = len(tokenizer.encode(turn.content + calls)[0])
    return [encoded.sizes[index] for index, _ in turns]


def _renumbered(sample: Encoded, turns: Turns, trajectory: Trajectory) -> Encoded:
    """Return the sample with the message and turn numbers of the trajectory."""
    index = [number for number, _ in turns]
    assistants = (i for i, m in enumerate(trajectory.messages) if m.role == "assistant")
    numbers = {place: number for number, place in enumerate(assistants, start=1)}
    replies = tuple(
        dataclasses.replace(reply, message=index[reply.message], turn=numbers[index[reply.message]])
        for reply in sample.rendered.replies
    )
    return dataclasses.replace(
        sample,
        rendered=dataclasses.replace(sample.rendered, replies=replies),
        borders={index[place]: border for place, border in sample.borders.items()},
    )
