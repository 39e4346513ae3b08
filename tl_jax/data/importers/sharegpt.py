"""Import ShareGPT rows: ``conversations`` of from/value or role/content, and ``tools``.

Speakers are human/user, gpt/assistant, function_call (JSON of one call or of a list),
observation/tool and system; ``tools`` is a list or JSON text. Calls that a text holds in Hermes or
ToolACE form are read too, and so are tools that only the system text declares (``text_calls``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from tl_jax.data.importers.chat import dialogue
from tl_jax.data.importers.declarations import declared_tools, with_system
from tl_jax.data.importers.message_keys import refuse_media
from tl_jax.data.importers.nulls import is_table
from tl_jax.data.importers.row_weights import refuse_unwanted, with_row_weights
from tl_jax.data.importers.schemas import normalised_tools, repair_tags
from tl_jax.data.importers.text_calls import reader, tools_in_text
from tl_jax.data.importers.unread import renamed
from tl_jax.data.trajectory import Trajectory
from tl_jax.errors import RowError

NAME = "sharegpt"
_NAMES = {"from": "role", "speaker": "role", "value": "content"}
_FORMS = (
    ("from", "value"), ("role", "content"), ("from", "content"), ("role", "value"),
    ("speaker", "text"), ("speaker", "value"), ("speaker", "content"), ("from", "text"),
)  # fmt: skip
"""Keys of who speaks and of what is said."""


def recognise(row: Any) -> str:
    """Return why ``row`` looks like this format, or an empty string."""
    turns = row.get("conversations") if isinstance(row, Mapping) else None
    if not isinstance(turns, list) or not turns:
        return ""
    if not all(isinstance(turn, Mapping) for turn in turns):
        return ""
    for names in _FORMS:
        # A turn of calls may have no content of its own.
        needed = names[: 1 if any("tool_calls" in turn for turn in turns) else 2]
        if all(set(needed) <= turn.keys() for turn in turns):
            return f"conversations of {'/'.join(names)}{' and tools' if 'tools' in row else ''}"
    return ""


def trajectory(row: Mapping[str, Any], *, source: str, line: int) -> Trajectory:
    """Convert one row.

    Raises:
      RowError: Turns or tools that cannot be read.
    """
    turns = row.get("conversations")
    if not isinstance(turns, list) or not all(isinstance(turn, Mapping) for turn in turns):
        raise RowError("'conversations' must be a list of objects")
    entries = [
        renamed(turn, {old: new for old, new in _NAMES.items() if old in turn}) for turn in turns
    ]
    refuse_media(row, entries)
    refuse_unwanted(row)
    declared = declared_tools(row, entries)
    entries = with_system(row, with_row_weights(row, entries))
    before, repairs = entries, Counter[str]()
    in_text, entries = tools_in_text(entries, declared)
    tools = normalised_tools(declared or in_text, repairs, table=is_table(entries), keep_names=True)
    tags = repair_tags(repairs)
    repairs["system_of_tools"] += entries is not before
    return Trajectory(
        id=str(row.get("id") or f"{source}:{line}"),
        tools=tools,
        messages=dialogue(entries, reader(tools), tools=tools, repairs=repairs),
        source=source,
        line=line,
        tags=tags,
        repairs=+repairs,
    )
