"""Import rows of LangChain's messages: ``type`` human, ai, tool and system instead of a role.

Messages stand as they are, with their fields under ``data`` (``messages_to_dict``) or under
``kwargs`` (serialised). Calls have ``args``; what a model wrote that is no JSON stands in
``invalid_tool_calls``; fields of the vendor's stand in ``additional_kwargs``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tl_jax.data.importers import openai, openai_form
from tl_jax.data.importers.openai_form import Entry
from tl_jax.data.importers.thoughts import thought_text
from tl_jax.data.importers.unread import changed, read_keys, read_tool
from tl_jax.data.trajectory import Trajectory
from tl_jax.errors import RowError

NAME = "langchain"

_ROLES = {
    "human": "user",
    "user": "user",
    "ai": "assistant",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
    "system": "system",
    "developer": "system",
}
_CALL_BLOCKS = ("tool_use", "tool_call", "function_call", "tool_call_chunk", "invalid_tool_call")
_THOUGHTS = ("reasoning_content", "reasoning")
"""Fields of the vendor's that hold thoughts."""
_OF_A_CALL = ("name", "arguments")
_OWN = ("human", "ai")
"""Types that no other form has."""


def recognise(row: Any) -> str:
    """Return why ``row`` looks like this format, or an empty string."""
    entries = row.get("messages") if isinstance(row, Mapping) else None
    if not isinstance(entries, list) or not entries:
        return ""
    if any(not isinstance(entry, Mapping) or "role" in entry for entry in entries):
        return ""
    types = [_type(entry) for entry in entries]
    if all(kind in (*_ROLES, "chat") for kind in types) and set(types) & set(_OWN):
        return "messages of type human, ai or tool"
    return ""


def trajectory(row: Mapping[str, Any], *, source: str, line: int) -> Trajectory:
    """Convert one row.

    Raises:
      RowError: Messages or tools that cannot be read.
    """
    entries = []
    for number, message in enumerate(openai_form.listed(row.get("messages"), "'messages'")):
        try:
            entries.append(_entry(openai_form.mapping(message, "a message")))
        except RowError as error:
            raise RowError(f"message {number}: {error}") from error
    tools = [_tool(tool) for tool in openai_form.listed(row.get("tools"), "'tools'")]
    return openai.trajectory(changed(row, messages=entries, tools=tools), source=source, line=line)


def _type(message: Mapping[str, Any]) -> str:
    """Return the type of a message in lower case, such as ``ai`` for a chunk of one, too."""
    kind = message.get("type")
    if kind == "constructor" and isinstance(path := message.get("id"), list) and path:
        kind = path[-1]
    return str(kind).lower().removesuffix("chunk").removesuffix("message")


def _entry(message: Mapping[str, Any]) -> Entry:
    kind = _type(message)
    fields = message
    for key in ("data", "kwargs"):
        if isinstance(message.get(key), Mapping):
            message.get("lc")
            fields = message[key]
            read_keys(fields, ("type",))
    role = fields.get("role") if kind == "chat" else _ROLES.get(kind)
    if role is None:
        raise RowError(f"unknown type {kind!r} of a message; known: {', '.join(_ROLES)}")
    if role == "tool":
        failed = True if fields.get("status") == "error" else None
        name = fields.get("name")
        result = openai_form.answer(
            fields.get("content"), fields.get("tool_call_id"), name=name, failed=failed
        )
        return changed(fields, type=None, status=None, **result)
    if role != "assistant":
        return changed(fields, type=None, role=role)
    return _assistant(fields)


def _assistant(fields: Mapping[str, Any]) -> Entry:
    extra = fields.get("additional_kwargs")
    extra = extra if isinstance(extra, Mapping) else {}
    calls = [_call(call) for call in openai_form.listed(fields.get("tool_calls"), "'tool_calls'")]
    for call in openai_form.listed(fields.get("invalid_tool_calls"), "'invalid_tool_calls'"):
        calls.append(_call(call))
    content, thoughts, blocks = _content(fields.get("content"))
    # The blocks of a content, and the vendor's fields, say the same calls again.
    calls = calls or [_call(block) for block in blocks]
    more: Entry = {"type": None, "role": "assistant", "content": content}
    said_again = {key: extra.get(key) for key in ("tool_calls", "function_call")}
    if calls:
        more["tool_calls"] = calls
        _pass_over(said_again["tool_calls"], said_again["function_call"])
    else:
        more |= {key: value for key, value in said_again.items() if value}
    thoughts = thoughts or [
        thought_text(extra.get(key)) for key in ("reasoning_content", "reasoning")
    ]
    if found := openai_form.joined(thoughts):
        more["reasoning_content"] = found
    if not content and not calls and isinstance(refusal := extra.get("refusal"), str):
        more["refusal"] = refusal
    return changed(fields, **more)


def _pass_over(calls: Any, call: Any) -> None:
    """Count calls as read that are there a second time."""
    for entry in [*(calls if isinstance(calls, list) else ()), call]:
        read_keys(entry, ("type", "function", "index", *_OF_A_CALL))
        if isinstance(entry, Mapping):
            read_keys(entry.get("function"), _OF_A_CALL)


def _content(content: Any) -> tuple[Any, list[Any], list[Mapping[str, Any]]]:
    """Return what of a content is shown, its thoughts, and its blocks that are calls."""
    if not isinstance(content, list):
        return content, [], []
    parts: list[Entry] = []
    thoughts: list[Any] = []
    calls: list[Mapping[str, Any]] = []
    for block in content:
        if isinstance(block, str):
            parts.append(openai_form.text(block))
            continue
        block = openai_form.mapping(block, "a block")
        kind = block.get("type")
        if kind in _CALL_BLOCKS:
            calls.append(block)
        elif kind in ("thinking", "reasoning"):
            thoughts.append(thought_text(block))
        elif kind == "text":
            parts.append(openai_form.text(str(block.get("text") or "")))
        else:
            parts.append(changed(block))
    return openai_form.content(parts), thoughts, calls


def _call(call: Any) -> Entry:
    call = openai_form.mapping(call, "a call")
    key = next((key for key in ("args", "input", "arguments") if key in call), "args")
    if "function" in call:
        return changed(call)
    call.get("type")
    call.get("error")
    return openai_form.call(call.get("name"), call.get(key), call.get("id") or call.get("call_id"))


def _tool(tool: Any) -> Any:
    if not isinstance(tool, Mapping) or "function" in tool:
        return tool
    schema = next((tool[key] for key in ("args_schema", "input_schema") if key in tool), None)
    if schema is None and isinstance(arguments := tool.get("args"), Mapping):
        schema = {"type": "object", "properties": arguments}
    if schema is None:
        return tool
    read_tool(tool)
    return openai_form.function(tool.get("name"), tool.get("description"), schema)
