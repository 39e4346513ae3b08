"""Import rows of OpenAI's Responses and Agents SDK: items such as ``function_call``.

A row holds its items under ``input`` and ``output``, ``items`` or ``messages``, with
``instructions`` and flat ``tools`` beside them. What the model says between two results is a turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tl_jax.data.importers import openai, openai_form
from tl_jax.data.importers.openai_form import Entry
from tl_jax.data.importers.turn_weights import FLAGS, OPPOSITES, WEIGHTS, turn_weight
from tl_jax.data.importers.unread import changed, read_tool
from tl_jax.data.trajectory import Trajectory
from tl_jax.errors import RowError

NAME = "responses"

_KEYS = ("input", "output", "items", "messages")
"""Where a row holds its items, in order."""
_CALLS = ("function_call", "custom_tool_call", "mcp_call")
_OUTPUTS = ("function_call_output", "custom_tool_call_output")
_TYPES = frozenset((*_CALLS, *_OUTPUTS, "reasoning", "mcp_list_tools"))
_THOUGHTS = ("summary_text", "reasoning_text", "text", None)
_PARTS = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}


def recognise(row: Any) -> str:
    """Return why ``row`` looks like this format, or an empty string."""
    if not isinstance(row, Mapping):
        return ""
    for key in _KEYS:
        items = row.get(key)
        if not isinstance(items, list) or not all(map(_is_item, items)):
            continue
        types = {str(item.get("type")) for item in items if "role" not in item}
        if found := sorted(types & _TYPES):
            return f"{key} with items of type {found[0]}"
        if key == "input" and items and {"instructions", "tools", "output"} & row.keys():
            return "input of messages, with " + ("tools" if "tools" in row else "other keys")
    return ""


def trajectory(row: Mapping[str, Any], *, source: str, line: int, tools: Any = None) -> Trajectory:
    """Convert one row, with the normalised ``tools`` of a file if it has none.

    Raises:
      RowError: Items or tools that cannot be read.
    """
    entries: list[Entry] = []
    if row.get("instructions"):
        entries.append({"role": "system", "content": _content(row.get("instructions"))})
    turn = _Turn()
    for number, item in enumerate(_items(row)):
        try:
            entries += turn.add(openai_form.mapping(item, "an item"))
        except RowError as error:
            raise RowError(f"item {number}: {error}") from error
    entries += turn.flushed()
    declared = [_tool(tool) for tool in openai_form.listed(row.get("tools"), "'tools'")]
    found = changed(row, messages=entries, tools=declared)
    return openai.trajectory(found, source=source, line=line, tools=tools)


def _is_item(item: Any) -> bool:
    return isinstance(item, Mapping) and ("type" in item or "role" in item)


def _items(row: Mapping[str, Any]) -> list[Any]:
    items: list[Any] = []
    for key in _KEYS:
        value = row.get(key)
        if isinstance(value, str):
            role = "assistant" if key == "output" else "user"
            items.append({"role": role, "content": value})
        elif isinstance(value, Mapping):
            items.append(value)
        else:
            items += openai_form.listed(value, repr(key))
    return items


def _tool(tool: Any) -> Any:
    if not isinstance(tool, Mapping) or "function" in tool or tool.get("type") != "function":
        return tool
    read_tool(tool)
    return openai_form.function(
        tool.get("name"), tool.get("description"), tool.get("parameters"), strict=tool.get("strict")
    )


class _Turn:
    """What the model says until something else is said."""

    def __init__(self) -> None:
        self.message: Mapping[str, Any] | None = None
        self.thoughts: list[Any] = []
        self.calls: list[Entry] = []
        self.weight = 1.0

    def add(self, item: Mapping[str, Any]) -> list[Entry]:
        """Take an item and return the messages that are whole by then."""
        kind = item.get("type") or "message"
        if kind not in _OUTPUTS:
            item.get("status")  # of the item's own making, not of a tool
        if kind == "reasoning":
            self.thoughts.append(_thoughts(item))
        elif kind == "mcp_call":
            self._add_call(item)
            failed = bool(item.get("error"))
            output = item.get("error") if failed else item.get("output")
            result = openai_form.answer(output, item.get("id"), failed=failed or None)
            return [*self.flushed(), result]
        elif kind in _CALLS:
            self._add_call(item)
        elif kind in _OUTPUTS:
            result = openai_form.answer(_content(item.get("output")), item.get("call_id"))
            return [*self.flushed(), changed(item, type=None, **result)]
        elif kind != "message":
            if kind == "mcp_list_tools":
                return []
            raise RowError(f"an item of type {kind!r}, which is no message and no call of a tool")
        elif item.get("role") == "assistant":
            before = self.flushed() if self.message or self.calls else []
            self.message = item
            return before
        else:
            return [*self.flushed(), changed(item, content=_content(item.get("content")))]
        return []

    def _add_call(self, item: Mapping[str, Any]) -> None:
        self.calls.append(_call(item))
        self.weight = min(self.weight, turn_weight(item))

    def flushed(self) -> list[Entry]:
        """Return the turn as a message, if anything was said, and begin another."""
        message, thoughts, calls, weight = self.message, self.thoughts, self.calls, self.weight
        self.message, self.thoughts, self.calls, self.weight = None, [], [], 1.0
        if message is None and not thoughts and not calls:
            return []
        more: Entry = {"role": "assistant", "content": None}
        if message is not None:
            more["content"] = _content(message.get("content"))
        if weight != 1:  # of a call, and so of the turn that it is part of
            said = turn_weight(message or {})
            more |= dict.fromkeys((*WEIGHTS, *FLAGS, *OPPOSITES))
            more["weight"] = min(weight, said)
        if thoughts:
            more["reasoning_content"] = openai_form.joined(thoughts)
        if calls:
            more["tool_calls"] = [
                *openai_form.listed((message or {}).get("tool_calls"), ""),
                *calls,
            ]
        return [changed(message or {}, **more)]


def _call(item: Mapping[str, Any]) -> Entry:
    name, call_id = item.get("name"), item.get("call_id") or item.get("id")
    if item.get("type") == "custom_tool_call":
        return openai_form.text_call(name, item.get("input"), call_id)
    return openai_form.call(name, item.get("arguments"), call_id)


def _thoughts(item: Mapping[str, Any]) -> str:
    """Return the text of a reasoning item: the whole where there is one, else its summary."""
    for key in ("content", "summary"):
        parts = item.get(key)
        if isinstance(parts, str):
            return parts
        texts = []
        for part in parts or ():
            if isinstance(part, Mapping) and part.get("type") in _THOUGHTS:
                texts.append(part.get("text"))
        if found := openai_form.joined(texts):
            return found
    return ""


def _content(value: Any) -> Any:
    """Return a content with the names that chat messages have for its parts."""
    if not isinstance(value, list):
        return value
    parts = []
    for part in value:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "input_image" and isinstance(part.get("image_url"), str):
            parts.append(openai_form.image(url=part.get("image_url")))
        elif kind in _PARTS and isinstance(found := part.get(_PARTS[kind]), str):
            parts.append(openai_form.text(found))
        else:
            parts.append(part)
    whole = all(isinstance(part, Mapping) for part in parts)
    return openai_form.content(parts) if whole else parts
