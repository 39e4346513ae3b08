"""Chat messages with tool calls, in the shapes that OpenAI-like sources have, as turns.

Shared by the importers of chat formats. Answers are put in the order of the calls they belong to,
so that a turn of k calls is followed by its k answers.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tl_jax.data.importers.assistant import assistant_calls, unparsable_turn
from tl_jax.data.importers.json_text import load_json, load_loose_json
from tl_jax.data.trajectory import Message
from tl_jax.errors import RowError

_CALL = "call"
_ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user",
    "assistant": "assistant", "gpt": "assistant", "model": "assistant",
    "tool": "tool", "function": "tool", "observation": "tool", "tool_response": "tool",
    "function_response": "tool", "ipython": "tool",
    "function_call": _CALL, "tool_call": _CALL,
}  # fmt: skip
_TEXT_PARTS = ("text", "input_text", "output_text", "reasoning", "thinking")
_CALL_PARTS = ("tool_call", "function_call", "tool_use")

TextReader = Callable[[str, str], "Sequence[Turn] | None"]
"""Given a role and a text, the turns that the text stands for, or None: it is only text."""


@dataclasses.dataclass(frozen=True)
class Turn:
    """A message with what links answers to calls.

    Attributes:
      message: The message.
      ids: For an assistant turn the id of every call (``""`` if it has none), also where they
        could not be read; for a tool turn the id of the call it answers.
      continues: Whether the calls belong to the assistant turn before, if there is one.
    """

    message: Message
    ids: tuple[str, ...] = ()
    continues: bool = False


def dialogue(entries: Any, read_text: TextReader | None = None) -> tuple[Message, ...]:
    """Convert the messages of one row.

    System messages at the beginning become one. A text directly followed by a turn of calls
    without text is that turn's thought.

    Args:
      entries: Objects with ``role`` and ``content`` and, for calls, ``tool_calls`` (nested or
        flat), ``function_call``, or parts of the content.
      read_text: Finds calls and answers that a source writes into its texts.

    Raises:
      RowError: Not a list of messages, an unknown role, or content that is no text.
    """
    if not isinstance(entries, list) or not entries:
        raise RowError("the messages must be a list with at least one of them")
    turns: list[Turn] = []
    for number, entry in enumerate(entries):
        try:
            found = turns_of(entry, read_text)
        except RowError as error:
            raise RowError(f"message {number}: {error}") from error
        for turn in found:
            if turns and (joined := _joined(turns[-1], turn)):
                turns[-1] = joined
            else:
                turns.append(turn)
    return in_call_order(turns)


def turns_of(entry: Any, read_text: TextReader | None = None) -> Sequence[Turn]:
    """Convert one message; see ``dialogue``."""
    if not isinstance(entry, Mapping):
        raise RowError(f"a message must be an object, not {type(entry).__name__}")
    role = _ROLES.get(str(entry.get("role")).lower())
    if role is None:
        raise RowError(f"unknown role {entry.get('role')!r}")
    if role == _CALL:
        return (_bare_calls(entry.get("content")),)
    if role == "assistant":
        turn = _assistant(entry)
    elif role == "tool":
        answers = str(entry.get("tool_call_id") or entry.get("id") or "")
        turn = Turn(Message("tool", _answer_text(entry), status=_status(entry)), (answers,))
    else:
        turn = Turn(Message(role, content_text(entry.get("content"))))
    if read_text and not turn.message.calls and not turn.message.status:
        return read_text(role, turn.message.content) or (turn,)
    return (turn,)


def content_text(content: Any) -> str:
    """Return the text of a message's content: text, nothing, or a list of text parts.

    Raises:
      RowError: A part that is no text, such as an image.
    """
    return "\n".join(text for text, call in _parts(content) if call is None)


def in_call_order(turns: Iterable[Turn]) -> tuple[Message, ...]:
    """Return the messages with the answers of every turn in the order of its calls.

    Answers are matched by call id, the others by position. A call without an answer gets a stand-in
    with status ``missing``, but only if a later call has an answer. One answer that is a JSON list
    with one entry for each of several calls is split.
    """
    messages: list[Message] = []
    ids: tuple[str, ...] = ()
    answers: list[Turn] = []
    for turn in turns:
        if turn.message.role == "tool":
            answers.append(turn)
            continue
        messages += _ordered(ids, answers)
        messages.append(turn.message)
        ids, answers = turn.ids, []
    return (*messages, *_ordered(ids, answers))


def _ordered(ids: Sequence[str], answers: Sequence[Turn]) -> list[Message]:
    if len(answers) == 1 < len(ids) and not answers[0].ids[0]:
        return list(_split(answers[0].message, len(ids)))
    slots: list[Message | None] = [None] * len(ids)
    unmatched = []
    free: dict[str, list[int]] = {}
    for position in reversed(range(len(ids))):
        free.setdefault(ids[position], []).append(position)
    for answer in answers:
        if answer.ids[0] and free.get(answer.ids[0]):
            slots[free[answer.ids[0]].pop()] = answer.message
        else:
            unmatched.append(answer.message)
    rest = iter(unmatched)
    for position, slot in enumerate(slots):
        if slot is None:
            slots[position] = next(rest, None)
    while slots and slots[-1] is None:
        slots.pop()
    return [*(slot or Message("tool", status="missing") for slot in slots), *rest]


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


def _joined(before: Turn, turn: Turn) -> Turn | None:
    """Return both turns as one, or None if they are two."""
    first, second = before.message, turn.message
    if first.role == second.role == "system":
        return Turn(Message("system", f"{first.content}\n\n{second.content}"))
    if first.role != "assistant" or not second.calls or second.content or first.status:
        return None
    if first.calls and not turn.continues:
        return None
    return Turn(
        Message("assistant", first.content, first.calls + second.calls), before.ids + turn.ids
    )


def _assistant(entry: Mapping[str, Any]) -> Turn:
    texts, found = [], []
    reasoning = entry.get("reasoning_content")
    if isinstance(reasoning, str) and reasoning:
        texts.append(reasoning)
    for text, call in _parts(entry.get("content")):
        if call is not None:
            found.append(_found(call))
        elif text:
            texts.append(text)
    calls = _decoded(entry.get("tool_calls"))
    if calls is not None and not isinstance(calls, list):
        raise RowError("'tool_calls' must be a list")
    found += [_found(call) for call in calls or ()]
    if (call := _decoded(entry.get("function_call"))) is not None:
        found.append(_found(call))
    return _turn("\n".join(texts), found)


def _bare_calls(content: Any) -> Turn:
    """Return the turn of a message that holds nothing but one call or a list of them."""
    try:
        calls = load_loose_json(content, "a call") if isinstance(content, str) else content
    except RowError:
        return Turn(unparsable_turn(content), ("",))
    found = [_found(call) for call in (calls if isinstance(calls, list) else [calls])]
    return dataclasses.replace(_turn("", found), continues=True)


def _turn(thought: str, found: Sequence[tuple[Any, Any, str]]) -> Turn:
    pairs = [(name, arguments) for name, arguments, _ in found]
    return Turn(assistant_calls(thought, pairs), tuple(call_id for *_, call_id in found))


def _found(call: Any) -> tuple[Any, Any, str]:
    """Return name, arguments and id of a call; the name is None where there is none."""
    if isinstance(call, str):
        try:
            call = load_loose_json(call, "a call")
        except RowError:
            return None, call, ""
    if not isinstance(call, Mapping):
        return None, call, ""
    call_id = str(call.get("id") or call.get("call_id") or "")
    inner = call.get("function")
    if isinstance(inner, Mapping):
        call = inner
    name = call.get("name", inner)
    key = next((k for k in ("arguments", "args", "parameters", "input") if k in call), "")
    return name, _arguments(call.get(key)), call_id


def _arguments(value: Any) -> Any:
    """Read arguments given as the text of a Python dictionary; JSON text is read later."""
    if isinstance(value, str) and value.lstrip().startswith("{'"):
        try:
            return load_loose_json(value, "arguments")
        except RowError:
            pass
    return value


def _decoded(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return load_json(value, "a list of calls") if value.strip() else None


def _parts(content: Any) -> list[tuple[str, Any]]:
    """Return ``(text, None)`` for every text part and ``("", call)`` for every call."""
    if content is None:
        return []
    if isinstance(content, str):
        return [(content, None)]
    if not isinstance(content, list):
        raise RowError(f"'content' must be text or a list of parts, not {type(content).__name__}")
    found: list[tuple[str, Any]] = []
    for part in content:
        if isinstance(part, str):
            found.append((part, None))
            continue
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind in _CALL_PARTS:
            found.append(("", part.get("value", part)))
            continue
        text = None
        if kind in _TEXT_PARTS:
            text = next((part[k] for k in ("text", "content", "value", kind) if k in part), None)
        if not isinstance(text, str):
            raise RowError(f"a content part of type {kind!r} that holds no text")
        found.append((text, None))
    return found


def _answer_text(entry: Mapping[str, Any]) -> str:
    content = entry.get("content")
    if isinstance(content, (Mapping, bool, int, float)):
        return json.dumps(content, ensure_ascii=False)
    if isinstance(content, list) and not all(
        isinstance(part, str) or (isinstance(part, Mapping) and part.get("type") in _TEXT_PARTS)
        for part in content
    ):
        return json.dumps(content, ensure_ascii=False)
    return content_text(content)


def _status(entry: Mapping[str, Any]) -> str:
    """Return what the source says of a result: ``error`` or ``is_error``, true, false or text."""
    for key in ("error", "is_error"):
        value = entry.get(key)
        if isinstance(value, bool):
            return "error" if value else "ok"
        if isinstance(value, str) and value:
            return "error"
    return ""
