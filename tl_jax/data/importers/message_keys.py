"""Find the text and the calls of a message, under whatever key its source keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tl_jax.data.importers.nulls import says_nothing
from tl_jax.data.importers.unread import changed, unread_here
from tl_jax.errors import RowError

CALLS = ("tool_calls", "toolCalls", "function_calls", "functionCalls", "calls")
"""Keys of a message under which its calls may stand as a list."""
CALL = ("function_call", "functionCall", "tool_call", "toolCall")
"""Keys of a message under which one call may stand."""

_TEXTS = ("text", "message", "value")
_TEXTS_OF = {
    "system": (*_TEXTS, "system_prompt"),
    "tool": ("output", "result", "response", "observation", "tool_output", *_TEXTS),
}
_STRUCTURED = ("structuredContent", "structured_content", "structured_output")
_OF_A_RESULT = frozenset(("content", "isError", "is_error", "_meta", *_STRUCTURED))
"""Keys of a whole result of the Model Context Protocol."""
_OF_ITS_CALL = frozenset((*CALLS, *CALL, "arguments", "args", "input", "function", "origin"))
"""Keys of a result that say again which call it answers."""
# What sources note of a turn beside what is said in it.
_MEDIA = ("image", "images", "audio", "audios", "video", "videos")
_NOTES = frozenset(
    ("name", "timestamp", "created", "created_at", "time", "date", "model", "model_name",
     "provider", "finish_reason", "stop_reason", "usage", "usage_metadata", "response_metadata",
     "annotations", "logprobs", "metadata", "meta", "extra", "kind", "type", "status", "source",
     "sender", "author", "agent", "cutoff_date", "token_count", "cost", "latency", "duration",
     "additional_kwargs", "cache_control", "provider_specific_fields", "model_extra")
)  # fmt: skip


def with_content(entry: Mapping[str, Any], role: str) -> Mapping[str, Any]:
    """Return a message with its text under ``content``.

    A result keeps it also as what the Model Context Protocol returns for a call, whole or in its
    structured form alone.

    Args:
      entry: The message.
      role: ``system``, ``user``, ``tool``, or any other for the model's.
    """
    content = entry.get("content")
    if role == "tool" and isinstance(content, Mapping):
        return _unwrapped(entry, content)
    if content is not None and not (role == "tool" and content == []):
        return entry
    for key in _TEXTS_OF.get(role, _TEXTS):
        if key in entry and (isinstance(entry[key], str) or role == "tool"):
            if not says_nothing(entry[key]):
                return changed(entry, content=entry[key])
    for key in _STRUCTURED if role == "tool" else ():
        if key in entry and not says_nothing(entry[key]):
            return changed(entry, content=entry[key])
    audio = entry.get("audio")
    if isinstance(audio, Mapping) and isinstance(audio.get("transcript"), str):
        return changed(entry, content=audio["transcript"])
    return entry


def _unwrapped(entry: Mapping[str, Any], content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the message of a whole result, with its parts as content and its mark of failure."""
    parts = dict.get(content, "content") if isinstance(content, dict) else None
    if not isinstance(parts, list) or not content.keys() <= _OF_A_RESULT:
        return entry
    failed = content.get("isError", content.get("is_error"))
    inner: dict[str, Any] = {"content": content["content"]}
    if not parts:
        inner["structuredContent"] = next((content[k] for k in _STRUCTURED if k in content), None)
    if failed is not None:
        inner["isError"] = failed
    return with_content(changed(entry, **inner), "tool")


def refuse_unread(entry: Mapping[str, Any], *, containers: bool = False) -> None:
    """Refuse a message of which nothing was read if it has something to say.

    Args:
      entry: The message.
      containers: Count objects and lists only, and not those of a call, as a result may be empty
        and have notes beside it.

    Raises:
      RowError: It has; its keys are named.
    """
    unread = [
        key
        for key in unread_here(entry)
        if key not in _NOTES
        and not (containers and (key in _OF_ITS_CALL or not isinstance(entry[key], dict | list)))
    ]
    if unread:
        raise RowError(
            f"nothing is read of a turn that has {', '.join(map(repr, unread[:5]))}; put its text "
            "under 'content' and its calls under 'tool_calls'"
        )


def refuse_media(holder: Mapping[str, Any], entries: Any = None) -> None:
    """Refuse a message, or a row, with images or other media beside its texts.

    Args:
      holder: The message or row.
      entries: Of a row the messages, of which one must name the media, as ``<image>``.

    Raises:
      RowError: It has some, and only texts are trained.
    """
    for key in _MEDIA:
        if key not in holder or says_nothing(holder[key]) or holder[key] in ("", []):
            continue
        mark = f"<{key.removesuffix('s')}>"
        if entries is None or any(mark in text for text in _texts(entries)):
            raise RowError(f"{key!r} beside the text, which alone is trained")


def _texts(entries: Any) -> list[str]:
    found = [entry.get("content") for entry in entries if isinstance(entry, Mapping)]
    return [text for text in found if isinstance(text, str)]


def named(entry: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    """Return those of the keys that a message has, in order."""
    return [key for key in keys if key in entry]
