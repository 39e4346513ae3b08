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
from tl_jax.data.importers.schemas import normalised_tools, repair_tags
from tl_jax.data.importers.side_files import read_table, tools_of
from tl_jax.data.schema import Trajectory

NAME = "agentdojo"
TOOLS_FILES = ("tools.json",)


def recognise(row: Any) -> str:
    """Return why ``row`` looks like this format, or an empty string."""
    if isinstance(row, Mapping) and {"suite_name", "user_task_id", "messages"} <= row.keys():
        return "suite_name, user_task_id and messages"
    return ""


def load_tools(path: str | os.PathLike[str]) -> Any:
    """Return the tool declarations by suite."""
    return read_table(path)


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
    repairs: Counter[str] = Counter()
    return Trajectory(
        id=f"agentdojo:{model}/{task}/{line}",
        tools=normalised_tools(tools_of(tools, suite, "suite"), repairs),
        messages=dialogue(entries),
        source=source,
        line=line,
        tags={
            "domain": str(suite),
            "task": task,
            "model": str(model),
            **({"success": str(row["utility"]).lower()} if "utility" in row else {}),
            **repair_tags(repairs),
        },
    )


def _with_status(entry: Any) -> Any:
    """Make ``error: null``, which here means that the function returned, say so."""
    if isinstance(entry, Mapping) and entry.get("role") == "tool" and "error" in entry:
        return {**entry, "error": entry["error"] is not None}
    return entry
