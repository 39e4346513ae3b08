"""Import LiveMCPBench: long tasks over the tools of seventy MCP servers.

A row is ``{"task_id", "Question", "messages", "task_success", ...}`` with messages in OpenAI form.
The agent had two tools, which the rows do not declare: ``route`` finds tools, ``execute-tool`` runs
one of them. Calls are kept as the agent made them, so the 527 tools behind ``execute-tool``
(``tools.jsonl``) are not offered; it finds them with ``route``.

A result is the text of an MCP result. ``isError=True`` at its end is an error; ``isError=False``
says only that the outer call worked, not the tool behind it, so it gives no status.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tl_jax.data.importers.chat import dialogue
from tl_jax.data.importers.schemas import declared_tool
from tl_jax.data.trajectory import Message, Trajectory

NAME = "livemcpbench"

TOOLS = (
    declared_tool(
        "route",
        "Search a large set of tools for those that fit a request.",
        query=("string", "The server and the tool that are needed, in <tool_assistant> tags."),
    ),
    declared_tool(
        "execute-tool",
        "Run a tool that was found with route.",
        server_name=("string", "The name of its server."),
        tool_name=("string", "The name of the tool."),
        params=("object", "The arguments of the tool."),
    ),
)
_FAILED = "isError=True"


def recognise(row: Any) -> str:
    """Return why ``row`` looks like this format, or an empty string."""
    if isinstance(row, Mapping) and {"Question", "messages", "task_success"} <= row.keys():
        return "Question, messages and task_success"
    return ""


def trajectory(row: Mapping[str, Any], *, source: str, line: int) -> Trajectory:
    """Convert one row.

    Raises:
      RowError: Messages that cannot be read.
    """
    task = str(row.get("task_id") or line)
    return Trajectory(
        id=f"livemcpbench-{task}:{line}",
        tools=TOOLS,
        messages=tuple(map(_with_status, dialogue(row.get("messages")))),
        source=source,
        line=line,
        tags={
            "task": f"livemcpbench/{task}",
            "domain": str(row.get("category") or ""),
            "success": "true" if row.get("task_success") == "success" else "false",
        },
    )


def _with_status(message: Message) -> Message:
    failed = message.role == "tool" and message.content.rstrip().endswith(_FAILED)
    return dataclasses.replace(message, status="error") if failed else message
