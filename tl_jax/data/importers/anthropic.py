"""Import rows in the form of Anthropic's Messages: blocks ``tool_use`` and ``tool_result``.

A row is ``{"system": ..., "tools": [{"name", "input_schema"}], "messages": [...]}``; the content of
a message is text or a list of blocks. Thinking blocks are thoughts; results of tools that the
server runs stand among the assistant's own blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tl_jax.data.importers import openai, openai_form
from tl_jax.data.importers.openai_form import Entry
from tl_jax.data.importers.unread import changed, read_tool
from tl_jax.data.trajectory import Trajectory
from tl_jax.errors import RowError

NAME = "anthropic"

_CALLS = ("tool_use", "server_tool_use", "mcp_tool_use")
_OF_OTHERS = ("tool_calls", "function_call", "tool_call_id")


def recognise(row: Any) -> str:
    """Return why ``row`` looks like this format, or an empty string."""
    entries = row.get("messages") if isinstance(row, Mapping) else None
    if not isinstance(entries, list) or not entries:
        return ""
    for entry in entries:
        if not isinstance(entry, Mapping) or any(entry.get(key) for key in _OF_OTHERS):
            return ""
        if entry.get("role") not in ("user", "assistant", "system"):
            return ""
    blocks = [block for entry in entries for block in _blocks(entry.get("content"))]
    kinds = {str(block.get("type")) for block in blocks if isinstance(block, Mapping)}
    if found := sorted(kinds & {*_CALLS, "tool_result", "redacted_thinking"}):
        return f"messages with blocks of type {found[-1]}"
    tools = row.get("tools")
    tools = [tool for tool in tools if isinstance(tool, Mapping)] if isinstance(tools, list) else []
    if any("input_schema" in tool for tool in tools):
        return "messages of user and assistant, and tools with input_schema"
    return ""


def trajectory(row: Mapping[str, Any], *, source: str, line: int, tools: Any = None) -> Trajectory:
    """Convert one row, with the normalised ``tools`` of a file if it has none.

    Raises:
      RowError: Messages or tools that cannot be read.
    """
    entries = [{"role": "system", "content": _system(row)}] if row.get("system") else []
    for number, message in enumerate(openai_form.listed(row.get("messages"), "'messages'")):
        try:
            entries += _entries(openai_form.mapping(message, "a message"))
        except RowError as error:
            raise RowError(f"message {number}: {error}") from error
    declared = [_tool(tool) for tool in openai_form.listed(row.get("tools"), "'tools'")]
    found = changed(row, messages=entries, tools=declared, system=None)
    return openai.trajectory(found, source=source, line=line, tools=tools)


def _system(row: Mapping[str, Any]) -> str:
    texts = []
    for block in _blocks(row.get("system")):
        if isinstance(block, Mapping) and block.get("type") in ("text", None):
            texts.append(block.get("text"))
        elif isinstance(block, str):
            texts.append(block)
        else:
            raise RowError("'system' must be text or blocks of text")
    return openai_form.joined(texts)


def _blocks(content: Any) -> list[Any]:
    if isinstance(content, list):
        return content
    return [] if content is None else [content]


def _tool(tool: Any) -> Any:
    if not isinstance(tool, Mapping) or "input_schema" not in tool:
        return tool
    read_tool(tool)
    more = {"strict": tool.get("strict")}
    return openai_form.function(
        tool.get("name"), tool.get("description"), tool.get("input_schema"), **more
    )


def _entries(message: Mapping[str, Any]) -> list[Entry]:
    """Return a message as one for each of its results, and one for what stands between them."""
    content = message.get("content")
    if not isinstance(content, list):
        return [changed(message)]
    found: list[Entry] = []
    results: list[Entry] = []
    turn = _Turn()
    for block in content:
        kind = block.get("type") if isinstance(block, Mapping) else ""
        if isinstance(kind, str) and kind.endswith("tool_result"):
            if message.get("role") == "assistant":
                found += turn.entries(message)
                found.append(_result(block))
                turn = _Turn()
            else:
                results.append(_result(block))
        else:
            turn.add(block)
    if (whole := turn.entries(message)) or found or results:
        return [*results, *found, *whole]
    return [changed(message, content="")]


class _Turn:
    """The blocks of a message between two results."""

    def __init__(self) -> None:
        self.parts: list[Entry] = []
        self.thoughts: list[Any] = []
        self.calls: list[Entry] = []

    def add(self, block: Any) -> None:
        """Take a block that is no result."""
        if isinstance(block, str):
            self.parts.append(openai_form.text(block))
            return
        block = openai_form.mapping(block, "a block")
        kind = block.get("type")
        if kind in _CALLS:
            self.calls.append(
                openai_form.call(block.get("name"), block.get("input"), block.get("id"))
            )
        elif kind == "thinking":
            block.get("signature")
            self.thoughts.append(block.get("thinking"))
        elif kind != "redacted_thinking":  # which nobody but its author can read
            self.parts.append(_part(block))

    def entries(self, message: Mapping[str, Any]) -> list[Entry]:
        """Return the message of these blocks, if there are any."""
        if not (self.parts or self.thoughts or self.calls):
            return []
        more: Entry = {"content": openai_form.content(self.parts)}
        if self.thoughts:
            more["reasoning_content"] = openai_form.joined(self.thoughts)
        if self.calls:
            more["tool_calls"] = self.calls
        return [changed(message, **more)]


def _part(block: Mapping[str, Any]) -> Entry:
    kind = block.get("type")
    if kind == "text":
        return openai_form.text(str(block.get("text") or ""))
    if kind == "image" and isinstance(source := block.get("source"), Mapping):
        return openai_form.image(source.get("data"), source.get("media_type"), source.get("url"))
    return changed(block)


def _result(block: Mapping[str, Any]) -> Entry:
    content, failed = block.get("content"), block.get("is_error")
    if isinstance(content, Mapping):  # of a tool that the server runs
        failed = str(content.get("type")).endswith("_error") or failed
    elif isinstance(content, list) and all(_is_shown(part) for part in content):
        content = openai_form.content([_part(part) for part in content])
    elif isinstance(content, list):
        content = [_readable(part) for part in content]
    return openai_form.answer(content, block.get("tool_use_id"), failed=failed)


def _readable(part: Any) -> Any:
    """Return a part of a server's result without what only the server can read."""
    if not isinstance(part, dict):
        return part
    # Not a loop over the part itself, which would read all of it.
    shown = [key for key in dict.keys(part) if not key.startswith("encrypted_")]
    return {key: part[key] for key in shown}


def _is_shown(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") in ("text", "image")
