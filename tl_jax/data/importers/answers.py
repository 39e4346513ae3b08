"""Put the results of tools in the order of the calls they answer.

The text form pairs results and calls by their order, so a turn of k calls is followed by its k
results.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Sequence

from tl_jax.data.importers.json_text import load_json
from tl_jax.data.importers.names import writable_name
from tl_jax.data.trajectory import Message
from tl_jax.errors import RowError


@dataclasses.dataclass(frozen=True)
class Turn:
    """A message with what links answers to calls.

    Attributes:
      message: The message.
      ids: For an assistant turn the id of every call (``""`` if it has none), also where they
        could not be read; for a tool turn the id of the call it answers.
      name: For a tool turn the name of the tool, where its source gives it.
      continues: Whether the calls belong to the assistant turn before, if there is one.
    """

    message: Message
    ids: tuple[str, ...] = ()
    name: str = ""
    continues: bool = False


def in_call_order(turns: Iterable[Turn]) -> tuple[Message, ...]:
    """Return the messages with the answers of every turn in the order of its calls.

    Answers are matched by call id, else by the name of a tool that is called once, else, where
    they have neither, by position. A call without an answer gets a stand-in with status
    ``missing``, but only if a later call has an answer. One answer that is a JSON list with one
    entry for each of several calls is split.

    Raises:
      RowError: Answers to several calls whose ids and names do not say which is whose.
    """
    messages: list[Message] = []
    caller: Turn | None = None
    answers: list[Turn] = []
    for turn in turns:
        if turn.message.role == "tool":
            answers.append(turn)
            continue
        messages += _ordered(caller, answers)
        messages.append(turn.message)
        caller, answers = turn, []
    return (*messages, *_ordered(caller, answers))


def _ordered(caller: Turn | None, answers: Sequence[Turn]) -> list[Message]:
    ids = caller.ids if caller else ()
    if caller is None or not ids:
        return [answer.message for answer in answers]
    if len(answers) == 1 < len(ids) and not answers[0].ids[0]:
        parts = _split(answers[0].message, len(ids))
        if len(parts) > 1 or not answers[0].name:
            return list(parts)
    slots: list[Message | None] = [None] * len(ids)
    unmatched = _by_id(ids, answers, slots)
    unmatched = _by_name(caller, unmatched, slots)
    open_slots = [position for position, slot in enumerate(slots) if slot is None]
    if len(open_slots) > 1:
        if any(answer.name for answer in unmatched):
            names = sorted({answer.name for answer in unmatched if answer.name})
            raise RowError(
                f"results of {', '.join(names)} do not say which of {len(ids)} calls they answer; "
                "give results the tool_call_id of their call"
            )
        if any(ids) and any(answer.ids[0] for answer in unmatched):
            raise RowError(
                f"results with other ids than the {len(ids)} calls before them; give results the "
                "tool_call_id of their call"
            )
    rest = iter([answer.message for answer in unmatched])
    for position in open_slots:
        slots[position] = next(rest, None)
    while slots and slots[-1] is None:
        slots.pop()
    return [*(slot or Message("tool", status="missing") for slot in slots), *rest]


def _by_id(ids: Sequence[str], answers: Sequence[Turn], slots: list[Message | None]) -> list[Turn]:
    """Fill the slots of the calls whose ids the answers name; return the other answers."""
    unmatched = []
    free: dict[str, list[int]] = {}
    for position in reversed(range(len(ids))):
        free.setdefault(ids[position], []).append(position)
    for answer in answers:
        if answer.ids[0] and free.get(answer.ids[0]):
            slots[free[answer.ids[0]].pop()] = answer.message
        else:
            unmatched.append(answer)
    return unmatched


def _by_name(caller: Turn, answers: list[Turn], slots: list[Message | None]) -> list[Turn]:
    """Fill the slots of tools that are called once and answered once; return the other answers."""
    names = [writable_name(call.name) for call in caller.message.calls]
    if len(names) < len(slots):
        return answers
    called = Counter(name for name, slot in zip(names, slots, strict=True) if slot is None)
    answered = Counter(writable_name(answer.name) for answer in answers)
    unmatched = []
    for answer in answers:
        name = writable_name(answer.name)
        if name and called[name] == answered[name] == 1:
            position = next(i for i, n in enumerate(names) if n == name and slots[i] is None)
            slots[position] = answer.message
        else:
            unmatched.append(answer)
    return unmatched


def _split(answer: Message, count: int) -> Sequence[Message]:
    try:
        parts = load_json(answer.content, "answers")
    except RowError:
        return (answer,)
    if not isinstance(parts, list) or len(parts) != count:
        return (answer,)
    return [
        dataclasses.replace(
            answer, content=part if isinstance(part, str) else json.dumps(part, ensure_ascii=False)
        )
        for part in parts
    ]
