"""Link wrong calls with the calls that put them right, as preference pairs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tl_jax.calls.call import ToolCall
from tl_jax.data.examples.truncate import fit
from tl_jax.data.mae.labels import TurnLabel, sample_id
from tl_jax.data.render.encode import Encoded
from tl_jax.data.render.paper_template import ReplySpan
from tl_jax.data.render.renderer import Renderer
from tl_jax.data.trajectory import Trajectory

_NOT_THE_CALL = ("service",)
"""Categories that no other call can put right."""


@dataclasses.dataclass(frozen=True)
class Repair:
    """A wrong call and the right one after it.

    Attributes:
      wrong: Label of the wrong turn.
      wrong_call: Number of the wrong call in it, from 0; -1 if the turn could not be parsed.
      right: Label of the turn that puts it right.
      right_call: Number of the right call in it.
      category: Category of the mistake.
      kind: ``same_tool``, ``same_goal`` (another tool with the same values) or ``format``.
    """

    wrong: TurnLabel
    wrong_call: int
    right: TurnLabel
    right_call: int
    category: str
    kind: str


def find_repairs(
    trajectory: Trajectory, labels: Sequence[TurnLabel], within: int
) -> tuple[Repair, ...]:
    """Find what puts wrong calls right.

    That is the first right call among the next ``within`` assistant turns that calls the same tool
    with other arguments, or another tool with at least half of the wrong call's values. After a
    turn that could not be parsed it is the next right call. A question of the user in between ends
    the search, as it may change the goal; a user turn right after an unparsable turn does not, as
    some formats complain there. A service that failed is no mistake to put right.

    Args:
      trajectory: The dialogue.
      labels: Its turns, from ``mae.label_turns`` with rules that find errors.
      within: Assistant turns after the wrong one that are searched.
    """
    found = []
    for place, label in enumerate(labels):
        message = trajectory.messages[label.message]
        following = _following(trajectory, labels, place, within)
        if label.verdict == "unparsable":
            if match := next(_right_calls(trajectory, following), None):
                found.append(Repair(label, -1, *match[:2], label.category, "format"))
            continue
        for number, call in enumerate(label.calls):
            if call.verdict != "error" or call.category in _NOT_THE_CALL:
                continue
            wrong = message.calls[number]
            for right, right_call, candidate in _right_calls(trajectory, following):
                if kind := _relation(wrong, candidate):
                    found.append(Repair(label, number, right, right_call, call.category, kind))
                    break
    return tuple(found)


def repair_rows(
    trajectory: Trajectory,
    labels: Sequence[TurnLabel],
    renderer: Renderer,
    encoded: Encoded,
    *,
    max_length: int,
    within: int,
) -> Iterator[dict[str, Any]]:
    """Yield the preference pairs of one trajectory, ready for JSON.

    ``prompt`` is the text before the wrong turn, ``rejected`` that turn, and ``chosen`` the turn
    with the right call; in a turn of parallel calls only the wrong one differs. The texts are those
    of the training samples: same form, shortened in the same way. Pairs whose samples are too
    long, or cannot be written, are left out. ``line`` counts from 1 and is 0 where it is not known.

    Args:
      trajectory: The dialogue.
      labels: Its turns, from ``mae.label_turns``.
      renderer: Of the model.
      encoded: The whole trajectory, from ``renderer.encode_trajectory``.
      max_length: Most tokens of a prompt with a reply.
      within: See ``find_repairs``.
    """
    for repair in find_repairs(trajectory, labels, within):
        try:
            samples = [
                fit(trajectory, label.message, renderer, encoded, max_length=max_length).sample
                for label in (repair.wrong, repair.right)
            ]
        except ValueError:
            continue  # a turn that the template does not write
        rendered = [sample.rendered for sample in samples if sample is not None]
        if len(rendered) < len(samples):
            continue
        wrong, right = rendered
        before, after = _reply(wrong.replies, repair.wrong), _reply(right.replies, repair.right)
        rejected = wrong.text[before.start : before.stop]
        chosen = right.text[after.start : after.stop]
        if len(before.calls) > 1 or (len(after.calls) > 1 and before.calls):
            start, end = before.calls[repair.wrong_call].call
            call = slice(*after.calls[repair.right_call].call)
            at = before.start
            chosen = rejected[: start - at] + right.text[call] + rejected[end - at :]
        if chosen == rejected:
            continue
        ids = [sample_id(trajectory, label) for label in (repair.wrong, repair.right)]
        yield {
            "id": " -> ".join(ids),
            "prompt": wrong.text[: before.start],
            "chosen": chosen,
            "rejected": rejected,
            "category": repair.category,
            "kind": repair.kind,
            "trajectory": trajectory.id,
            "source": trajectory.source,
            "line": trajectory.line + 1,
            "rejected_turn": repair.wrong.turn,
            "chosen_turn": repair.right.turn,
        }


def _following(
    trajectory: Trajectory, labels: Sequence[TurnLabel], place: int, within: int
) -> list[TurnLabel]:
    found = []
    start = labels[place].message
    for label in labels[place + 1 : place + 1 + within]:
        between = range(start + 1, label.message)
        if any(trajectory.messages[i].role == "user" for i in between):
            if found or labels[place].verdict != "unparsable":
                break
        found.append(label)
        start = label.message
    return found


def _right_calls(
    trajectory: Trajectory, labels: Sequence[TurnLabel]
) -> Iterator[tuple[TurnLabel, int, ToolCall]]:
    for label in labels:
        for number, judged in enumerate(label.calls):
            if judged.verdict == "keep":
                yield label, number, trajectory.messages[label.message].calls[number]


def _relation(wrong: ToolCall, right: ToolCall) -> str:
    """Return how a right call puts a wrong one right, or an empty text."""
    if wrong.name == right.name:
        return "same_tool" if dict(wrong.arguments) != dict(right.arguments) else ""
    values = _values(wrong.arguments)
    shared = values & _values(right.arguments)
    return "same_goal" if shared and 2 * len(shared) >= len(values) else ""


def _values(arguments: Mapping[str, Any]) -> set[str]:
    """Return the values that tell what a call is about, as text; short ones tell too little."""
    texts = (" ".join(str(value).lower().split()) for value in arguments.values())
    return {text for text in texts if len(text) > 2 and text not in ("true", "false", "none")}


def _reply(replies: Sequence[ReplySpan], label: TurnLabel) -> ReplySpan:
    return next(reply for reply in replies if reply.message == label.message)
