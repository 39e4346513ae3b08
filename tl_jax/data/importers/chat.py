"""Chat messages with tool calls, in the shapes that OpenAI-like sources have, as turns.

Shared by the importers of chat formats. What a message says beside its text is read here as well:
thoughts (``thoughts``), its weight in training (``turn_weights``), and whether a call failed
(``failures``); results are put in the order of their calls (``answers``).
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tl_jax.calls.call import ToolSpec
from tl_jax.data.importers import frames, thoughts
from tl_jax.data.importers.answers import Turn, in_call_order, said_name
from tl_jax.data.importers.assistant import assistant_calls, unparsable_turn
from tl_jax.data.importers.failures import error_text, result_status
from tl_jax.data.importers.json_text import load_loose_json
from tl_jax.data.importers.message_calls import (
    TOOL_NAMES,
    Found,
    first,
    found_call,
    inner_results,
    listed_calls,
    several_results,
    single_call,
    without_repeats,
)
from tl_jax.data.importers.message_keys import (
    CALL,
    CALLS,
    named,
    refuse_media,
    refuse_unread,
    with_content,
)
from tl_jax.data.importers.nulls import is_table
from tl_jax.data.importers.parts import (
    content_parts,
    content_text,
    not_text,
    refuse_data,
    result_text,
)
from tl_jax.data.importers.reading import Reading, TextReader
from tl_jax.data.importers.turn_weights import MASK, mask_trains, turn_weight
from tl_jax.data.importers.unread import changed, decoded, read_keys
from tl_jax.data.trajectory import Message
from tl_jax.errors import RowError

REPAIRS: Mapping[str, str] = {
    "repeated_call": "a call that a message holds in two places, read once",
    "repeated_thought": "a thought that the visible text begins with, read once",
    "visible_reason_tag": "a turn in <reason> or the like, perhaps thoughts; trained as it is",
    "null_argument": "a null argument removed that its tool does not allow, or of a table's row",
    "system_of_tools": "a system text that holds the tools and how to call them, left out",
    "custom_call": "a call with free text in place of arguments, which became its 'input'",
    "media_in_result": "an image or other medium in a result, replaced by a named placeholder",
}
"""Every kind of repair that is counted here."""

_CALL, _THOUGHT = "call", "thought"
_ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user", "prompter": "user", "customer": "user", "client": "user",
    "assistant": "assistant", "gpt": "assistant", "model": "assistant", "ai": "assistant",
    "bot": "assistant", "chatbot": "assistant", "agent": "assistant", "chatgpt": "assistant",
    "claude": "assistant", "bing": "assistant", "bard": "assistant", "llm": "assistant",
    "tool": "tool", "tool_outputs": "tool", "function": "tool", "observation": "tool",
    "tool_response": "tool",
    "function_response": "tool", "ipython": "tool", "tool_result": "tool", "tool_output": "tool",
    "function_result": "tool", "function_results": "tool", "tool_results": "tool", "api": "tool",
    "environment": "tool", "env": "tool", "tool_return": "tool",
    "functionresponse": "tool",
    "function_call": _CALL, "tool_call": _CALL, "tool_calls": _CALL, "functioncall": _CALL,
    "assistant_tool_call": _CALL, "function_calls": _CALL, "tool_use": _CALL,
    **dict.fromkeys(thoughts.ROLES, _THOUGHT),
}  # fmt: skip

_FUNCTIONS = "functions."
"""What harmony has before the name of a tool."""
_OTHER_IDS = (
    "toolUseId", "callId", "function_call_id", "functionCallId", "tool_id", "request_id",
    "tool_request_id", "source_call_id", "tool_call_ids", "parent_id", "reply_to", "in_reply_to",
)  # fmt: skip
"""Keys of a result under which the id of its call may stand, or that of something else."""
_OTHER_NAMES = ("tool", "function", "func", "recipient", "api_name", "action")
"""Keys of a result under which the name of its tool may stand, or something else."""
_ANNOUNCED = "Calling tools:\n"
"""What smolagents writes before the calls of a turn."""
_REPLIES = ("assistant", _CALL, _THOUGHT)


def dialogue(
    entries: Any,
    read_text: TextReader | None = None,
    *,
    tools: Iterable[ToolSpec] = (),
    repairs: Counter[str] | None = None,
) -> tuple[Message, ...]:
    """Convert the messages of one row.

    System messages in a row become one. A text directly followed by a turn of calls without text
    is what is said before them, and a turn of thoughts belongs to the turn after it.

    Args:
      entries: Objects with ``role`` and ``content`` and, for calls, ``tool_calls`` (nested or
        flat), ``function_call``, or parts of the content.
      read_text: Finds calls and answers that a source writes into its texts.
      tools: The tools that the row declares.
      repairs: Counts by kind; added to.

    Raises:
      RowError: Not a list of messages, an unknown role, content that is no text, a weight that is
        none, or results that belong to none of several calls.
    """
    if not isinstance(entries, list) or not entries:
        raise RowError("the messages must be a list with at least one of them")
    reading = Reading(
        read_text,
        {tool.name: tool for tool in tools},
        is_table(entries),
        _mask_trains(entries),
        Counter() if repairs is None else repairs,
    )
    turns: list[Turn] = []
    for number, entry in enumerate(entries):
        try:
            found = turns_of(entry, reading)
        except RowError as error:
            raise RowError(f"message {number}: {error}") from error
        for turn in found:
            turn = _as_call(turn, turns, reading)
            if turns and (joined := _joined(turns[-1], turn)):
                turns[-1] = joined
            else:
                turns.append(turn)
    return in_call_order(turns)


def _as_call(turn: Turn, before: Sequence[Turn], reading: Reading) -> Turn:
    """Return a result that answers nothing as the call that it is, where it is one.

    The role ``function`` says either, and some sources give it to calls.
    """
    if turn.message.role != "tool" or turn.name or reading.read_text is None:
        return turn
    if before and (before[-1].ids or before[-1].message.role == "tool"):
        return turn
    found = reading.read_text("assistant", turn.message.content)
    if not found or not found[0].message.calls:
        return turn
    return dataclasses.replace(found[0], continues=True)


def turns_of(entry: Any, reading: Reading) -> Sequence[Turn]:
    """Convert one message; see ``dialogue``."""
    if not isinstance(entry, Mapping):
        raise RowError(f"a message must be an object, not {type(entry).__name__}")
    role = _role(entry.get("role"))
    if role is None:
        raise RowError(f"unknown role {entry.get('role')!r}")
    if role == "assistant" and "channel" in entry:
        role, entry = _of_channel(entry)
    weight = turn_weight(entry, mask_trains=reading.mask_trains)
    entry = with_content(entry, role)
    if role == "tool":
        return _answers(entry, reading)
    if role in _REPLIES:
        found = _READERS[role](entry, reading)
        if not (found.message.content or found.message.calls or found.message.thoughts):
            refuse_unread(entry)
        if weight != 1:
            message = dataclasses.replace(found.message, weight=weight)
            found = dataclasses.replace(found, message=message)
        return (found, *_inner_answers(entry, found, reading))
    refuse_media(entry)
    text = content_text(entry.get("content"))
    refuse_data(text)
    if not text:
        refuse_unread(entry)
    return (reading.read_text and reading.read_text(role, text)) or (Turn(Message(role, text)),)


def is_reply(role: Any) -> bool | None:
    """Return whether the turns of a role are the model's; None if there is no such role."""
    found = _role(role)
    return None if found is None else found in _REPLIES


def _role(role: Any) -> str | None:
    return _ROLES.get(str(role).lower().replace("-", "_").replace(" ", "_"))


def _of_channel(entry: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Return role and message of a turn in harmony's form: a thought, a call, or an answer."""
    channel, recipient = entry.get("channel"), entry.get("recipient")
    if isinstance(recipient, str) and recipient not in ("", "all", "assistant", "user"):
        read_keys(entry, ("content_type",))
        arguments = content_text(entry.get("content")).strip() or "{}"
        call = {"name": recipient.removeprefix(_FUNCTIONS), "arguments": arguments}
        return "assistant", changed(entry, content=None, tool_calls=[call])
    return (_THOUGHT if channel == "analysis" else "assistant"), entry


def _inner_answers(entry: Mapping[str, Any], found: Turn, reading: Reading) -> list[Turn]:
    """Return the results that stand with the calls they answer.

    Raises:
      RowError: There are some, and a text of which nothing says whether it came before them.
    """
    if not found.message.calls:
        return []
    results = inner_results(entry)
    if results and found.message.content:
        raise RowError(
            "calls with their results in them and a text, which may stand before or after them; "
            "give the results messages of their own"
        )
    return [turn for one in results for turn in _answers(one, reading)]


def _mask_trains(entries: Sequence[Any]) -> bool | None:
    masked = [entry for entry in entries if isinstance(entry, Mapping) and MASK in entry]
    if not masked:
        return None
    own = [entry[MASK] for entry in masked if is_reply(entry.get("role"))]
    return mask_trains([e[MASK] for e in masked if is_reply(e.get("role")) is False], own)


def _joined(before: Turn, turn: Turn) -> Turn | None:
    """Return both turns as one, or None if they are two."""
    first, second = before.message, turn.message
    if first.role == second.role == "system":
        return Turn(Message("system", f"{first.content}\n\n{second.content}"))
    if first.role != "assistant" or second.role != "assistant" or first.status:
        return None
    only_thoughts = bool(first.thoughts) and not first.content and not first.calls
    if not only_thoughts:
        if not second.calls or second.content or first.weight != second.weight:
            return None
        if first.calls and not turn.continues:
            return None
    message = Message(
        "assistant",
        second.content if only_thoughts else first.content,
        first.calls + second.calls,
        second.status,
        thoughts.joined(first.thoughts, second.thoughts),
        second.weight if only_thoughts else first.weight,
    )
    return dataclasses.replace(turn, message=message, ids=before.ids + turn.ids, continues=False)


def _thoughts(entry: Mapping[str, Any], reading: Reading) -> Turn:
    """Return the turn of a message that holds nothing but thoughts."""
    found = thoughts.thought_text(entry.get("content"))
    return Turn(Message("assistant", thoughts=thoughts.joined(thoughts.thoughts_of(entry), found)))


def _assistant(entry: Mapping[str, Any], reading: Reading) -> Turn:
    texts, inside, reasoned = [], [], [thoughts.thoughts_of(entry)]
    content = entry.get("content")
    for number, part in enumerate(content_parts(content)):
        if part.kind == "call":
            inside.append(found_call(part.call, reading))
        elif part.kind == "thought":
            reasoned.append(part.text)
        elif part.kind != "text":
            raise not_text(content[number] if isinstance(content, list) else content)
        elif part.text:
            texts.append(part.text)
    if isinstance(refusal := entry.get("refusal"), str) and refusal and refusal not in texts:
        texts.append(refusal)
    thought, text = frames.parted("\n".join(texts))
    refuse_data(text)
    places = [listed_calls(entry, key) for key in named(entry, CALLS)]
    places += [single_call(entry, key) for key in named(entry, CALL)]
    found = without_repeats(
        [inside, *([found_call(call, reading) for call in calls] for calls in places)],
        reading.repairs,
    )
    turn = _turn(text, found)
    if reading.read_text and not turn.message.status:
        turn = _with_text_calls(turn, text, reading)
    if reasoned[0] and text.lstrip().startswith(reasoned[0]):
        # Agents note what they thought, and show it.
        reading.repairs["repeated_thought"] += 1
        reasoned = reasoned[1:]
    if tag := thoughts.doubtful_tag(text):
        reading.repairs[f"visible_{tag}_tag"] += 1
    reasoned = thoughts.joined(*reasoned, thought, turn.message.thoughts)
    if not reasoned:
        return turn
    return dataclasses.replace(turn, message=dataclasses.replace(turn.message, thoughts=reasoned))


def _with_text_calls(turn: Turn, text: str, reading: Reading) -> Turn:
    """Return a turn with the calls that its text holds; not again where it has them already."""
    assert reading.read_text is not None
    found = reading.read_text("assistant", text)
    if not found:
        return turn
    if not turn.message.calls:
        return found[0]
    if found[0].message.calls != turn.message.calls:
        return turn
    reading.repairs["repeated_call"] += len(turn.message.calls)
    content = found[0].message.content
    return dataclasses.replace(turn, message=dataclasses.replace(turn.message, content=content))


def _bare_calls(entry: Mapping[str, Any], reading: Reading) -> Turn:
    """Return the turn of a message that holds nothing but one call or a list of them."""
    content = entry.get("content")
    thought = ""
    if isinstance(content, list) and all(part.kind == "text" for part in content_parts(content)):
        content = content_text(content)
        entry = changed(entry, content=content)
    if isinstance(content, str):
        thought, text = frames.parted(content.removeprefix(_ANNOUNCED))
        try:
            content = decoded(entry, "content", lambda _: load_loose_json(text, "a call"))
        except RowError:
            return Turn(dataclasses.replace(unparsable_turn(text), thoughts=thought), ("",))
    calls = content if isinstance(content, list) else [content]
    turn = _turn("", [found_call(call, reading) for call in calls])
    reasoned = thoughts.joined(thoughts.thoughts_of(entry), thought)
    message = dataclasses.replace(turn.message, thoughts=reasoned)
    return dataclasses.replace(turn, message=message, continues=True)


_READERS: Mapping[str, Callable[[Mapping[str, Any], Reading], Turn]] = {
    "assistant": _assistant,
    _CALL: _bare_calls,
    _THOUGHT: _thoughts,
}


def _turn(text: str, found: Sequence[Found]) -> Turn:
    pairs = [(name, arguments) for name, arguments, _ in found]
    return Turn(
        assistant_calls(text, pairs, keep_names=True), tuple(call_id for *_, call_id in found)
    )


def _texts(entry: Mapping[str, Any], keys: Sequence[str]) -> tuple[str, ...]:
    """Return the texts under some keys, also where one stands alone in a list."""
    found = [entry[key] for key in keys if key in entry]
    found = [one[0] if isinstance(one, list) and len(one) == 1 else one for one in found]
    return tuple(one for one in found if isinstance(one, str))


def _answers(entry: Mapping[str, Any], reading: Reading) -> Sequence[Turn]:
    """Return the turns of a message with the result of a call, or with several."""
    if (each := several_results(entry)) is not None:
        return [turn for one in each for turn in _answers(with_content(one, "tool"), reading)]
    answered = first(entry, ("tool_call_id", "call_id", "toolCallId", "tool_use_id", "id"))
    others = () if answered else _texts(entry, _OTHER_IDS)
    content = entry.get("content")
    text = result_text(content, reading.repairs)
    status = result_status(entry)
    if not text.strip() and status == "error":
        text = error_text(entry) or text
    if not text.strip():
        refuse_unread(entry, containers=True)
    if reading.read_text and not status and (found := reading.read_text("tool", text)):
        return found
    name = entry.get("name") or first(entry, TOOL_NAMES)
    name = name.removeprefix(_FUNCTIONS) if isinstance(name, str) else ""
    said = "" if answered or name else first(entry, _OTHER_NAMES) or said_name(text)
    message = Message("tool", text, status=status)
    return (Turn(message, (answered, *others), name, said),)
