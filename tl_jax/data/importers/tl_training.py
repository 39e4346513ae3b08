"""Import the raw format of the published TL-Training scripts.

A row is ``{"id", "conversations": [{"role", "content"}]}``. The first message has role ``system``
and holds a JSON list of OpenAI-style function objects; then come ``user``, ``assistant`` and
``function`` messages. An assistant content is two lines: the tool name and its JSON arguments.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tl_jax.calls.call import ToolSpec
from tl_jax.data.importers.assistant import assistant_turn, unparsable_turn
from tl_jax.data.importers.json_text import load_json
from tl_jax.data.importers.schemas import normalised_tool, repair_tags
from tl_jax.data.trajectory import Message, Trajectory
from tl_jax.errors import RowError

NAME = "tl_training"


def recognise(row: Any) -> str:
    """Return why ``row`` looks like this format, or an empty string."""
    first = _first(row)
    if first.get("role") == "system" and str(first.get("content", "")).lstrip().startswith("["):
        return "conversations of role/content, the first a system message with a JSON tool list"
    return ""


def trajectory(row: Mapping[str, Any], *, source: str, line: int) -> Trajectory:
    """Convert one row.

    Raises:
      RowError: No tool list, an unknown role, or a message without text.
    """
    turns = row.get("conversations")
    if not isinstance(turns, list) or len(turns) < 2:
        raise RowError("'conversations' must be a list of at least a system and one more message")
    if _first(row).get("role") != "system":
        raise RowError("the first message must have role 'system' and hold the tool list")
    messages = []
    for number, turn in enumerate(turns[1:], 1):
        role, content = turn.get("role"), turn.get("content")
        if not isinstance(content, str):
            raise RowError(f"message {number}: 'content' must be text")
        if role == "assistant":
            name, newline, arguments = content.partition("\n")
            messages.append(
                assistant_turn(content, name, arguments) if newline else unparsable_turn(content)
            )
        elif role in ("user", "function"):
            messages.append(Message("tool" if role == "function" else "user", content))
        else:
            raise RowError(f"message {number}: unknown role {role!r}")
    repairs: Counter[str] = Counter()
    return Trajectory(
        id=str(row.get("id", f"{source}:{line}")),
        tools=_tools(turns[0].get("content"), repairs),
        messages=tuple(messages),
        source=source,
        line=line,
        tags=repair_tags(repairs),
    )


def _first(row: Any) -> Mapping[str, Any]:
    turns = row.get("conversations") if isinstance(row, Mapping) else None
    first = turns[0] if isinstance(turns, list) and turns else None
    return first if isinstance(first, Mapping) else {}


def _tools(text: Any, repairs: Counter[str]) -> tuple[ToolSpec, ...]:
    try:
        functions = load_json(text, "it")
        if not isinstance(functions, list):
            raise ValueError("not a list")
        return tuple(_required_first(normalised_tool(entry, repairs), entry) for entry in functions)
    except (ValueError, TypeError, AttributeError) as error:
        raise RowError(
            f"the system message is no JSON list of tools ({error}); rendered data cannot be "
            "imported, give the raw file"
        ) from error


def _required_first(tool: ToolSpec, entry: Mapping[str, Any]) -> ToolSpec:
    """Order parameters as the scripts print them: as in ``required``, then the optional ones."""
    function = entry.get("function", entry)
    required = (function.get("parameters") or {}).get("required")
    position: dict[str, int] = {name: index for index, name in enumerate(required or ())}
    ordered = sorted(tool.parameters, key=lambda p: position.get(p.name, len(position)))
    return dataclasses.replace(tool, parameters=tuple(ordered))
