"""Import rows of Gemini: ``contents`` of ``parts`` with ``functionCall`` and ``functionResponse``.

Keys may be written with capitals or with underscores, types in capitals. A part that is marked as
``thought`` is one. Answers have the name of their tool only: they come in the order of the calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tl_jax.data.importers import openai, openai_form
from tl_jax.data.importers.openai_form import Entry
from tl_jax.data.importers.unread import changed
from tl_jax.data.trajectory import Trajectory
from tl_jax.errors import RowError

NAME = "gemini"

_ROLES = {"user": "user", "model": "assistant", "function": "tool", "system": "system"}
_SCHEMAS = ("items", "additionalProperties", "additional_properties")
_SCHEMA_LISTS = ("anyOf", "any_of")


def recognise(row: Any) -> str:
    """Return why ``row`` looks like this format, or an empty string."""
    entries = row.get("contents") if isinstance(row, Mapping) else None
    if not isinstance(entries, list) or not entries:
        return ""
    if not all(isinstance(entry, Mapping) and "parts" in entry for entry in entries):
        return ""
    return f"contents of parts{' and tools' if 'tools' in row else ''}"


def trajectory(row: Mapping[str, Any], *, source: str, line: int) -> Trajectory:
    """Convert one row.

    Raises:
      RowError: Contents or tools that cannot be read.
    """
    entries: list[Entry] = []
    system = _either(row, "systemInstruction")
    if system:
        entries.append({"role": "system", "content": _texts(system)})
    waiting: list[tuple[Any, str]] = []
    for number, message in enumerate(openai_form.listed(row.get("contents"), "'contents'")):
        try:
            found = _entries(openai_form.mapping(message, "a content"), waiting, number)
        except RowError as error:
            raise RowError(f"content {number}: {error}") from error
        entries += found
    tools = [tool for entry in _each(row.get("tools")) for tool in _tools(entry)]
    found = changed(
        row, messages=entries, tools=tools, systemInstruction=None, system_instruction=None
    )
    return openai.trajectory(found, source=source, line=line)


def _each(value: Any) -> Sequence[Any]:
    """Return the entries of a list, or what stands in place of a list of one."""
    return value if isinstance(value, list) else [value] if value is not None else []


def _either(entry: Mapping[str, Any], name: str) -> Any:
    """Return the value of a key that is written with capitals or with underscores."""
    if name in entry:
        return entry[name]
    return entry.get("".join(f"_{c.lower()}" if c.isupper() else c for c in name))


def _texts(content: Any) -> str:
    if isinstance(content, str):
        return content
    content = openai_form.mapping(content, "'systemInstruction'")
    content.get("role")
    parts = _each(content.get("parts"))
    return openai_form.joined(
        part.get("text") if isinstance(part, Mapping) else part for part in parts
    )


def _entries(
    message: Mapping[str, Any], waiting: list[tuple[Any, str]], number: int
) -> list[Entry]:
    """Return a content as messages: its answers first, then what is said.

    Args:
      message: The content.
      waiting: Name and id of the calls that have no answer yet; changed.
      number: Of the content, for ids of its calls.
    """
    said = str(message.get("role") or "user").lower()
    role = _ROLES.get(said)
    if role is None:
        raise RowError(f"unknown role {message.get('role')!r}")
    parts: list[Entry] = []
    thoughts: list[Any] = []
    calls: list[Entry] = []
    answers: list[tuple[Any, Any, Entry]] = []
    for part in _each(message.get("parts")):
        part = {"text": part} if isinstance(part, str) else openai_form.mapping(part, "a part")
        call, response = _either(part, "functionCall"), _either(part, "functionResponse")
        if isinstance(call, Mapping):
            call_id = str(call.get("id") or f"{number}.{len(calls)}")
            name = call.get("name")
            calls.append(openai_form.call(name, call.get("args") or {}, call_id))
        elif isinstance(response, Mapping):
            answers.append(_answer(response))
        elif part.get("thought") is True:
            thoughts.append(part.get("text"))
        elif isinstance(text := part.get("text"), str):
            parts.append(openai_form.text(text))
        elif isinstance(data := _either(part, "inlineData"), Mapping):
            parts.append(openai_form.image(data.get("data"), _either(data, "mimeType")))
        else:
            raise RowError(f"a part with {', '.join(part) or 'nothing in it'}, which is no text")
    found = _identified(answers, waiting)
    if calls:
        waiting[:] = [(entry["function"]["name"], entry["id"]) for entry in calls]
    if role == "tool" and not parts:
        return found
    if parts or thoughts or calls or not answers:
        more: Entry = {"role": role, "content": openai_form.content(parts)}
        if thoughts:
            more["reasoning_content"] = openai_form.joined(thoughts)
        if calls:
            more["tool_calls"] = calls
        found.append(changed(message, parts=None, **more))
    return found


def _answer(response: Mapping[str, Any]) -> tuple[Any, Any, Entry]:
    """Return name, id and message of a function's response."""
    content, name, call_id = response.get("response"), response.get("name"), response.get("id")
    failed = True if isinstance(content, Mapping) and content.get("error") else None
    content = openai_form.as_text(content)
    return name, call_id, openai_form.answer(content, call_id, name=name, failed=failed)


def _identified(
    answers: Sequence[tuple[Any, Any, Entry]], waiting: list[tuple[Any, str]]
) -> list[Entry]:
    """Return answers, each with the id of the first call of its name that has no answer yet.

    Without ids, answers to calls of one name can only be in the order of the calls.
    """
    found = []
    for name, call_id, entry in answers:
        same = [n for n, call in enumerate(waiting) if call_id in (None, call[1])]
        place = next((n for n in same if call_id or waiting[n][0] == name), None)
        if place is not None:
            entry = {**entry, "tool_call_id": waiting.pop(place)[1]}
        found.append(entry)
    return found


def _tools(tool: Any) -> list[Any]:
    if not isinstance(tool, Mapping):
        return [tool]
    declared = _either(tool, "functionDeclarations")
    if declared is None:
        return [tool] if "name" in tool else []
    return [_function(openai_form.mapping(entry, "a tool")) for entry in _each(declared)]


def _function(entry: Mapping[str, Any]) -> Entry:
    schema = _either(entry, "parametersJsonSchema")
    if schema is None:
        schema = _schema(entry.get("parameters"))
    return openai_form.function(entry.get("name"), entry.get("description"), schema)


def _schema(schema: Any) -> Any:
    """Return a schema with the names that JSON schema has for types."""
    if not isinstance(schema, Mapping):
        return schema
    more: Entry = {}
    if isinstance(kind := schema.get("type"), str):
        more["type"] = kind.lower()
    if isinstance(properties := schema.get("properties"), Mapping):
        more["properties"] = {name: _schema(inner) for name, inner in properties.items()}
    for key in _SCHEMAS:
        if isinstance(schema.get(key), Mapping):
            more[key] = _schema(schema[key])
    for key in _SCHEMA_LISTS:
        if isinstance(inner := schema.get(key), list):
            more[key] = [_schema(one) for one in inner]
    return {**schema, **more}
