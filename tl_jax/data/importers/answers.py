"""Put the results of tools in the order of the calls they answer.

The text form pairs results and calls by their order, so a turn of k calls is followed by its k
results.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tl_jax.data.importers.json_text import load_json
from tl_jax.data.importers.names import writable_name
from tl_jax.data.trajectory import Message
from tl_jax.errors import RowError

_RESULTS = frozenset(("content", "result", "results", "output", "response"))
"""Keys of a result that names its tool."""
_HEAD = 200
"""The name stands in so many first characters."""


@dataclasses.dataclass(frozen=True)
class Turn:
    """A message with what links answers to calls.

    Attributes:
      message: The message.
      ids: For an assistant turn the id of every call (``""`` if it has none), also where they
        could not be read; for a tool turn the id of the call it answers, and behind it what may
        be that id.
      name: For a tool turn the name of the tool, where its source gives it.
      said_name: For a tool turn the name that its text gives as that of its tool, if any.
      continues: Whether the calls belong to the assistant turn before, if there is one.
    """

    message: Message
    ids: tuple[str, ...] = ()
    name: str = ""
    said_name: str = ""
    continues: bool = False


def in_call_order(turns: Iterable[Turn]) -> tuple[Message, ...]:
    """Return the messages with the answers of every turn in the order of its calls.

    Answers are matched by call id, else by the name of a tool that is called once, also where only
    their texts give it, else, where they have neither, by position. A call without an answer gets
    a stand-in with status ``missing``, but only if a later call has an answer. One answer that is
    a JSON list with one entry for each of several calls is split.

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
        answers = _split(answers[0], len(ids))
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
        name = next((one for one in answer.ids if one and free.get(one)), None)
        if name is not None:
            slots[free[name].pop()] = answer.message
        else:
            unmatched.append(answer)
    return unmatched


def _by_name(caller: Turn, answers: list[Turn], slots: list[Message | None]) -> list[Turn]:
    """Fill the slots of tools that are called once and answered once; return the other answers."""
    names = [writable_name(call.name) for call in caller.message.calls]
    if len(names) < len(slots):
        return answers
    called = Counter(name for name, slot in zip(names, slots, strict=True) if slot is None)
    said = [writable_name(answer.name or answer.said_name) for answer in answers]
    answered = Counter(said)
    unmatched = []
    for answer, name in zip(answers, said, strict=True):
        if name and called[name] == answered[name] == 1:
            position = next(i for i, n in enumerate(names) if n == name and slots[i] is None)
            slots[position] = answer.message
        else:
            unmatched.append(answer)
    return unmatched


def _split(answer: Turn, count: int) -> Sequence[Turn]:
    """Return the answers that one holds as a JSON list, or it alone."""
    try:
        parts = load_json(answer.message.content, "answers")
    except RowError:
        return (answer,)
    if not isinstance(parts, list) or len(parts) != count:
        return (answer,)
    found = []
    for part in parts:
        text = part if isinstance(part, str) else json.dumps(part, ensure_ascii=False)
        message = dataclasses.replace(answer.message, content=text)
        found.append(Turn(message, ("",), said_name=said_name(part)))
    return found


def said_name(value: Any) -> str:
    """Return the name of the tool that a result gives as its own, or an empty text.

    Args:
      value: The result, or its JSON text.
    """
    if isinstance(value, str):
        if not value.startswith("{") or '"name"' not in value[:_HEAD]:
            return ""
        try:
            value = load_json(value, "a result")
        except RowError:
            return ""
    name = value.get("name") if isinstance(value, Mapping) else None
    return name if isinstance(name, str) and value.keys() & _RESULTS else ""
