"""Import ToolBench answer files: the longest chain of a search, in the old OpenAI form.

A row is ``{"query", "functions", "train_messages", ...}``; ``train_messages`` is a list of growing
prefixes, of which the last is used. The system text (instructions for another prompt) is left out,
and so is ``Begin!`` after the query. A result is ``{"error", "response"}`` as text, often cut off;
an error that it names is its status, an empty one says nothing: failed responses have it too.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tl_jax.data.importers.chat import dialogue
from tl_jax.data.importers.schemas import normalised_tools, repair_tags
from tl_jax.data.importers.unread import changed
from tl_jax.data.trajectory import Trajectory
from tl_jax.errors import RowError

NAME = "toolbench"

_ERROR = re.compile(r'\s*\{\s*"error"\s*:\s*"[^"]')


def recognise(row: Any) -> str:
    """Return why ``row`` looks like this format, or an empty string."""
    if isinstance(row, Mapping) and {"train_messages", "functions"} <= row.keys():
        return "train_messages and functions"
    return ""


def trajectory(row: Mapping[str, Any], *, source: str, line: int) -> Trajectory:
    """Convert one row.

    Raises:
      RowError: No chain, or one that cannot be read.
    """
    chains = row.get("train_messages")
    if not isinstance(chains, list) or not chains:
        raise RowError("no chain of calls in 'train_messages'")
    if not isinstance(chains[-1], list):
        raise RowError("'train_messages' must be a list of message lists")
    repairs: Counter[str] = Counter()
    tools = normalised_tools(row.get("functions"), repairs, keep_names=True)
    tags = repair_tags(repairs)
    entries = [_entry(entry) for entry in chains[-1] if not _is_system(entry)]
    return Trajectory(
        id=f"toolbench:{source}:{line}",
        tools=tools,
        messages=dialogue(entries, tools=tools, repairs=repairs),
        source=source,
        line=line,
        tags={"task": f"toolbench/{row.get('query')}", **tags},
        repairs=+repairs,
    )


def _is_system(entry: Any) -> bool:
    return isinstance(entry, Mapping) and entry.get("role") == "system"


def _entry(entry: Any) -> Any:
    text = entry.get("content") if isinstance(entry, Mapping) else None
    if not isinstance(text, str):
        return entry
    if entry.get("role") == "user":
        return changed(entry, content=text.strip().removesuffix("Begin!").rstrip())
    if entry.get("role") == "function":
        return changed(entry, error=bool(_ERROR.match(text)) or None)
    return entry
