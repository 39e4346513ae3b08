"""Import sessions of Claude Code: the events of a ``.jsonl`` file, gathered by ``sessions``.

Each block of a reply is an event of its own; those of one reply share the ``id`` of its message.
Events form a tree by ``parentUuid``: what was gone back from is left unread, a session goes on
after its context was made shorter as another dialogue, and so do agents that it sent out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tl_jax.data.importers import anthropic
from tl_jax.data.importers.openai_form import Entry
from tl_jax.data.importers.sessions import KEY
from tl_jax.data.importers.side_files import read_tools
from tl_jax.data.importers.unread import changed, kept, read_keys, read_whole
from tl_jax.data.trajectory import Trajectory
from tl_jax.errors import RowError

NAME = "claude_code"
TOOLS_FILES = ()

_SPEAKERS = ("user", "assistant")
_NOTES = (
    "uuid", "parentUuid", "logicalParentUuid", "sessionId", "type", "timestamp", "cwd", "version",
    "gitBranch", "userType", "isSidechain", "requestId", "isMeta", "slug", "agentId", "entrypoint",
    "toolUseResult", "sourceToolAssistantUUID", "sourceToolUseID", "isVisibleInTranscriptOnly",
    "isCompactSummary", "thinkingMetadata", "todos", "permissionMode", "promptId", "imagePasteIds",
)  # fmt: skip
"""Keys of an event that say where and when it was, or again what its message holds."""
_OF_A_REPLY = ("id", "model", "type", "stop_reason", "stop_sequence", "usage", "container",
               "context_management", "diagnostics", "stop_details")  # fmt: skip
_ASIDE = frozenset(
    ("summary", "file-history-snapshot", "queue-operation", "system", "progress", "custom-title",
     "last-prompt", "agent-name", "ai-title", "permission-mode", "pr-link", "mode")
)  # fmt: skip
"""Types of events that are not said to the model."""
_NOT_THE_MODEL = "<synthetic>"


def recognise(row: Any) -> str:
    """Return why ``row`` looks like this format, or an empty string."""
    events = _peek(row, KEY)
    if not isinstance(events, list):
        return ""
    if any(_speaks(event) and "sessionId" in event for event in events):
        return f"a session of {len(events)} events with uuid and sessionId"
    return ""


def load_tools(path: str) -> Any:
    """Return the tools of a file; sessions have none."""
    return read_tools(path)


def split(row: Mapping[str, Any]) -> list[Any]:
    """Return the dialogues of a session, each the events that lead to its last one."""
    events = row.get(KEY)
    if not isinstance(events, list):
        return [row]
    for event in events:
        if _peek(event, "type") in _ASIDE:
            kept(event)
    parents = {_peek(e, "uuid"): _peek(e, "parentUuid") for e in events}
    groups: dict[Any, list[Any]] = {}
    for event in filter(_speaks, events):
        groups.setdefault(_root(_peek(event, "uuid"), parents), []).append(event)
    paths = [_path(group, parents) for group in groups.values()]
    found = [path for path in paths if any(map(_is_reply, path))]
    return [{"events": path} for path in found] or [row]


def trajectory(row: Mapping[str, Any], *, source: str, line: int, tools: Any = None) -> Trajectory:
    """Convert one dialogue of a session.

    Raises:
      RowError: No event is the model's, or a message cannot be read.
    """
    events = row.get("events")
    if not isinstance(events, list):
        raise RowError("no reply among the events of the session")
    entries: list[Entry] = []
    replies: dict[str, Entry] = {}
    for event in events:
        read_keys(event, (*_NOTES, "isApiErrorMessage"))
        read_whole(event, ("toolUseResult", "thinkingMetadata", "todos"))
        message = event["message"]
        if not isinstance(message, Mapping):
            raise RowError("the message of an event must be an object")
        name = str(message.get("id") or "")
        if name in replies:
            replies[name]["content"] += _blocks(message.get("content"))
            read_whole(message, (*_OF_A_REPLY, "role"))
            continue
        entry = changed(message, content=_blocks(message.get("content")))
        if message.get("model") == _NOT_THE_MODEL or event.get("isApiErrorMessage"):
            entry["weight"] = 0
        read_whole(message, _OF_A_REPLY)
        entries.append(entry)
        if name:
            replies[name] = entry
    name = f"{_peek(events[0], 'sessionId')}:{_peek(events[0], 'uuid')}"
    found = {"id": name, "messages": entries}
    return anthropic.trajectory(found, source=source, line=line, tools=tools)


def _blocks(content: Any) -> list[Any]:
    """Return a content as a list of blocks that may grow."""
    if isinstance(content, list):
        return list(content)
    return [{"type": "text", "text": content}] if content else []


def _path(group: Sequence[Any], parents: Mapping[Any, Any]) -> list[Any]:
    """Return the events of one tree that lead to its last, in the order of the file.

    Results of calls on the way, and the other blocks of its replies, may stand beside it.
    """
    way: set[Any] = set()
    name = _peek(group[-1], "uuid")
    while name is not None and name not in way:
        way.add(name)
        name = parents.get(name)
    size = -1
    while size != len(way):
        size = len(way)
        on_it = [event for event in group if _peek(event, "uuid") in way]
        replies = {_peek(_peek(event, "message"), "id") for event in on_it} - {None}
        calls = {one for event in on_it for one in _ids(event, "tool_use", "id")}
        for event in group:
            results = _ids(event, "tool_result", "tool_use_id")
            of_reply = _peek(_peek(event, "message"), "id") in replies
            if of_reply or (results and calls.issuperset(results)):
                way.add(_peek(event, "uuid"))
    return [event for event in group if _peek(event, "uuid") in way]


def _ids(event: Any, kind: str, key: str) -> list[Any]:
    """Return the ids of all blocks of one kind in an event; nothing counts as read."""
    blocks = _peek(_peek(event, "message"), "content")
    listed: Iterable[Any] = blocks if isinstance(blocks, list) else ()
    return [_peek(block, key) for block in listed if _peek(block, "type") == kind]


def _root(name: Any, parents: Mapping[Any, Any]) -> Any:
    seen = {name}
    while (parent := parents.get(name)) is not None and parent not in seen:
        name = parent
        seen.add(name)
    return name


def _speaks(event: Any) -> bool:
    return _peek(event, "type") in _SPEAKERS and isinstance(_peek(event, "message"), Mapping)


def _is_reply(event: Any) -> bool:
    return _peek(event, "type") == "assistant"


def _peek(holder: Any, key: str) -> Any:
    return dict.get(holder, key) if isinstance(holder, dict) else None
