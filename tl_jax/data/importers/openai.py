"""Import OpenAI chat rows: ``messages`` with tool calls, and ``tools``.

A row is ``{"messages": [...], "tools": [...]}``; both may be JSON text. The tools and a system text
may also stand elsewhere in the row (``declarations``), and rows without tools take those of the
file that ``tools_path`` names. Arguments may be an object, its JSON text, that text encoded again,
or empty. Calls that a text holds in Hermes or ToolACE form are read as well, see ``text_calls``.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tl_jax.data.importers.chat import dialogue
from tl_jax.data.importers.declarations import declared_tools, with_system
from tl_jax.data.importers.json_text import load_json
from tl_jax.data.importers.message_keys import refuse_media
from tl_jax.data.importers.nulls import is_table
from tl_jax.data.importers.row_weights import refuse_unwanted, with_row_weights
from tl_jax.data.importers.schemas import normalised_tools, repair_tags
from tl_jax.data.importers.side_files import read_tools
from tl_jax.data.importers.text_calls import reader, tools_in_text
from tl_jax.data.importers.unread import decoded
from tl_jax.data.trajectory import Trajectory

NAME = "openai"
TOOLS_FILES = ()


def recognise(row: Any) -> str:
    """Return why ``row`` looks like this format, or an empty string."""
    entries = row.get("messages") if isinstance(row, Mapping) else None
    if not isinstance(entries, list) or not entries:
        return ""
    if not all(isinstance(entry, Mapping) and "role" in entry for entry in entries):
        return ""
    found = [key for key in ("tools", "functions") if key in row]
    return f"messages of role/content{' and ' + found[0] if found else ''}"


def load_tools(path: str | os.PathLike[str]) -> Any:
    """Return the tools of a file, for rows that have none."""
    return read_tools(path)


def trajectory(row: Mapping[str, Any], *, source: str, line: int, tools: Any = None) -> Trajectory:
    """Convert one row.

    Raises:
      RowError: Messages or tools that cannot be read.
    """
    entries = decoded(row, "messages", lambda text: load_json(text, "the list of messages"))
    refuse_media(row, entries)
    refuse_unwanted(row)
    declared = declared_tools(row, entries)
    entries = with_system(row, with_row_weights(row, entries))
    before, repairs = entries, Counter[str]()
    in_text, entries = tools_in_text(entries, declared)
    found = normalised_tools(declared or in_text, repairs, table=is_table(entries), keep_names=True)
    tags = repair_tags(repairs)
    repairs["system_of_tools"] += entries is not before
    if not found and tools:
        found, tags = tools
    return Trajectory(
        id=str(row.get("id") or f"{source}:{line}"),
        tools=found,
        messages=dialogue(entries, reader(found), tools=found, repairs=repairs),
        source=source,
        line=line,
        tags=tags,
        repairs=+repairs,
    )
