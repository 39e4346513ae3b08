"""Gather the rows of a file that is one session of an agent, a line for each event, into one row.

Claude Code, Codex and OpenHands keep sessions so: alone, an event is no dialogue.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

from tl_jax.data.importers.rows import RawRow

KEY = "session"
"""The key of a gathered row that holds the events, in order."""

_CLAUDE = ("summary", "file-history-snapshot", "queue-operation")
"""Types of Claude Code's events that have no id of their own."""
_CODEX = ("session_meta", "response_item", "event_msg", "turn_context", "compacted")


def is_event(value: Any) -> bool:
    """Whether a row is one event of a session of Claude Code, Codex or OpenHands."""
    if not isinstance(value, Mapping):
        return False
    kind, keys = _peek(value, "type"), value.keys()
    if isinstance(kind, str) and "message" in keys and {"uuid", "sessionId"} <= keys:
        return True
    if kind in _CLAUDE and {"leafUuid", "messageId", "operation"} & keys:
        return True
    if isinstance(_peek(value, "payload"), Mapping) and kind in _CODEX:
        return True
    if str(_peek(value, "kind")).endswith("Event") and {"source", "timestamp"} <= keys:
        return True
    return {"source", "timestamp"} <= keys and bool({"action", "observation"} & keys)


def gathered(rows: Iterator[RawRow]) -> Iterator[RawRow]:
    """Yield rows as they are, or those of a session as one.

    Lines that are no JSON, as the last of a session that goes on, stay rows of their own.
    """
    first = next(rows, None)
    if first is None:
        return
    if not is_event(_value(first)):
        yield first
        yield from rows
        return
    events, broken = [], []
    for row in (first, *rows):
        (events if _value(row) is not None else broken).append(row)
    whole = b", ".join(row.value.strip() for row in events)
    yield dataclasses.replace(first, value=b'{"%s": [%s]}' % (KEY.encode(), whole))
    yield from broken


def _value(row: RawRow) -> Any:
    if not isinstance(row.value, bytes):
        return None
    try:
        return json.loads(row.value)
    except (ValueError, RecursionError):
        return None


def _peek(holder: Any, key: str) -> Any:
    return dict.get(holder, key) if isinstance(holder, dict) else None
