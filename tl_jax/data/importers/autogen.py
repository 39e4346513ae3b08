"""Import the messages of AutoGen's agents: ``TextMessage``, ``ToolCallRequestEvent`` and others.

A message has its ``type`` and its ``source``, the name of the agent or ``user``. A summary of
results says again what stands before it; that, and what only steers the agents, is left unread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tl_jax.data.importers import openai, openai_form
from tl_jax.data.importers.openai_form import Entry
from tl_jax.data.importers.unread import changed, read_whole
from tl_jax.data.trajectory import Trajectory
from tl_jax.errors import RowError

NAME = "autogen"

_TEXTS = ("TextMessage", "MultiModalMessage", "StructuredMessage", "StopMessage")
_CALLS, _RESULTS = "ToolCallRequestEvent", "ToolCallExecutionEvent"
_THOUGHTS, _SUMMARY = "ThoughtEvent", "ToolCallSummaryMessage"
_ASIDE = ("HandoffMessage", "SelectSpeakerEvent", "ModelClientStreamingChunkEvent")
_TYPES = frozenset((*_TEXTS, _CALLS, _RESULTS, _THOUGHTS, _SUMMARY, *_ASIDE))
_USERS = ("user", "user_proxy", "human")
_NOTES = ("models_usage", "metadata", "created_at", "id")


def recognise(row: Any) -> str:
    """Return why ``row`` looks like this format, or an empty string."""
    entries = row.get("messages") if isinstance(row, Mapping) else None
    if not isinstance(entries, list) or not entries:
        return ""
    if not all(isinstance(entry, Mapping) and "source" in entry for entry in entries):
        return ""
    types = {str(entry.get("type")) for entry in entries}
    return f"messages of type {min(types)}" if types <= _TYPES else ""


def trajectory(row: Mapping[str, Any], *, source: str, line: int) -> Trajectory:
    """Convert one row.

    Raises:
      RowError: Messages or tools that cannot be read.
    """
    entries: list[Entry] = []
    for number, message in enumerate(openai_form.listed(row.get("messages"), "'messages'")):
        try:
            entries += _entries(openai_form.mapping(message, "a message"))
        except RowError as error:
            raise RowError(f"message {number}: {error}") from error
    return openai.trajectory(changed(row, messages=entries), source=source, line=line)


def _entries(message: Mapping[str, Any]) -> list[Entry]:
    kind = message.get("type")
    read_whole(message, _NOTES)
    if kind == _SUMMARY or kind in _ASIDE:
        return []
    content = message.get("content")
    said_by = str(message.get("source")).lower()
    if kind == _CALLS:
        calls = openai_form.listed(content, "the calls")
        return [{"role": "assistant", "content": None, "tool_calls": list(calls)}]
    if kind == _RESULTS:
        results = openai_form.listed(content, "the results")
        return [changed(openai_form.mapping(one, "a result"), role="tool") for one in results]
    if kind == _THOUGHTS:
        return [{"role": "reasoning", "content": content}]
    if kind not in _TEXTS:
        raise RowError(f"unknown type {kind!r} of a message")
    return [{"role": "user" if said_by in _USERS else "assistant", "content": content}]
