"""Import rows of Glaive's function calling: a dialogue as one text, with its tools in another.

A row is ``{"system", "chat"}``. The system text has the tools, as JSON one after the other; the
chat has ``USER:``, ``ASSISTANT:`` and ``FUNCTION RESPONSE:``, and calls as
``<functioncall> {...}`` whose arguments are JSON in single quotes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from tl_jax.data.importers import openai, openai_form
from tl_jax.data.importers.json_text import load_json, load_loose_json
from tl_jax.data.importers.openai_form import Entry
from tl_jax.data.importers.unread import changed
from tl_jax.data.importers.written_calls import quoted_call
from tl_jax.data.trajectory import Trajectory
from tl_jax.errors import RowError

NAME = "glaive"

_SPEAKER = re.compile(r"^(USER|ASSISTANT|FUNCTION RESPONSE):[ \t]*", re.MULTILINE)
_CALL = "<functioncall>"
_END = "<|endoftext|>"
_ROLES = {"USER": "user", "FUNCTION RESPONSE": "tool"}


def recognise(row: Any) -> str:
    """Return why ``row`` looks like this format, or an empty string."""
    if not isinstance(row, Mapping):
        return ""
    system, chat = row.get("system"), row.get("chat")
    if isinstance(system, str) and isinstance(chat, str) and _SPEAKER.search(chat):
        return "system and chat, a text of USER and ASSISTANT"
    return ""


def trajectory(row: Mapping[str, Any], *, source: str, line: int) -> Trajectory:
    """Convert one row.

    Raises:
      RowError: Tools or a dialogue that cannot be read.
    """
    system, chat = row.get("system"), row.get("chat")
    if not isinstance(system, str) or not isinstance(chat, str):
        raise RowError("'system' and 'chat' must be texts")
    head, *pieces = _SPEAKER.split(chat)
    if head.strip():
        raise RowError("a text before the first speaker in 'chat'")
    entries = [
        _entry(speaker, text.replace(_END, "").strip())
        for speaker, text in zip(pieces[::2], pieces[1::2], strict=True)
    ]
    said, tools = _tools(system.removeprefix("SYSTEM:").strip())
    if said:
        entries.insert(0, {"role": "system", "content": said})
    found = changed(row, messages=entries, tools=tools, system=None, chat=None)
    return openai.trajectory(found, source=source, line=line)


def _entry(speaker: str, text: str) -> Entry:
    if speaker in _ROLES:
        return {"role": _ROLES[speaker], "content": text}
    said, mark, call = text.partition(_CALL)
    found: Entry = {"role": "assistant", "content": said.strip()}
    if mark:
        found["tool_calls"] = [_call(call.strip())]
    return found


def _call(text: str) -> Entry:
    if found := quoted_call(text):
        return openai_form.call(*found)
    call = load_loose_json(text, "a call")
    if not isinstance(call, Mapping):
        raise RowError(f"a call must be an object, not {type(call).__name__}")
    return openai_form.call(call.get("name"), call.get("arguments"))


def _tools(system: str) -> tuple[str, list[Any]]:
    """Return the system text without its tools, and the tools.

    The sentence before the tools is left out: templates have their own.
    """
    start = system.find("{")
    if start < 0:
        return system, []
    tools, position, decoder = [], start, json.JSONDecoder()
    while position < len(system):
        try:
            tool, position = decoder.raw_decode(system, position)
        except ValueError:
            load_json(system[position:], "a tool in 'system'")
            raise
        tools.append(tool)
        position += len(system[position:]) - len(system[position:].lstrip(" \t\r\n,"))
    return "", tools
