"""Write what rows of other vendors hold as OpenAI's chat messages, which ``openai`` reads.

An importer of another form only says what is what; ids, failures, weights, thoughts and texts that
hold calls are then read in one place.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from tl_jax.errors import RowError

Entry = dict[str, Any]
"""A message, call, tool or part of a content."""


def call(name: Any, arguments: Any, call_id: Any = None) -> Entry:
    """Return a call; the arguments may be an object or its JSON text."""
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def text_call(name: Any, text: Any, call_id: Any = None) -> Entry:
    """Return a call of a tool that takes free text."""
    return {"id": call_id, "type": "custom", "custom": {"name": name, "input": text}}


def answer(content: Any, call_id: Any = None, *, name: Any = None, failed: Any = None) -> Entry:
    """Return the result of a call.

    Args:
      content: Text, a list of parts, or any JSON value.
      call_id: Id of the call it answers, if it has one.
      name: The tool's name, if that is all that tells which call it answers.
      failed: Whether the call failed, or None if nothing says so.
    """
    entry = {"role": "tool", "tool_call_id": call_id, "name": name, "is_error": failed}
    return {"content": content, **{key: value for key, value in entry.items() if value is not None}}


def function(name: Any, description: Any, parameters: Any, **more: Any) -> Entry:
    """Return the declaration of a tool, with what there is of its description and parameters."""
    found = {"name": name, "description": description, "parameters": parameters, **more}
    return {key: value for key, value in found.items() if value is not None}


def image(data: Any = None, kind: Any = "", url: Any = None) -> Entry:
    """Return a part of a content that holds an image, as data in base64 or by its address."""
    return {"type": "image_url", "image_url": {"url": url or f"data:{kind};base64,{data}"}}


def listed(value: Any, what: str) -> list[Any]:
    """Return a list, or nothing where there is none.

    Raises:
      RowError: Something else.
    """
    if value is not None and not isinstance(value, list):
        raise RowError(f"{what} must be a list, not {type(value).__name__}")
    return value or []


def mapping(value: Any, what: str) -> Mapping[str, Any]:
    """Return an object.

    Raises:
      RowError: Something else.
    """
    if not isinstance(value, Mapping):
        raise RowError(f"{what} must be an object, not {type(value).__name__}")
    return value


def joined(texts: Iterable[Any]) -> str:
    """Return texts as one, without empty ones."""
    return "\n".join(text for text in texts if isinstance(text, str) and text)


def content(parts: list[Entry]) -> Any:
    """Return parts as one text where they are nothing else, as a list of parts otherwise."""
    if all(part.get("type") == "text" for part in parts):
        return joined(part["text"] for part in parts)
    return parts


def text(value: str) -> Entry:
    """Return a part of a content that is text."""
    return {"type": "text", "text": value}


def as_text(value: Any) -> str:
    """Return a JSON value as text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
