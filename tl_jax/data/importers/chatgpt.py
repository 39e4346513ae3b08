"""Import conversations that ChatGPT exports: a tree of messages under ``mapping``.

Read is the way to ``current_node``; other branches are left unread. A message to a recipient, such
as ``python``, is a call of it; its text is the input unless it is a JSON object.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tl_jax.data.importers import openai, openai_form
from tl_jax.data.importers.json_text import load_json
from tl_jax.data.importers.openai_form import Entry
from tl_jax.data.importers.side_files import read_tools
from tl_jax.data.importers.unread import changed, kept, read_keys, read_whole
from tl_jax.data.trajectory import Trajectory
from tl_jax.errors import RowError

NAME = "chatgpt"
TOOLS_FILES = ()

_NOTES = (
    "title", "create_time", "update_time", "moderation_results", "plugin_ids", "conversation_id",
    "conversation_template_id", "gizmo_id", "gizmo_type", "is_archived", "is_starred", "safe_urls",
    "blocked_urls", "default_model_slug", "conversation_origin", "voice", "async_status",
    "disabled_tool_ids", "is_do_not_remember", "memory_scope", "sugar_item_id", "owner",
)  # fmt: skip
"""Keys of a conversation beside its messages."""
_OF_A_MESSAGE = ("id", "create_time", "update_time", "status", "end_turn", "metadata", "channel",
                 "weight")  # fmt: skip
_TEXTS = ("text", "result", "content", "user_profile", "user_instructions", "model_set_context")
"""Keys of a content of which it has some."""
_NOTHING = ("reasoning_recap", "model_editable_context")
"""Types of contents that are said to nobody."""
_FAILED = "system_error"


def recognise(row: Any) -> str:
    """Return why ``row`` looks like this format, or an empty string."""
    nodes = _peek(row, "mapping")
    if not isinstance(nodes, dict) or not nodes:
        return ""
    first = next(iter(dict.values(nodes)))
    if isinstance(first, Mapping) and {"message", "parent"} <= first.keys():
        return "a mapping of messages with their parents"
    return ""


def load_tools(path: str) -> Any:
    """Return the tools of a file; exports have none."""
    return read_tools(path)


def trajectory(row: Mapping[str, Any], *, source: str, line: int, tools: Any = None) -> Trajectory:
    """Convert one row.

    Raises:
      RowError: No such tree, or a message that cannot be read.
    """
    nodes = row.get("mapping")
    if not isinstance(nodes, Mapping):
        raise RowError("'mapping' must be an object")
    read_whole(row, _NOTES)
    entries: list[Entry] = []
    for number, message in enumerate(_way(nodes, row.get("current_node"))):
        try:
            entries += _entries(message)
        except RowError as error:
            raise RowError(f"message {number}: {error}") from error
    name = str(row.get("id") or row.get("conversation_id") or "")
    found = {"id": name, "messages": entries}
    return openai.trajectory(found, source=source, line=line, tools=tools)


def _way(nodes: Mapping[str, Any], name: Any) -> list[Mapping[str, Any]]:
    """Return the messages from the root to a node, or to the last one if there is no such node."""
    if name not in nodes:
        name = list(dict.keys(nodes))[-1]  # pyright: ignore
    found, seen = [], set[Any]()
    while isinstance(name, str) and name in nodes and name not in seen:
        seen.add(name)
        node = openai_form.mapping(nodes[name], "a node")
        read_keys(node, ("children",))
        if isinstance(message := node.get("message"), Mapping):
            found.append(message)
        name = node.get("parent")
    return found[::-1]


def _entries(message: Mapping[str, Any]) -> list[Entry]:
    """Return a message as one of OpenAI's, or as none where it says nothing."""
    author = openai_form.mapping(message.get("author"), "'author'")
    content = openai_form.mapping(message.get("content"), "'content'")
    read_whole(message, _OF_A_MESSAGE)
    read_keys(author, ("metadata",))
    role, kind, recipient = (
        author.get("role"),
        content.get("content_type"),
        message.get("recipient"),
    )
    if kind in _NOTHING:
        kept(content)
        return []
    if kind == "thoughts":
        read_keys(content, ("source_analysis_msg_id",))
        thoughts = openai_form.listed(content.get("thoughts"), "'thoughts'")
        return [{"role": "thought", "content": openai_form.joined(map(_thought, thoughts))}]
    said = _said(content)
    if role == "tool":
        name = author.get("name")
        read_keys(message, ("recipient", "weight"))
        failed = True if kind == _FAILED else None
        return [openai_form.answer(said, name=name, failed=failed)]
    if role == "assistant" and recipient not in (None, "", "all"):
        call = _call(str(recipient), said)
        return [{"role": role, "content": None, "tool_calls": [call], "weight": _weight(message)}]
    if kind == "user_editable_context":
        role = "system"
    if not said:
        return []
    return [{"role": role, "content": said, "weight": _weight(message)}]


def _weight(message: Mapping[str, Any]) -> Any:
    """Return 0 for a message that is not sent to the model, which says so by its weight."""
    return 0 if message.get("weight") == 0 else None


def _call(name: str, text: Any) -> Entry:
    if isinstance(text, str) and text.lstrip().startswith("{"):
        try:
            return openai_form.call(name, load_json(text, "a call"))
        except RowError:
            pass
    return openai_form.text_call(name, text)


def _thought(thought: Any) -> str:
    if not isinstance(thought, Mapping):
        return str(thought)
    thought_keys = ("summary", "content")
    read_keys(thought, ("chunks", "finished"))
    return openai_form.joined(thought.get(key) for key in thought_keys)


def _said(content: Mapping[str, Any]) -> Any:
    """Return the text of a content, or its parts where one is no text."""
    read_keys(content, ("language", "response_format_name", "name", "url", "domain", "title"))
    if "parts" in content:
        parts = openai_form.listed(content.get("parts"), "'parts'")
        return openai_form.content([_part(part) for part in parts if part])
    return openai_form.joined(content[key] for key in _TEXTS if key in content)


def _part(part: Any) -> Entry:
    if isinstance(part, str):
        return openai_form.text(part)
    part = openai_form.mapping(part, "a part")
    if isinstance(text := part.get("text"), str):  # what was said aloud
        return openai_form.text(text)
    kind = str(part.get("content_type") or "")
    medium = next((name for name in ("image", "audio", "video") if name in kind), "file")
    return changed(part, type=medium)


def _peek(holder: Any, key: str) -> Any:
    return dict.get(holder, key) if isinstance(holder, dict) else None
