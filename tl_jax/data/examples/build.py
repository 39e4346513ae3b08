"""Make training examples and prompts: token ids, and the loss weight of every token.

Every trained reply ends with a stop token that is trained as well, and has a trained token before
it; a trajectory that would give another one is refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.config import KeyTokenConfig
from tl_jax.data.examples.alternative_tokens import AlternativeNames, tokens_over
from tl_jax.data.examples.annotations import annotate_turns, to_tags
from tl_jax.data.examples.evidence import newest_results
from tl_jax.data.examples.key_tokens import reply_weights
from tl_jax.data.examples.truncate import Fitted, fit
from tl_jax.data.mae.labels import TurnLabel, sample_id
from tl_jax.data.render.encode import Encoded
from tl_jax.data.render.paper_template import CallSpan
from tl_jax.data.render.renderer import Renderer
from tl_jax.data.tokenize.offsets import Offsets
from tl_jax.data.trajectory import Trajectory

ELIDED_TAG, DROPPED_TAG = "elided", "dropped_messages"
"""Tags with the tool feedbacks shortened in an example and the old messages left out of it."""


@dataclasses.dataclass(frozen=True)
class Example:
    """One training sequence.

    Attributes:
      id: ``Turn k: trajectory id`` (a sample per turn) or the trajectory id (per trajectory).
      ids: Token ids.
      weights: Loss weight of each token as a target; 0 is untrained, the first is always 0.
      tags: Labels of the trajectory, its id, source and line, the trained turns, the number of
        key tokens of each, how many tool feedbacks were shortened and old messages left out, and
        what ``marks`` keeps.
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
      ids: Token ids up to the reply: ``Assistant:``, or the generation prompt of a chat template.
      text: The same as text.
      tools: Tools of the prompt.
      golds: Calls of the right answer; none where it is in words.
      tags: As in ``Example``.
      reply_tokens: Tokens of the right answer, its stop token included; 0 if they are not known.
      goal: Calls of the last right answer with any that tool feedback alone leads to from here,
        before the user speaks again; those of this answer if none follows.
      reply: What the right answer says where it is in words; else empty.
    """

    id: str
    ids: list[int]
    text: str
    tools: tuple[ToolSpec, ...]
    golds: tuple[ToolCall, ...]
    tags: Mapping[str, str]
    reply_tokens: int = 0
    goal: tuple[ToolCall, ...] = ()
    reply: str = ""


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A kept turn that was left out, and why; the id is ``Turn k: trajectory id``.

    Attributes:
      id: ``Turn k: trajectory id``.
      reason: Why.
      refused: It has no text form, however much room there is.
    """

    id: str
    reason: str
    refused: bool = False


def build_examples(
    trajectory: Trajectory,
    labels: Sequence[TurnLabel],
    renderer: Renderer,
    *,
    key_tokens: KeyTokenConfig,
    max_length: int,
    alternatives: AlternativeNames | None = None,
    encoded: Encoded | None = None,
) -> tuple[list[Example], list[Skipped]]:
    """Make the training examples of one trajectory.

    Args:
      trajectory: The dialogue.
      labels: Its turns as judged by ``mae.label_turns``.
      renderer: Of the model. With a sample per turn there is one example per kept turn, with the
        turns before it as context; with one per trajectory one example, whose turns that are not
        kept have weight 0, and in which every reply ends with a stop token, also in prompts. A
        turn that the chat template writes otherwise once later turns follow is in an example of
        its own, together with those before it that stand there as they were asked for.
      key_tokens: Weights of the trained tokens.
      max_length: Most tokens of an example; what is left out first is said in ``truncate``. A turn
        whose sample is still too long, or would lack what its reply rests on, is skipped; that of
        a trajectory then ends with an earlier kept turn.
      alternatives: Tokens of names and values found so far, to share between trajectories.
      encoded: ``renderer.encode_trajectory`` of the trajectory, if at hand.

    Returns:
      Examples, and the kept turns that are in none of them.

    Raises:
      ValueError: No kept turn can be written in the template, or a reply has no trained token or
        no trained stop token.
    """
    alternatives = alternatives or AlternativeNames(renderer.tokenizer)
    encoded = encoded or renderer.encode_trajectory(trajectory)
    left = [label for label in labels if label.kept]
    alone = renderer.samples == "per_turn"
    examples: list[Example] = []
    skipped: list[Skipped] = []
    count = len(left)
    while left:
        last = left[-1]
        made = _fit(trajectory, last, renderer, encoded, max_length)
        if isinstance(made, Skipped):
            skipped.append(made)
            left.pop()
            continue
        fitted, sample = made
        group = [last] if alone else [x for x in left if x.message in sample.borders]
        left = [label for label in left if label not in group]
        # What the text of the trajectory writes otherwise than its prompts comes after it.
        whole = not alone and not examples
        identity = trajectory.id if whole else sample_id(trajectory, last)
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
                alternatives,
                mode=key_tokens.mode,
                w_max=key_tokens.w_max,
                parameter_names=key_tokens.parameter_names,
                enum_values=key_tokens.enum_values,
            )
            if key_tokens.normalise == "reply":
                total = sum(reply)
                reply = [weight / total for weight in reply]
            _check_trained(reply, label)
            spans = replies[label.message].calls
            reply = _weighed(reply, label, spans, sample.offsets[start : end - 1])
            keys = [key for key in keys if reply[key]]
            weights[start:end] = reply
            found.append(str(len(keys)))
            positions += (start + key for key in keys)
        trained = [label.message for label in group]
        marks = annotate_turns(labels, trained, replies.values(), sample.offsets, sample.borders)
        tags = _tags(trajectory, group, fitted)
        tags |= {"key_tokens": ",".join(found), **to_tags(positions, marks)}
        examples.append(Example(identity, sample.ids, weights, tags))
    if skipped and len(skipped) == count and all(x.refused for x in skipped):
        raise ValueError(skipped[-1].reason)
    return examples[::-1], skipped[::-1]


def build_prompts(
    trajectory: Trajectory,
    labels: Sequence[TurnLabel],
    renderer: Renderer,
    *,
    max_length: int,
    encoded: Encoded | None = None,
    no_call: bool = False,
) -> tuple[list[Prompt], list[Skipped]]:
    """Make one prompt for every turn of right calls; arguments as in ``build_examples``.

    ``max_length`` counts the prompt and its gold reply, so that prompts are shortened exactly as
    examples of single turns are. With ``no_call`` a turn in words that is kept makes a prompt, too,
    whose right answer holds no call; but not where there are no tools to leave alone, or where the
    assistant goes on in another turn.
    """
    encoded = encoded or renderer.encode_trajectory(trajectory)
    prompts, skipped = [], []
    for label in labels:
        calls = trajectory.messages[label.message].calls
        if not label.right or not (calls or (no_call and _in_words(trajectory, label))):
            continue
        made = _fit(trajectory, label, renderer, encoded, max_length)
        if isinstance(made, Skipped):
            skipped.append(made)
            continue
        fitted, sample = made
        cut, end = sample.borders[label.message]
        reply = next(r for r in sample.rendered.replies if r.message == label.message)
        prompts.append(
            Prompt(
                sample_id(trajectory, label),
                sample.ids[:cut],
                sample.rendered.text[: reply.start],
                trajectory.tools,
                calls,
                _tags(trajectory, [label], fitted),
                end - cut,
                _goal(trajectory, labels, label),
                "" if calls else trajectory.messages[label.message].content,
            )
        )
    return prompts, skipped


def _in_words(trajectory: Trajectory, label: TurnLabel) -> bool:
    following = trajectory.messages[label.message + 1 : label.message + 2]
    closed = not following or following[0].role == "user"
    return label.verdict == "keep" and closed and bool(trajectory.tools)


def _goal(
    trajectory: Trajectory, labels: Sequence[TurnLabel], start: TurnLabel
) -> tuple[ToolCall, ...]:
    """Return the last right calls from a turn on, before the user speaks again."""
    messages = trajectory.messages
    users = (i for i, m in enumerate(messages) if i > start.message and m.role == "user")
    end = next(users, len(messages))
    steps = [
        messages[x.message].calls for x in labels if start.message <= x.message < end and x.right
    ]
    return next((calls for calls in reversed(steps) if calls), ())


def _fit(
    trajectory: Trajectory, label: TurnLabel, renderer: Renderer, encoded: Encoded, max_length: int
) -> tuple[Fitted, Encoded] | Skipped:
    """Return the sample that ends with a turn or, if there is none, why."""
    try:
        fitted = fit(trajectory, label.message, renderer, encoded, max_length=max_length)
    except ValueError as error:
        return Skipped(sample_id(trajectory, label), str(error), refused=True)
    if fitted.sample is None:
        return _too_long(trajectory, label, max_length)
    return fitted, fitted.sample


def _too_long(trajectory: Trajectory, label: TurnLabel, max_length: int) -> Skipped:
    answers = newest_results(trajectory.messages[: label.message + 1])
    evidence = " with the calls and results that it rests on" if answers else ""
    return Skipped(sample_id(trajectory, label), f"longer than max_length={max_length}{evidence}")


def _weighed(
    weights: list[float], label: TurnLabel, calls: Sequence[CallSpan], offsets: Offsets
) -> list[float]:
    """Apply what MAE and its source decided to a reply: the factors of the turn and of each call.

    A token that two calls share takes both factors, so that none of a masked call is trained.
    """
    factor = label.weight * label.source_weight
    weights = [weight * factor for weight in weights] if factor != 1 else weights
    if label.call_weights:
        for span, factor in zip(calls, label.call_weights, strict=True):
            for position in tokens_over(offsets, span.call):
                weights[position] *= factor
    return weights


def _check_trained(weights: Sequence[float], label: TurnLabel) -> None:
    if not any(weights[:-1]):
        raise ValueError(f"turn {label.turn} has no trained token: the reply is empty")
    if not weights[-1]:
        raise ValueError(f"turn {label.turn} has no trained stop token")


def _tags(trajectory: Trajectory, labels: Sequence[TurnLabel], fitted: Fitted) -> dict[str, str]:
    tags = {
        **trajectory.tags,
        "trajectory": trajectory.id,
        "source": trajectory.source,
        "line": str(trajectory.line),
        "turns": ",".join(str(label.turn) for label in labels),
    }
    for name, count in ((ELIDED_TAG, fitted.elided), (DROPPED_TAG, fitted.dropped)):
        tags.pop(name, None)  # a trajectory may have a tag of this name
        if count:
            tags[name] = str(count)
    return tags
