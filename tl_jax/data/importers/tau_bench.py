"""Import tau-bench trajectories; the tools of each domain are in ``tools.json`` beside them.

A row is ``{"env", "task_id", "model", "reward", "traj", ...}``; ``traj`` is an OpenAI chat. The
benchmark's tools report an error by a result that begins with ``Error`` or ``Unknown action``.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tl_jax.data.importers.chat import dialogue
from tl_jax.data.importers.side_files import read_tool_table, tools_of
from tl_jax.data.importers.unread import changed
from tl_jax.data.trajectory import Trajectory

NAME = "tau_bench"
TOOLS_FILES = ("tools.json",)

_ERRORS = ("Error", "Unknown action")


def recognise(row: Any) -> str:
    """Return why ``row`` looks like this format, or an empty string."""
    if isinstance(row, Mapping) and {"env", "task_id", "reward", "traj"} <= row.keys():
        return "env, task_id, reward and traj"
    return ""


def load_tools(path: str | os.PathLike[str]) -> Any:
    """Return the tools by domain."""
    return read_tool_table(path)


def trajectory(row: Mapping[str, Any], *, source: str, line: int, tools: Any = None) -> Trajectory:
    """Convert one row.

    Raises:
      RowError: An unknown domain, or messages that cannot be read.
    """
    domain, model = row.get("env"), row.get("model")
    # The tasks of tau2-bench are largely the same, so both share one task key.
    task = f"{domain}/{row.get('task_id')}"
    entries = row.get("traj")
    if isinstance(entries, list):
        entries = [_with_status(entry) for entry in entries]
    declared, repairs = tools_of(tools, domain, "domain")
    counts: Counter[str] = Counter()
    return Trajectory(
        id=f"tau_bench:{task}/{line}",
        tools=declared,
        messages=dialogue(entries, tools=declared, repairs=counts),
        source=source,
        line=line,
        tags={
            "domain": str(domain),
            "task": task,
            "model": str(model),
            # One of the published runs discounts the reward of a success.
            "success": str(_number(row.get("reward")) > 0).lower(),
            **repairs,
        },
        repairs=+counts,
    )


def _with_status(entry: Any) -> Any:
    content = entry.get("content") if isinstance(entry, Mapping) else None
    if not isinstance(content, str) or entry.get("role") != "tool":
        return entry
    return changed(entry, error=content.startswith(_ERRORS))


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0
