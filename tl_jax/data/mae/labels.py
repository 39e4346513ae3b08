"""Mitigate adverse effects: decide which assistant turns are trained.

A call whose feedback shows an error gives no gradient, but the call and its feedback stay in the
context of later turns. What a mistake leads to can be chosen by its category (``mae_rules.py``).
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

from tl_jax.data.mae.feedback import FeedbackStatus, classify_feedback
from tl_jax.data.mae.policy import RULES, MaePolicy
from tl_jax.data.mae.schema_checks import check_call
from tl_jax.data.trajectory import Message, Trajectory

__all__ = [
    "CallLabel",
    "FeedbackStatus",
    "LabelCounts",
    "TurnLabel",
    "classify_feedback",
    "label_turns",
    "sample_id",
    "without_dropped",
]


@dataclasses.dataclass(frozen=True)
class CallLabel:
    """What happens to one call; ``verdict``, ``reason`` and ``category`` as in ``TurnLabel``.

    Attributes:
      action: ``keep``, ``mask``, ``drop`` or ``down-weight``.
      weight: Factor on the loss weight of its tokens.
    """

    verdict: str
    reason: str = ""
    category: str = ""
    action: str = "keep"
    weight: float = 1.0


@dataclasses.dataclass(frozen=True)
class TurnLabel:
    """What happens to one assistant turn.

    Attributes:
      message: Index of the turn in ``Trajectory.messages``.
      turn: Number of the assistant turn, from 1.
      verdict: ``keep``, ``error`` (its call is wrong), ``partly`` (some of its parallel calls are
        wrong or have no answer), ``no_feedback`` (no result is recorded), ``unparsable`` (its
        text should hold a call but does not), ``empty`` (neither text nor a call) or ``context``
        (not what its row is there to train, before anything was said to it, or taken out of the
        loss by its source).
      reason: The rule that decided; of the first wrong call, if there is one.
      category: Category of the feedback or of the fault, see ``FeedbackStatus``.
      action: What is done: ``keep``, ``mask`` (no gradient, stays in the context), ``drop`` (leaves
        the context as well) or ``down-weight``.
      weight: Factor on the loss weight of its tokens.
      calls: Its calls, judged one by one; empty for plain text.
      source_weight: Another such factor, which its source gives it; not 0.
    """

    message: int
    turn: int
    verdict: str
    reason: str = ""
    category: str = ""
    action: str = "keep"
    weight: float = 1.0
    calls: tuple[CallLabel, ...] = ()
    source_weight: float = 1.0

    @property
    def kept(self) -> bool:
        """Whether the turn, or one of its calls, is trained."""
        return self.weight > 0

    @property
    def right(self) -> bool:
        """Whether nothing is wrong with the turn, as with an answer to imitate."""
        return self.weight == 1 and all(call.weight == 1 for call in self.calls)

    @property
    def call_weights(self) -> tuple[float, ...]:
        """Factor of each call relative to the turn's; empty if they are all the same."""
        weights = tuple(call.weight for call in self.calls)
        if not self.kept or len(set(weights)) < 2:
            return ()
        return tuple(weight / self.weight for weight in weights)


def label_turns(trajectory: Trajectory, rules: str | MaePolicy) -> tuple[TurnLabel, ...]:
    """Label every assistant turn of a trajectory.

    The last message, if it is an assistant turn, has no feedback and is kept. With rules
    ``"off"`` and ``"reference"`` any other turn that is not followed directly by tool feedback
    gives no sample, and of the feedback to a single call only the first message is read. With
    ``"structured"`` a turn answered by the user (a question, or plain text) is kept, all feedback
    up to the next turn is read, and a status given by the source overrides the rules; a call
    followed directly by another assistant turn has no known outcome and is left out. With
    ``"static"`` no feedback is read or needed: a call is wrong if it contradicts the manual of its
    tool. ``"structured+static"`` finds a call wrong if either does; where both do, the manual
    gives the category. Parallel calls are answered by the tool messages in their order and judged
    one by one. A turn that should hold a call but could not be parsed is wrong in every mode, and
    an empty one, which would teach to say nothing, is trained in none. A turn that opens the
    dialogue, such as a greeting, answers nothing and is context; so is one that its source gives
    the weight 0, right or wrong. Where the tag ``target`` is ``last``, the turns before the last
    are context and not judged.

    Args:
      trajectory: The dialogue.
      rules: The policy, or the name of its rules with every mistake masked.

    Source: code/mae/mae.py of the TL-Training release for ``reference``.
    """
    if isinstance(rules, str):
        if rules not in RULES:
            raise ValueError(f"unknown MAE rules {rules!r}; known: {', '.join(RULES)}")
        rules = MaePolicy(rules)
    labels: list[TurnLabel] = []
    for index, message in enumerate(trajectory.messages):
        if message.role == "assistant":
            found = _label(trajectory, index, len(labels) + 1, rules)
            if message.weight not in (0, 1):
                found = dataclasses.replace(found, source_weight=message.weight)
            labels.append(found)
    if trajectory.tags.get("target") == "last":
        labels[:-1] = [
            TurnLabel(label.message, label.turn, "context", "not the target", "", "mask", 0.0)
            for label in labels[:-1]
        ]
    return tuple(labels)


def _label(trajectory: Trajectory, index: int, turn: int, policy: MaePolicy) -> TurnLabel:
    message = trajectory.messages[index]
    if not index:
        return TurnLabel(index, turn, "context", "opens the dialogue", "", "mask", 0.0)
    if not message.weight:
        return TurnLabel(index, turn, "context", "its source does not train it", "", "mask", 0.0)
    if message.status == "error":
        found = _wrong(policy, "no call can be parsed from the turn", "format_error")
        return dataclasses.replace(
            TurnLabel(index, turn, **vars(found)), verdict="unparsable", calls=()
        )
    if not message.calls and not message.content.strip():
        return TurnLabel(index, turn, "empty", "neither text nor a call", "", "mask", 0.0)
    judged = _calls(trajectory, index, policy)
    if len(judged) == 1:
        return TurnLabel(index, turn, **vars(judged[0]), calls=judged if message.calls else ())
    first = next((c for c in judged if c.verdict == "error"), None)
    first = first or next((c for c in judged if c.verdict != "keep"), judged[0])
    same = all(call.verdict == first.verdict for call in judged)
    best = max(judged, key=lambda call: call.weight)
    return TurnLabel(
        index,
        turn,
        first.verdict if same or not best.weight else "partly",
        first.reason,
        first.category,
        best.action,
        best.weight,
        judged,
    )


def _calls(trajectory: Trajectory, index: int, policy: MaePolicy) -> tuple[CallLabel, ...]:
    """Judge the calls of a turn; plain text is judged as one."""
    messages = trajectory.messages
    turn = messages[index]
    answers = _answers(messages, index)
    found = []
    for number in range(max(1, len(turn.calls))):
        call = turn.calls[number] if turn.calls else None
        fault = check_call(call, trajectory.tools) if call and policy.checks_calls else None
        if fault:
            found.append(_wrong(policy, f"manual: {fault.about}", fault.category))
        elif policy.rules == "static" and call and trajectory.tools:
            found.append(CallLabel("keep", "agrees with its manual", "all_right"))
        elif number >= len(answers) or answers[number][0].status == "missing":
            found.append(_unanswered(messages, index, policy, parallel=bool(answers)))
        elif not policy.reads_feedback:
            found.append(CallLabel("keep", "feedback not read"))
        else:
            read = answers[number][:1] if policy.rules == "reference" else answers[number]
            tool = call.name if call else ""
            statuses = [policy.feedback(m.content, m.status, tool) for m in read]
            status = next((s for s in statuses if s.is_error), statuses[0])
            found.append(
                _wrong(policy, status.reason, status.category)
                if status.is_error
                else CallLabel("keep", status.reason, status.category)
            )
    return tuple(found)


def _answers(messages: Sequence[Message], index: int) -> list[list[Message]]:
    """Return the tool messages after a turn, by call; those left over belong to the last call."""
    following = []
    for message in messages[index + 1 :]:
        if message.role != "tool":
            break
        following.append(message)
    number = max(1, len(messages[index].calls))
    answers = [[message] for message in following[:number]]
    if answers:
        answers[-1] += following[number:]
    return answers


def _unanswered(
    messages: Sequence[Message], index: int, policy: MaePolicy, *, parallel: bool
) -> CallLabel:
    if parallel:
        if policy.reads_feedback:
            return CallLabel("no_feedback", "no answer to a parallel call", "", "mask", 0.0)
        return CallLabel("keep", "feedback not read")
    if index == len(messages) - 1:
        return CallLabel("keep", "last message")
    role = messages[index + 1].role
    as_published = policy.rules in ("off", "reference")
    known = policy.rules == "static" or role == "user" or not messages[index].calls
    reason = f"followed by a message of role {role}"
    if known and not as_published:
        return CallLabel("keep", reason)
    return CallLabel("no_feedback", reason, "", "mask", 0.0)


def _wrong(policy: MaePolicy, reason: str, category: str) -> CallLabel:
    action = policy.action(category)
    return CallLabel("error", reason, category, action, policy.weight(action))


def without_dropped(
    trajectory: Trajectory, labels: Sequence[TurnLabel]
) -> tuple[Trajectory, tuple[TurnLabel, ...]]:
    """Cut calls whose action is ``drop`` out of a dialogue, with their feedback.

    Args:
      trajectory: The dialogue.
      labels: Its turns, from ``label_turns``.

    Returns:
      The dialogue without them (the same object if there are none), and the labels of the turns
      that are left, which keep their number.
    """
    if not any("drop" in (x.action, *(c.action for c in x.calls)) for x in labels):
        return trajectory, tuple(labels)
    by_message = {label.message: label for label in labels}
    messages: list[Message] = []
    left = []
    index = 0
    while index < len(trajectory.messages):
        message = trajectory.messages[index]
        label = by_message.get(index)
        index += 1
        if label is None:
            messages.append(message)
            continue
        answers = _answers(trajectory.messages, index - 1)
        index += sum(map(len, answers))
        dropped = [call.action == "drop" for call in label.calls] or [label.action == "drop"]
        if all(dropped):
            continue
        stay = [number for number, drop in enumerate(dropped) if not drop]
        left.append(
            dataclasses.replace(
                label,
                message=len(messages),
                calls=tuple(label.calls[n] for n in stay if label.calls),
            )
        )
        calls = tuple(message.calls[number] for number in stay if message.calls)
        messages.append(dataclasses.replace(message, calls=calls))
        for number in stay:
            messages += answers[number] if number < len(answers) else ()
    return dataclasses.replace(trajectory, messages=tuple(messages)), tuple(left)


def sample_id(trajectory: Trajectory, label: TurnLabel) -> str:
    """Return the id of the sample that trains this turn, as the published script writes it."""
    return f"Turn {label.turn}: {trajectory.id}"


@dataclasses.dataclass
class LabelCounts:
    """Running counts over labelled trajectories.

    Attributes:
      verdicts: Turns by verdict.
      kept: Turns that are trained, at least in part.
      reasons: Turns that are not trained in full, by verdict and the rule that decided.
      categories: Wrong calls and unparsable turns, by category.
      calls: Calls that were judged, by category; ``no_feedback`` where nothing is known.
      actions: Wrong calls and unparsable turns, by what is done.
      trajectories_with_error: Trajectories with at least one of them.
    """

    verdicts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    kept: int = 0
    reasons: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    categories: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    calls: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    actions: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    trajectories_with_error: int = 0

    def add(self, labels: Sequence[TurnLabel]) -> None:
        """Count the turns of one trajectory."""
        wrong: list[TurnLabel | CallLabel] = [x for x in labels if x.verdict == "unparsable"]
        wrong += [call for x in labels for call in x.calls or [x] if call.verdict == "error"]
        self.trajectories_with_error += bool(wrong)
        self.categories.update(x.category for x in wrong)
        self.actions.update(x.action for x in wrong)
        self.calls.update(c.category or "no_feedback" for x in labels for c in x.calls)
        self.calls.update(x.category for x in labels if x.verdict == "unparsable")
        self.verdicts.update(label.verdict for label in labels)
        self.kept += sum(label.kept for label in labels)
        self.reasons.update(f"{x.verdict}: {x.reason}" for x in labels if not x.right)

    def report(self) -> dict[str, Any]:
        """Return the counts as a JSON-ready dict, each sorted by falling count."""
        return {
            "turns": self.verdicts.total(),
            "kept": self.kept,
            "verdicts": dict(self.verdicts.most_common()),
            "reasons": dict(self.reasons.most_common()),
            "categories": dict(self.categories.most_common()),
            "calls": dict(self.calls.most_common()),
            "actions": dict(self.actions.most_common()),
            "trajectories_with_error": self.trajectories_with_error,
        }
