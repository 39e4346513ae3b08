"""Import AgentDojo runs; the tools of each suite are in ``tools.json`` beside the runs.

A row is ``{"suite_name", "user_task_id", "pipeline_name", "messages", "utility", ...}`` with flat
calls (``function``, ``args``, ``id``) and results whose ``error`` is the exception text or null.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tl_jax.data.importers.chat import dialogue
from tl_jax.data.importers.parts import content_text
from tl_jax.data.importers.side_files import read_tool_table, tools_of
from tl_jax.data.importers.unread import changed
from tl_jax.data.trajectory import Trajectory

NAME = "agentdojo"
TOOLS_FILES = ("tools.json",)


def recognise(row: Any) -> str:
    """Return why ``row`` looks like this format, or an empty string."""
    if isinstance(row, Mapping) and {"suite_name", "user_task_id", "messages"} <= row.keys():
        return "suite_name, user_task_id and messages"
    return ""


def load_tools(path: str | os.PathLike[str]) -> Any:
    """Return the tools by suite."""
    return read_tool_table(path)


def trajectory(row: Mapping[str, Any], *, source: str, line: int, tools: Any = None) -> Trajectory:
    """Convert one row.

    Raises:
      RowError: An unknown suite, or messages that cannot be read.
    """
    suite, model = row.get("suite_name"), row.get("pipeline_name")
    task = f"{suite}/{row.get('user_task_id')}"
    entries = row.get("messages")
    if isinstance(entries, list):
        entries = [_with_status(entry) for entry in entries]
    declared, repairs = tools_of(tools, suite, "suite")
    counts: Counter[str] = Counter()
    return Trajectory(
        id=f"agentdojo:{model}/{task}/{line}",
        tools=declared,
        messages=dialogue(entries, tools=declared, repairs=counts),
        source=source,
        line=line,
        tags={
            "domain": str(suite),
            "task": task,
            "model": str(model),
            **({"success": str(row["utility"]).lower()} if "utility" in row else {}),
            **repairs,
        },
        repairs=+counts,
    )


def _with_status(entry: Any) -> Any:
    """Turn ``error`` into a status: null means that the function returned.

    What went wrong stands there alone; the model that made the call read it as the feedback.
    """
    if not (isinstance(entry, Mapping) and entry.get("role") == "tool" and "error" in entry):
        return entry
    error = entry["error"]
    found = changed(entry, error=error is not None)
    if isinstance(error, str) and not content_text(entry.get("content")).strip():
        return changed(found, content=error)
    return found
