"""Import sessions of Codex: the events of a rollout file, gathered by ``sessions``.

What was said and called stands in ``response_item`` events, as items of the Responses API. Where
the context was made shorter, the session goes on as another dialogue.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tl_jax.data.importers import openai_form, responses
from tl_jax.data.importers.openai_form import Entry
from tl_jax.data.importers.sessions import KEY
from tl_jax.data.importers.side_files import read_tools
from tl_jax.data.importers.unread import changed, kept, read_keys
from tl_jax.data.trajectory import Trajectory
from tl_jax.errors import RowError

NAME = "codex"
TOOLS_FILES = ()

_ITEM, _META, _COMPACTED = "response_item", "session_meta", "compacted"
_ASIDE = ("event_msg", "turn_context", "ghost_snapshot", _META)
_SHELL, _SEALED = "local_shell_call", "encrypted_content"


def recognise(row: Any) -> str:
    """Return why ``row`` looks like this format, or an empty string."""
    events = _peek(row, KEY)
    if not isinstance(events, list):
        return ""
    if any(_peek(event, "type") == _ITEM and "payload" in event for event in events):
        return f"a session of {len(events)} events with a payload"
    return ""


def load_tools(path: str) -> Any:
    """Return the tools of a file; sessions have none."""
    return read_tools(path)


def split(row: Mapping[str, Any]) -> list[Any]:
    """Return the dialogues of a session, which begin where its context was made shorter."""
    events = row.get(KEY)
    parts: list[list[Any]] = [[]]
    meta: Any = {}
    for event in events if isinstance(events, list) else ():
        kind, payload = _peek(event, "type"), _peek(event, "payload")
        if kind in _ASIDE:
            kept(event)
            meta = payload if kind == _META else meta
            continue
        read_keys(event, ("timestamp", "type", "payload"))
        if kind == _COMPACTED and isinstance(payload, Mapping):
            parts.append(_replacement(payload))
        elif kind == _ITEM and isinstance(payload, Mapping):
            if payload.get("type") in _ASIDE:
                kept(event)
            else:
                parts[-1].append(payload)
    found = [items for items in parts if any(map(_is_reply, items))]
    name, rules = _peek(meta, "id"), _rules(meta)
    return [
        {"id": f"{name}:{number}" if name else None, "instructions": rules, "items": items}
        for number, items in enumerate(found)
    ] or [row]


def trajectory(row: Mapping[str, Any], *, source: str, line: int, tools: Any = None) -> Trajectory:
    """Convert one dialogue of a session.

    Raises:
      RowError: No item is the model's, or one cannot be read.
    """
    if "items" not in row:
        raise RowError("no reply among the events of the session")
    items = [_item(item) for item in openai_form.listed(row.get("items"), "the items")]
    found = {"id": row.get("id"), "instructions": row.get("instructions"), "items": items}
    return responses.trajectory(found, source=source, line=line, tools=tools)


def _item(item: Mapping[str, Any]) -> Entry:
    """Return an item as the Responses API has it."""
    read_keys(item, (_SEALED, "phase", "id"))
    if item.get("type") == _SHELL and isinstance(action := item.get("action"), Mapping):
        arguments = {key: value for key, value in action.items() if key != "type"}
        return changed(item, type="function_call", name="local_shell", arguments=arguments)
    return changed(item)


def _replacement(payload: Mapping[str, Any]) -> list[Any]:
    """Return the items that stand in place of those before."""
    history = payload.get("replacement_history")
    if isinstance(history, list):
        read_keys(payload, ("message",))
        return list(history)
    text = payload.get("message")
    return [{"type": "message", "role": "user", "content": text}] if text else []


def _rules(meta: Any) -> Any:
    for key in ("instructions", "base_instructions"):
        value = _peek(meta, key)
        value = _peek(value, "text") if isinstance(value, Mapping) else value
        if isinstance(value, str) and value.strip():
            return value
    return None


def _is_reply(item: Any) -> bool:
    return _peek(item, "role") == "assistant" or str(_peek(item, "type")).endswith("_call")


def _peek(holder: Any, key: str) -> Any:
    return dict.get(holder, key) if isinstance(holder, dict) else None
