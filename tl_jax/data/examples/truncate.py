"""Make the sample of a turn fit the length limit: what is left out, and in which order.

A tool feedback is cut in its middle, so that its head and its tail stay: first what the reply does
not rest on, the oldest first, then with a longer rest its evidence (``evidence.py``). If the sample
trains its last turn only, old turns go next: what followed the first request, whole exchanges after
that, then the steps taken since the request that is being answered, the oldest first. At last the
evidence is cut further. The tools, a leading system turn, the first request and what closed it, the
request that is being answered, the user's last turn, the evidence and the reply are never left out,
and a call never without its results. A user turn that answers a question of the assistant's is no
new request, and goes or stays together with the question. So no two user turns come to stand next
to each other, which many chat templates refuse.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

from tl_jax.data.examples.evidence import evidence
from tl_jax.data.render.encode import Encoded, cut
from tl_jax.data.render.renderer import Renderer
from tl_jax.data.tokenize.tokenizer import Tokenizer
from tl_jax.data.trajectory import Message, Trajectory

ELIDED = " ... "
"""Stands for the middle of a tool feedback that was cut to fit the length limit."""

_LEAST = 48
"""Tokens of a feedback that are always left."""
_AMPLE = 256
"""Tokens of a feedback that a reply rests on which are left as long as older turns can go."""
_HEAD = 2 / 3
"""Share of what is left that comes from the start of a feedback."""
_FRAME = 6
"""Tokens that a template writes round a turn, about."""
_JOINT = 4
"""Tokens that stand for the middle of a feedback, about, with what joins otherwise beside it."""
_DOUBT = 16
"""Tokens, with an eighth of its own, by which the size of what is left out may be wrong."""
_TRIES = 3
"""Times that more of the feedback is written, where text is longer than its tokens tell."""
_QUESTION_MARKS = ("?", "？", "؟")

Turns = list[tuple[int, Message]]
"""Messages with their indices in the trajectory."""
Limits = dict[int, int]
"""Tokens that are left of a feedback, by its place among the turns; 0 for any turn that goes."""


@dataclasses.dataclass(frozen=True)
class Fitted:
    """The sample that ends with a turn.

    Attributes:
      sample: The sample, or None if it is too long without all that may be left out.
      elided: Tool feedbacks in it that lack their middle.
      dropped: Messages left out.
    """

    sample: Encoded | None
    elided: int = 0
    dropped: int = 0


@dataclasses.dataclass(frozen=True)
class _Step:
    """One thing that may be left out: turns, or all but ``tokens`` of one feedback.

    Attributes:
      places: Places of the turns among those of the sample.
      tokens: Tokens of the feedback that are left; 0 if the turns go altogether.
      saved: Tokens that the sample gets shorter by, about.
    """

    places: tuple[int, ...]
    tokens: int
    saved: int


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
        sample = cut(encoded, message, renderer.tokenizer)
        sample = sample or _encoded(turns, trajectory, renderer, encoded, {})
        limits: Limits = {}
        if len(sample.ids) > max_length:
            sample, limits = _shortened(
                sample, turns, trajectory, renderer, encoded, max_length=max_length
            )
        dropped = list(limits.values()).count(0)
        fits = len(sample.ids) <= max_length
        encoded.samples[key] = Fitted(sample if fits else None, len(limits) - dropped, dropped)
    return encoded.samples[key]


def _shortened(
    sample: Encoded,
    turns: Turns,
    trajectory: Trajectory,
    renderer: Renderer,
    encoded: Encoded,
    *,
    max_length: int,
) -> tuple[Encoded, Limits]:
    """Take as few steps as the limit asks for, and give the room that is left to the feedback.

    With each step the text gets shorter, so only the border has to be found. The sizes of the
    turns tell about where it is, so that hardly any text far beyond the limit is written.
    """
    sizes = _sizes(turns, encoded, renderer.tokenizer)
    steps = list(_steps([turn for _, turn in turns], sizes, renderer.samples == "per_turn"))

    def write(limits: Limits) -> Encoded:
        return _encoded(turns, trajectory, renderer, encoded, limits)

    written: dict[int, Encoded] = {}

    def without(count: int) -> Encoded:
        if count not in written:
            written[count] = write(_limits(steps[:count]))
        return written[count]

    def fits(count: int) -> bool:
        if count + 1 in written and count not in written:
            # With a step less it is so much longer that it need not be written, but for doubts.
            saved = steps[count].saved
            longer = len(written[count + 1].ids) + saved
            if longer - _DOUBT - saved // 8 > max_length:
                return False
        return len(without(count).ids) <= max_length

    if not steps:
        return sample, {}
    excess, likely = len(sample.ids) - max_length, 0
    while excess > 0 and likely < len(steps):
        excess -= steps[likely].saved
        likely += 1
    # Where the likely steps are enough, all of them are, and need not be written.
    if not fits(likely) and not fits(len(steps)):
        return without(len(steps)), _limits(steps)
    fewest = _first(fits, likely, len(steps))
    limits, shortened = _limits(steps[:fewest]), without(fewest)
    room = max_length - len(shortened.ids) - _JOINT
    for _ in range(_TRIES):
        wider = _widened(limits, sizes, room)
        if wider == limits:
            break
        over = len((larger := write(wider)).ids) - max_length
        if over <= 0:
            return larger, wider
        room -= over + _JOINT
    return shortened, limits


def _steps(messages: Sequence[Message], sizes: Sequence[int], per_turn: bool) -> Iterator[_Step]:
    """Yield what may be left out, in the order in which it goes."""
    feedback = [place for place, message in enumerate(messages) if message.role == "tool"]
    rests_on = evidence(messages) if per_turn else frozenset(feedback)
    now = list(sizes)

    def cuts(places: Sequence[int], tokens: int) -> Iterator[_Step]:
        for place in places:
            if now[place] > tokens + _JOINT:
                yield _Step((place,), tokens, now[place] - tokens)
                now[place] = tokens

    yield from cuts([place for place in feedback if place not in rests_on], _LEAST)
    yield from cuts([place for place in feedback if place in rests_on], _AMPLE)
    for part in old_parts(messages) if per_turn else ():
        if left := _without_evidence(part, messages, rests_on):
            yield _Step(tuple(left), 0, sum(_FRAME + now[place] for place in left))
    yield from cuts([place for place in feedback if place in rests_on], _LEAST)


def _without_evidence(
    part: Sequence[int], messages: Sequence[Message], rests_on: frozenset[int]
) -> Sequence[int]:
    """Return what may go of an old part: all, or the steps before those that are needed."""
    needed = [place for place in part if place in rests_on]
    if not needed:
        return part
    request = messages[part[0]].role == "user"
    return [place for place in part[request:] if place < needed[0]]


def _limits(steps: Sequence[_Step]) -> Limits:
    return {place: step.tokens for step in steps for place in step.places}


def _widened(limits: Limits, sizes: Sequence[int], room: int) -> Limits:
    """Return the limits with ``room`` tokens more for feedback that is cut, the newest first."""
    wider = dict(limits)
    for place in sorted((place for place, tokens in limits.items() if tokens), reverse=True):
        # Cut only where that leaves out more than what then stands for the middle.
        more = min(room, sizes[place] - 2 * _JOINT - wider[place])
        if more > 0:
            wider[place] += more
            room -= more
    return wider


def _encoded(
    turns: Turns, trajectory: Trajectory, renderer: Renderer, encoded: Encoded, limits: Limits
) -> Encoded:
    """Return the sample of what the limits leave of the turns."""
    size = len(trajectory.messages)
    left: Turns = []
    names = []
    for place, (index, turn) in enumerate(turns):
        tokens = limits.get(place)
        if tokens == 0:
            continue
        if tokens is not None:
            content = _cut_middle(turn.content, tokens, renderer.tokenizer)
            turn = dataclasses.replace(turn, content=content)
        left.append((index, turn))
        names.append(index if tokens is None else -1 - index - size * tokens)
    messages = [turn for _, turn in left]
    sample = renderer.encode(trajectory.tools, messages, places=encoded.places, names=names)
    return sample if len(left) == len(turns) else _renumbered(sample, left, trajectory)


def _cut_middle(content: str, tokens: int, tokenizer: Tokenizer) -> str:
    """Return a text without its middle, so that about ``tokens`` tokens are left."""
    offsets = tokenizer.encode(content)[1]
    head = max(1, round(_HEAD * tokens))
    start, end = offsets[head - 1][1], offsets[head - tokens][0]
    return content[:start] + ELIDED + content[end:]


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


def _sizes(turns: Turns, encoded: Encoded, tokenizer: Tokenizer) -> list[int]:
    """Return the tokens of each turn's own text; those of calls are about as many."""
    for index, turn in turns:
        if index not in encoded.sizes:
            calls = "".join(f"{call.name} {dict(call.arguments)}" for call in turn.calls)
            encoded.sizes[index] = tokenizer.count(turn.content + calls)
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
