"""The canonical trajectory: tools, messages, structured calls and feedback with status."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from tl_jax.calls.call import ToolCall, ToolSpec, tool_from_json, tool_to_json
from tl_jax.errors import RowError

ROLES = ("system", "user", "assistant", "tool")

_KINDS: dict[str, type] = {"source": str, "line": int, "tags": dict}
_WORDS = {str: "a text", int: "a whole number", dict: "an object"}


@dataclasses.dataclass(frozen=True)
class Message:
    """One turn.

    Attributes:
      role: ``system``, ``user``, ``assistant`` or ``tool`` (feedback to the call before it).
      content: Visible text; for an assistant turn with a call, the text before it (may be empty).
      calls: The structured calls of an assistant turn; empty for plain text.
      status: For a ``tool`` turn whose source says so: ``"ok"`` or ``"error"``; ``""`` if unknown;
        ``"missing"`` for a stand-in where the source has no answer to a call, but to a later one.
        For an assistant turn, ``"error"`` if its text should hold a call but none can be parsed.
      thoughts: For an assistant turn, what the model reasoned before it and the user never sees.
      weight: For an assistant turn, its share in the loss as its source says, from 0 (context
        only, never a gold call) upwards.
    """

    role: str
    content: str = ""
    calls: tuple[ToolCall, ...] = ()
    status: str = ""
    thoughts: str = ""
    weight: float = 1.0


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """One dialogue with tools.

    Attributes:
      id: Unique within its source.
      tools: Tools offered in the prompt, in prompt order.
      messages: Turns; a ``system`` turn mostly comes first, others only some templates can write.
      source: Name of the data set or file.
      line: 0-based line in the source file, or -1.
      tags: Free labels, such as ``{"domain": "travel", "split": "unseen"}``. Two of them mean
        something: ``task`` is what may not be split between training and validation, and
        ``{"target": "last"}`` says that only the last assistant turn is trained.
      unread: How often each key of the source's row was read by nothing, by its path, such as
        ``messages[].audio``; of this reading only, so it neither travels nor tells two apart.
      repairs: How often each repair was made to read the row, by its name; likewise.

    Example:
      >>> import tl_jax as tl
      >>> from tl_jax.data.trajectory import Message
      >>> call = tl.ToolCall("weather", {"city": "Rome"})
      >>> turns = (Message("user", "Is it warm?"), Message("assistant", "", (call,)))
      >>> tl.Trajectory("one", (tl.ToolSpec("weather"),), turns).messages[1].calls[0].name
      'weather'
    """

    id: str
    tools: tuple[ToolSpec, ...]
    messages: tuple[Message, ...]
    source: str = ""
    line: int = -1
    tags: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unread: Mapping[str, int] = dataclasses.field(default_factory=dict, compare=False)
    repairs: Mapping[str, int] = dataclasses.field(default_factory=dict, compare=False)


def to_json(trajectory: Trajectory) -> dict[str, Any]:
    """Return a JSON-ready dict; inverse of ``from_json``."""
    messages = []
    for message in trajectory.messages:
        entry: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.calls:
            entry["calls"] = [
                {"name": call.name, "arguments": dict(call.arguments)} for call in message.calls
            ]
        if message.status:
            entry["status"] = message.status
        if message.thoughts:
            entry["thoughts"] = message.thoughts
        if message.weight != 1:
            entry["weight"] = message.weight
        messages.append(entry)
    return {
        "id": trajectory.id,
        "tools": [tool_to_json(tool) for tool in trajectory.tools],
        "messages": messages,
        "source": trajectory.source,
        "line": trajectory.line,
        "tags": dict(trajectory.tags),
    }


def from_json(row: Mapping[str, Any]) -> Trajectory:
    """Build a Trajectory from ``to_json`` output.

    Raises:
      RowError: A missing field, one of another type, or an unknown role.
    """
    try:
        for name, kind in _KINDS.items():
            value = row.get(name)
            if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
                raise RowError(f"{name} must be {_WORDS[kind]}, not {_kind(value)}")
        return Trajectory(
            id=str(row["id"]),
            tools=tuple(tool_from_json(tool) for tool in row["tools"]),
            messages=tuple(_message(entry) for entry in row["messages"]),
            source=row.get("source") or "",
            line=-1 if row.get("line") is None else row["line"],
            tags={key: _tag(key, value) for key, value in (row.get("tags") or {}).items()},
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise RowError(f"malformed trajectory: {error!r}") from error
    except ValueError as error:
        raise RowError(str(error)) from error


def _tag(name: str, value: Any) -> str:
    if not isinstance(value, str | int | float):
        raise RowError(f"the tag {name!r} must be a text or a number, not {_kind(value)}")
    return str(value)


def _message(entry: Mapping[str, Any]) -> Message:
    role, content, thoughts = entry["role"], entry.get("content"), entry.get("thoughts")
    status, weight = entry.get("status", ""), entry.get("weight", 1.0)
    if role not in ROLES:
        raise RowError(f"unknown role {role!r}; known: {', '.join(ROLES)}")
    for name, text in (("content", content), ("thoughts", thoughts)):
        if not isinstance(text, str | None):
            raise RowError(f"the {name} of a {role} turn must be a text, not {_kind(text)}")
    if not isinstance(status, str):
        raise RowError(f"the status of a {role} turn must be a text, not {_kind(status)}")
    calls = tuple(map(_call, entry.get("calls", ())))
    return Message(role, content or "", calls, status, thoughts or "", checked_weight(weight))


def checked_weight(value: Any) -> float:
    """Return the weight of a turn.

    Raises:
      RowError: Not a finite number of at least 0.
    """
    if not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise RowError(f"the weight of a turn must be a finite number of at least 0, not {value!r}")
    return float(value)


def _call(entry: Mapping[str, Any]) -> ToolCall:
    name, arguments = entry["name"], entry["arguments"]
    if not isinstance(name, str) or not name:
        raise RowError(f"the name of a call must be a text that is not empty, not {name!r}")
    if not isinstance(arguments, Mapping):
        raise RowError(f"the arguments of a call must be an object, not {_kind(arguments)}")
    return ToolCall(name, dict(arguments))


def _kind(value: Any) -> str:
    return type(value).__name__
