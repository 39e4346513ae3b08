"""Mitigate adverse effects: decide which assistant turns are trained.

A call whose feedback shows an error gives no gradient, but the call and its feedback stay in the
context of later turns.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

from tl_jax.data.feedback import (
    MODES,
    REFERENCE_PHRASES,
    FeedbackStatus,
    classify_feedback,
    error_category,
)
from tl_jax.data.schema import Message, Trajectory

__all__ = [
    "MODES",
    "REFERENCE_PHRASES",
    "FeedbackStatus",
    "LabelCounts",
    "TurnLabel",
    "classify_feedback",
    "label_turns",
    "sample_id",
]


@dataclasses.dataclass(frozen=True)
class TurnLabel:
    """What happens to one assistant turn.

    Attributes:
      message: Index of the turn in ``Trajectory.messages``.
      turn: Number of the assistant turn, from 1.
      verdict: ``keep``, ``error`` (its feedback reports one), ``no_feedback`` (no result is
        recorded) or ``unparsable`` (its text should hold a call but does not).
      reason: The rule that decided.
      category: Category of the feedback, see ``FeedbackStatus``.
    """

    message: int
    turn: int
    verdict: str
    reason: str = ""
    category: str = ""

    @property
    def kept(self) -> bool:
        """Whether the turn is trained."""
        return self.verdict == "keep"


def label_turns(trajectory: Trajectory, mode: str) -> tuple[TurnLabel, ...]:
    """Label every assistant turn of a trajectory.

    The last message, if it is an assistant turn, is kept. In modes ``"off"`` and ``"reference"``
    any other turn that is not followed directly by tool feedback gives no sample, and only that
    feedback is read. In ``"structured"`` a turn answered by the user (a question, or plain text)
    is kept, all feedback up to the next turn is read, and a status given by the source overrides
    the rules; a call followed directly by another assistant turn has no known outcome and is
    left out. A turn that should hold a call but could not be parsed is left out in every mode.

    Args:
      trajectory: The dialogue.
      mode: ``"off"``, ``"reference"`` or ``"structured"``.

    Source: code/mae/mae.py of the TL-Training release for ``reference``.
    """
    if mode not in ("off", *MODES):
        raise ValueError(f"unknown MAE rules {mode!r}; known: off, {', '.join(MODES)}")
    labels = []
    for index, message in enumerate(trajectory.messages):
        if message.role != "assistant":
            continue
        verdict, reason, category = _judge(trajectory.messages, index, mode)
        labels.append(TurnLabel(index, len(labels) + 1, verdict, reason, category))
    return tuple(labels)


def _judge(messages: Sequence[Message], index: int, mode: str) -> tuple[str, str, str]:
    turn = messages[index]
    if turn.status == "error":
        return "unparsable", "no call can be parsed from the turn", "format_error"
    if index == len(messages) - 1:
        return "keep", "last message", ""
    following = messages[index + 1]
    if following.role != "tool":
        kept = mode == "structured" and (following.role == "user" or not turn.calls)
        verdict = "keep" if kept else "no_feedback"
        return verdict, f"followed by a message of role {following.role}", ""
    if mode == "off":
        return "keep", "feedback not read", ""
    if mode == "reference":
        status = classify_feedback(following.content, mode=mode)
        return "error" if status.is_error else "keep", status.reason, status.category
    statuses = []
    for message in messages[index + 1 :]:
        if message.role != "tool":
            break
        statuses.append(_status(message))
    status = next((s for s in statuses if s.is_error), statuses[0])
    return "error" if status.is_error else "keep", status.reason, status.category


def _status(message: Message) -> FeedbackStatus:
    if message.status == "error":
        return FeedbackStatus(True, "status given by the source", error_category(message.content))
    if message.status == "ok":
        return FeedbackStatus(False, "status given by the source", "all_right")
    return classify_feedback(message.content, mode="structured")


def sample_id(trajectory: Trajectory, label: TurnLabel) -> str:
    """Return the id of the sample that trains this turn, as the published script writes it."""
    return f"Turn {label.turn}: {trajectory.id}"


@dataclasses.dataclass
class LabelCounts:
    """Running counts over labelled trajectories.

    Attributes:
      verdicts: Turns by verdict.
      reasons: Turns that are not trained, by verdict and the rule that decided.
      categories: Turns with an erroneous call, by category.
      trajectories_with_error: Trajectories with at least one such turn.
    """

    verdicts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    reasons: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    categories: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    trajectories_with_error: int = 0

    def add(self, labels: Sequence[TurnLabel]) -> None:
        """Count the turns of one trajectory."""
        wrong = [label for label in labels if label.verdict in ("error", "unparsable")]
        self.trajectories_with_error += bool(wrong)
        self.categories.update(label.category for label in wrong)
        self.verdicts.update(label.verdict for label in labels)
        self.reasons.update(f"{x.verdict}: {x.reason}" for x in labels if not x.kept)

    def report(self) -> dict[str, Any]:
        """Return the counts as a JSON-ready dict, each sorted by falling count."""
        return {
            "turns": self.verdicts.total(),
            "kept": self.verdicts["keep"],
            "verdicts": dict(self.verdicts.most_common()),
            "reasons": dict(self.reasons.most_common()),
            "categories": dict(self.categories.most_common()),
            "trajectories_with_error": self.trajectories_with_error,
        }
