"""Import rows that hold their dialogue under a name of their own, or inside another object.

The dialogue, as ``trajectory``, ``conversation`` or ``chat``, is read as the general form that it
has; so is a row under ``data`` or ``sample``. Where several keys hold one, the row is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tl_jax.data.importers.chat import is_reply
from tl_jax.data.importers.declarations import SYSTEM_KEYS, declared_tools
from tl_jax.data.importers.evaluation_sets import evaluation_set
from tl_jax.data.importers.general import importer_of
from tl_jax.data.importers.json_text import load_json
from tl_jax.data.importers.unread import changed, decoded, read_keys
from tl_jax.data.trajectory import Trajectory
from tl_jax.errors import RowError

NAME = "wrapped"

_LISTS = (
    "trajectory", "trajectories", "traj", "conversation", "dialogue", "dialog", "turns", "chat",
    "message_log", "message_list", "messages_list", "chat_messages", "transcript", "rollout",
    "full_conversation", "full_messages", "events", "thread", "session", "data",
)  # fmt: skip
"""Keys under which the messages of a dialogue may stand."""
_HISTORIES = ("history", "chat_history", "conversation_history", "message_history")
"""Keys under which they may stand where no reply stands beside them."""
_REPLIES = frozenset(
    ("response", "answer", "output", "reply", "query", "question", "prompt", "completion",
     "instruction", "input", "chosen", "rejected")
)  # fmt: skip
_OBJECTS = (
    "data", "sample", "example", "record", "row", "item", "trace", "conversation", "dialogue",
    "trajectory", "traj", "thread", "session", "chat", "episode", "rollout",
)  # fmt: skip
"""Keys under which the whole row may stand."""
_WHOLE = ("messages", "conversations", "contents")


def recognise(row: Any) -> str:
    """Return why ``row`` looks like this format, or an empty string."""
    if not isinstance(row, Mapping) or any(key in row for key in _WHOLE):
        return ""
    found = _found(row)
    if len(found) != 1:
        return ""
    ((key, inner),) = found.items()
    return f"{key} with {importer_of(inner).recognise(inner)}"


def trajectory(row: Mapping[str, Any], *, source: str, line: int) -> Trajectory:
    """Convert one row.

    Raises:
      RowError: No dialogue or several, or one that cannot be read.
    """
    found = _found(row)
    if not found:
        raise RowError(f"no dialogue under {', '.join(_LISTS[:5])} or a key like these")
    if len(found) > 1:
        raise RowError(f"dialogues under several keys ({', '.join(found)}); leave one of them")
    ((key, inner),) = found.items()
    row.get(key)
    if name := evaluation_set(inner):
        raise RowError(f"an evaluation row ({name}), which must not be trained on")
    return importer_of(inner).trajectory(inner, source=source, line=line)


def _found(row: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return rows of general forms by the key that holds them."""
    lists = _LISTS if _REPLIES & row.keys() else (*_LISTS, *_HISTORIES)
    found: dict[str, Mapping[str, Any]] = {}
    for key in dict.fromkeys((*lists, *_OBJECTS)):
        value = _peek(row, key)
        if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
            try:
                value = decoded(row, key, lambda text: load_json(text, "a dialogue"))
            except RowError:
                continue
        inner = _as_row(row, key, value)
        if inner is not None and importer_of(inner) is not None:
            found[key] = inner
    return found


def _as_row(row: Mapping[str, Any], key: str, value: Any) -> Mapping[str, Any] | None:
    if isinstance(value, Mapping) and key in _OBJECTS:
        holder = next((k for k in _WHOLE if isinstance(_peek(value, k), list)), "")
        return _with_surroundings(row, value) if holder else None
    if not isinstance(value, list) or not value:
        return None
    if not all(isinstance(entry, Mapping) for entry in value):
        return None
    entries = [_opened(entry) for entry in value]
    if not any(map(_is_reply, entries)):
        return None
    if all("parts" in entry and "content" not in entry for entry in entries):
        return changed(row, **{key: None, "contents": entries})
    if all("from" in entry or "speaker" in entry for entry in entries):
        return changed(row, **{key: None, "conversations": entries})
    return changed(row, **{key: None, "messages": entries})


def _with_surroundings(row: Mapping[str, Any], inner: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an inner row with the tools and the system text that stand outside it."""
    more: dict[str, Any] = {}
    if not any(_peek(inner, name) for name in ("tools", "functions")):
        if (tools := declared_tools(row, None)) is not None:
            more["tools"] = tools
    for name in SYSTEM_KEYS:
        if name in row and name not in inner and isinstance(_peek(row, name), str):
            more[name] = row[name]
    return changed(inner, **more) if more else inner


def _opened(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a message that stands in an event of a session, or has a sender for a role."""
    for key in ("message", "content"):
        inner = _peek(entry, key)
        if isinstance(inner, Mapping) and "role" in inner and "role" not in entry:
            return entry[key]
    sender = _peek(entry, "sender")
    if isinstance(sender, str) and "role" not in entry and is_reply(sender) is not None:
        blocks = isinstance(_peek(entry, "content"), list)
        read_keys(entry, ("sender", "text") if blocks else ("sender",))
        return changed(entry, role="assistant" if is_reply(sender) else "user")
    return entry


def _is_reply(entry: Mapping[str, Any]) -> bool:
    said = [_peek(entry, key) for key in ("role", "from", "speaker", "type")]
    return any(isinstance(role, str) and is_reply(role) for role in said)


def _peek(holder: Any, key: str) -> Any:
    return dict.get(holder, key) if isinstance(holder, dict) else None
