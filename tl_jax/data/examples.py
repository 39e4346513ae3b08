"""Make training examples and prompts: token ids, and the loss weight of every token.

A reply that is trained is tokenised apart from the text before it and ends with the
end-of-sequence id, which is added as an id and never read from text. Prompts are cut at the same
border, so the ids of a prompt followed by those of its reply are the ids of the example.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Mapping, Sequence

from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.config import KeyTokenConfig
from tl_jax.data.key_tokens import reply_weights
from tl_jax.data.mae import TurnLabel, sample_id
from tl_jax.data.marks import mark_turns, to_tags
from tl_jax.data.rivals import Rivals
from tl_jax.data.schema import Message, Trajectory
from tl_jax.data.templates import Rendered, render_prompt, render_sample
from tl_jax.data.tokenizer import Offsets, Tokenizer

ACTIONS = ("drop", "mask")
ELIDED = "..."
"""Stands for the content of a tool feedback that was left out to fit the length limit."""


@dataclasses.dataclass(frozen=True)
class Example:
    """One training sequence.

    Attributes:
      id: ``Turn k: trajectory id`` (action ``drop``) or the trajectory id (``mask``).
      ids: Token ids.
      weights: Loss weight of each token as a target; 0 is untrained, the first is always 0.
      tags: Labels of the trajectory, its id, source and line, the trained turns, the number of
        key tokens of each, how many tool feedbacks were left out, and what ``marks`` keeps.
    """

    id: str
    ids: list[int]
    weights: list[float]
    tags: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Prompt:
    """A prompt whose right answer is known.

    Attributes:
      id: ``Turn k: trajectory id``.
      ids: Token ids up to and including ``Assistant:``.
      text: The same as text.
      tools: Tools of the prompt.
      golds: Calls of the right answer.
      tags: As in ``Example``.
    """

    id: str
    ids: list[int]
    text: str
    tools: tuple[ToolSpec, ...]
    golds: tuple[ToolCall, ...]
    tags: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A kept turn that was left out, and why; the id is ``Turn k: trajectory id``."""

    id: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Encoded:
    """A rendered text as tokens.

    Attributes:
      rendered: The text and its spans.
      ids: Token ids.
      offsets: Character range in the text of every token.
      borders: For each reply that ends with the end-of-sequence token, keyed by message index,
        its first token and the token after its last.
      samples: Samples cut from this text so far, by message index and length limit.
    """

    rendered: Rendered
    ids: list[int]
    offsets: Offsets
    borders: Mapping[int, tuple[int, int]]
    samples: dict[tuple[int, int], tuple[Encoded | None, int]] = dataclasses.field(
        default_factory=dict, repr=False, compare=False
    )


def encode_rendered(rendered: Rendered, tokenizer: Tokenizer) -> Encoded:
    """Tokenise a rendered text, piece by piece at the replies that end with a stop token."""
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
      action: MAE action the model was trained with; after ``"mask"`` every earlier reply is
        followed by the end-of-sequence token, as in training.
    """
    rendered = render_prompt(
        tools,
        messages,
        template,
        eos_text=tokenizer.eos_text,
        stop_after_every_reply=action == "mask",
    )
    return encode_rendered(rendered, tokenizer).ids


def encode_trajectory(
    trajectory: Trajectory, tokenizer: Tokenizer, *, template: str, action: str
) -> Encoded:
    """Tokenise a whole trajectory once, up to its last assistant turn.

    With action ``"mask"`` every reply is a piece of its own with a stop token; with ``"drop"``
    the text is one piece, of which the prompts are prefixes.
    """
    if action not in ACTIONS:
        raise ValueError(f"unknown MAE action {action!r}; known: {', '.join(ACTIONS)}")
    last = max(i for i, m in enumerate(trajectory.messages) if m.role == "assistant")
    rendered = render_sample(
        trajectory.tools,
        trajectory.messages[: last + 1],
        template,
        tokenizer.eos_text,
        stop_after_every_reply=action == "mask",
    )
    return encode_rendered(rendered, tokenizer)


def build_examples(
    trajectory: Trajectory,
    labels: Sequence[TurnLabel],
    tokenizer: Tokenizer,
    *,
    template: str,
    action: str,
    key_tokens: KeyTokenConfig,
    max_length: int,
    rivals: Rivals | None = None,
    encoded: Encoded | None = None,
) -> tuple[list[Example], list[Skipped]]:
    """Make the training examples of one trajectory.

    Args:
      trajectory: The dialogue.
      labels: Its turns as judged by ``mae.label_turns``.
      tokenizer: Tokenizer of the model.
      template: ``"released"`` or ``"script"``.
      action: ``"drop"``: one example per kept turn, with the turns before it as context.
        ``"mask"``: one example, whose turns that are not kept have weight 0; every reply ends
        with a stop token, also in prompts (``prompt_ids``).
      key_tokens: Weights of the trained tokens.
      max_length: Most tokens of an example. The content of the oldest tool feedback is left out
        first; tools and replies never are. A turn whose sample is still too long is skipped;
        with action ``"mask"`` the sample then ends with an earlier kept turn.
      rivals: Tokens of names and values found so far, to share between trajectories.
      encoded: ``encode_trajectory`` of the same arguments, if at hand.

    Returns:
      Examples, and the kept turns that are in none of them.
    """
    rivals = rivals or Rivals(tokenizer)
    encoded = encoded or encode_trajectory(trajectory, tokenizer, template=template, action=action)
    kept = [label for label in labels if label.kept]
    groups = [[label] for label in kept] if action == "drop" else [kept] if kept else []
    examples, skipped = [], []
    for group in groups:
        sample, elided = None, 0
        while group and sample is None:
            sample, elided = _sample(
                trajectory, group[-1], tokenizer, encoded, template, action, max_length
            )
            if sample is None:
                skipped.append(_too_long(trajectory, group.pop(), max_length))
        if sample is None:
            continue
        identity = sample_id(trajectory, group[0]) if action == "drop" else trajectory.id
        weights: list[float] = [0] * len(sample.ids)
        found = []
        positions: list[int] = []
        replies = {reply.message: reply for reply in sample.rendered.replies}
        for label in group:
            start, end = sample.borders[label.message]
            reply, keys = reply_weights(
                sample.rendered.text,
                replies[label.message],
                trajectory.messages[label.message].calls,
                sample.ids[start:end],
                sample.offsets[start : end - 1],
                trajectory.tools,
                rivals,
                mode=key_tokens.mode,
                w_max=key_tokens.w_max,
                parameter_names=key_tokens.parameter_names,
                enum_values=key_tokens.enum_values,
            )
            if key_tokens.normalise == "reply":
                total = sum(reply)
                reply = [weight / total for weight in reply]
            weights[start:end] = reply
            found.append(str(len(keys)))
            positions += (start + key for key in keys)
        trained = [label.message for label in group]
        marks = mark_turns(labels, trained, replies.values(), sample.offsets, sample.borders)
        tags = _tags(trajectory, group, elided)
        tags |= {"key_tokens": ",".join(found), **to_tags(positions, marks)}
        examples.append(Example(identity, sample.ids, weights, tags))
    return examples, skipped


def build_prompts(
    trajectory: Trajectory,
    labels: Sequence[TurnLabel],
    tokenizer: Tokenizer,
    *,
    template: str,
    action: str,
    max_length: int,
    encoded: Encoded | None = None,
) -> tuple[list[Prompt], list[Skipped]]:
    """Make one prompt for every kept turn that is a call; arguments as in ``build_examples``.

    ``max_length`` counts the prompt and its gold reply, so that prompts are shortened exactly as
    the examples of action ``"drop"`` are.
    """
    encoded = encoded or encode_trajectory(trajectory, tokenizer, template=template, action=action)
    prompts, skipped = [], []
    for label in labels:
        calls = trajectory.messages[label.message].calls
        if not label.kept or not calls:
            continue
        sample, elided = _sample(
            trajectory, label, tokenizer, encoded, template, action, max_length
        )
        if sample is None:
            skipped.append(_too_long(trajectory, label, max_length))
            continue
        cut = sample.borders[label.message][0]
        reply = next(r for r in sample.rendered.replies if r.message == label.message)
        prompts.append(
            Prompt(
                sample_id(trajectory, label),
                sample.ids[:cut],
                sample.rendered.text[: reply.start],
                trajectory.tools,
                calls,
                _tags(trajectory, [label], elided),
            )
        )
    return prompts, skipped


def _sample(
    trajectory: Trajectory,
    label: TurnLabel,
    tokenizer: Tokenizer,
    encoded: Encoded,
    template: str,
    action: str,
    max_length: int,
) -> tuple[Encoded | None, int]:
    """Return the sample that ends with a turn, shortened if need be, and the feedbacks elided."""
    key = label.message, max_length
    if key in encoded.samples:
        return encoded.samples[key]
    sample = _cut(encoded, label.message, tokenizer)
    messages = list(trajectory.messages[: label.message + 1])
    waiting = [entry for entry in sample.rendered.feedback if entry[2] - entry[1] > len(ELIDED)]
    starts = [start for start, _ in sample.offsets] if len(sample.ids) > max_length else []
    elided = 0
    while len(sample.ids) > max_length and waiting:
        excess = len(sample.ids) - max_length
        while waiting and excess > 0:
            message, start, end = waiting.pop(0)
            messages[message] = dataclasses.replace(messages[message], content=ELIDED)
            elided += 1
            excess -= bisect.bisect_left(starts, end) - bisect.bisect_left(starts, start) - 1
        rendered = render_sample(
            trajectory.tools,
            messages,
            template,
            tokenizer.eos_text,
            stop_after_every_reply=action == "mask",
        )
        sample = encode_rendered(rendered, tokenizer)
    fits = len(sample.ids) <= max_length
    encoded.samples[key] = (sample, elided) if fits else (None, elided)
    return encoded.samples[key]


def _too_long(trajectory: Trajectory, label: TurnLabel, max_length: int) -> Skipped:
    return Skipped(sample_id(trajectory, label), f"longer than max_length={max_length}")


def _cut(encoded: Encoded, message: int, tokenizer: Tokenizer) -> Encoded:
    """Return the sample that ends with the given assistant turn, taken from the whole."""
    whole = encoded.rendered
    number = next(i for i, reply in enumerate(whole.replies) if reply.message == message)
    reply = whole.replies[number]
    rendered = Rendered(
        whole.text[: reply.end],
        whole.replies[: number + 1],
        tuple(entry for entry in whole.feedback if entry[2] <= reply.start),
        whole.head,
    )
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


def _tags(trajectory: Trajectory, labels: Sequence[TurnLabel], elided: int) -> dict[str, str]:
    tags = {
        **trajectory.tags,
        "trajectory": trajectory.id,
        "source": trajectory.source,
        "line": str(trajectory.line),
        "turns": ",".join(str(label.turn) for label in labels),
    }
    if elided:
        tags["elided"] = str(elided)
    return tags
