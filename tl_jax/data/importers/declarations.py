"""Find the tools and the system text of a row, under whatever key its source keeps them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from tl_jax.data.importers.api_lists import declared_apis
from tl_jax.data.importers.json_text import load_json
from tl_jax.data.importers.unread import changed, decoded, read_keys, read_tool
from tl_jax.errors import RowError

KEYS = (
    "tools", "functions", "available_tools", "function_schemas", "tool_schemas", "tools_schema",
    "available_functions", "function_list", "tool_list", "tool_definitions", "function_definitions",
    "functions_schema", "tools_json", "tool_specs", "tool_defs", "oai_tools", "openai_tools",
    "tool_specifications", "tool_declarations", "function_declarations", "functionDeclarations",
    "functions_json", "function_descriptions", "tools_str", "tools_text", "candidate_tools",
    "xml_tools",
)  # fmt: skip
"""Keys of a row under which its tools may stand; the first two are the common ones."""
LIKELY_KEYS = (
    "api_list", "apis", "available_apis", "functions_list", "tools_list", "tool_schema",
    "tools_available",
    "mcp_tools", "tool_descriptions", "toolset", "toolsets", "toolConfig", "tool_config", "actions",
    "available_actions", "callable_functions", "function", "tool", "tool_set", "toolSpecs",
    "functions_available", "tool_description", "function_description", "tool_candidates",
    "all_tools", "tool_info",
)  # fmt: skip
"""Keys of a row under which there are tools where what stands there declares some."""
BESIDE = (
    "chat_template_kwargs", "metadata", "extra", "extra_body", "extra_info", "kwargs", "request",
    "info", "context", "config", "body", "payload", "optional_params", "invocation_params",
    "model_parameters", "modelParameters", "model_params", "parameters", "settings", "inputs",
)  # fmt: skip
"""Keys of a row whose object may hold its tools."""
SYSTEM_KEYS = (
    "system", "system_prompt", "instructions", "system_message", "system_instruction",
    "sys_prompt", "developer",
)  # fmt: skip
"""Keys of a row under which its system text may stand."""

_COMMON = KEYS[:2]
_WRAPPERS = ("functions", "tools", "function_declarations", "functionDeclarations")
_OF_A_TOOL = frozenset(("description", "parameters", "input_schema", "inputSchema"))
_SCHEMAS = _OF_A_TOOL - {"description"}
TEXT_PARAMETER = "input"
"""The parameter of a tool that takes a free text in place of arguments."""
_TEXT_TOOL = {
    "type": "object",
    "properties": {TEXT_PARAMETER: {"type": "string"}},
    "required": [TEXT_PARAMETER],
}
_TOOL_ROLES = ("tools", "available_tools", "tool_list", "tool_declare", "tool_declaration")
_SYSTEM_ROLES = ("system", "developer")
_DECLARING_ROLES = (*_SYSTEM_ROLES, "user", "human")


def declared_tools(row: Mapping[str, Any], entries: Any) -> Any:
    """Return the tool declarations of a row as they are there, or None if it has none.

    They stand under one of ``KEYS`` or, where it declares some, ``LIKELY_KEYS``, in one of the
    objects ``BESIDE``, on a message of the system or the user, or in a message of their own.
    ``tools`` and ``functions`` of the row itself go before all others.

    Args:
      row: The row.
      entries: Its messages.

    Raises:
      RowError: Other tools in one place than in another, or text that is no JSON.
    """
    for key in _COMMON:
        if _holds(row, key):
            return _read(row, key)
    places = [(row, key) for key in KEYS[2:]]
    places += [(row, key) for key in LIKELY_KEYS if _declares(_peek(row, key))]
    places += [
        (holder, key)
        for outer in BESIDE
        if (holder := _beside(row, outer)) is not None
        for key in KEYS
        if _holds(holder, key)
    ]
    if isinstance(entries, list):
        places += [
            (entry, key)
            for entry in entries
            if isinstance(entry, Mapping) and _peek(entry, "role") in _DECLARING_ROLES
            for key in KEYS
        ]
        places += [(entry, "content") for entry in entries if _is_declaring(entry)]
    if not any(_holds(holder, key) for holder, key in places):
        # ToolBench's declarations, in whose place others are better.
        return declared_apis(row, entries)
    found = [(holder, key, _peek(holder, key)) for holder, key in places if _holds(holder, key)]
    if any(value != found[0][2] for *_, value in found):
        keys = ", ".join(dict.fromkeys(key for _, key, _ in found))
        raise RowError(f"different tools in several places ({keys}); put them under 'tools'")
    return [_read(holder, key) for holder, key, _ in found][0]


def with_system(row: Mapping[str, Any], entries: Any) -> Any:
    """Return the messages of a row with the system text that it keeps outside them in front.

    A text that its first message has as well is not repeated, and a system message that has none,
    but tools, is left out.
    """
    if not isinstance(entries, list):
        return entries
    for entry in filter(_is_declaring, entries):
        read_keys(entry, ("role",))
    entries = [entry for entry in entries if not _is_declaring(entry)]
    texts: list[Any] = []
    for key in SYSTEM_KEYS:
        value = _peek(row, key)
        if value and isinstance(value, str | list) and row[key] not in texts:
            texts.append(value)
    first = entries[0] if entries and isinstance(entries[0], Mapping) else {}
    if _peek(first, "role") in _SYSTEM_ROLES:
        if not _peek(first, "content") and any(_holds(first, key) for key in KEYS):
            entries = entries[1:]  # a message that only declares tools
        texts = [text for text in texts if text != _peek(first, "content")]
    return [*({"role": "system", "content": text} for text in texts), *entries]


def listed(declared: Any, repairs: Counter[str]) -> list[Any]:
    """Return tool declarations as a list: of a list, JSON text, an object round them, or nothing.

    Args:
      declared: As found; None and blank text mean no tools.
      repairs: Counts by kind; ``builtin_tool`` is added to.

    Raises:
      RowError: Neither a list nor the JSON text of one.
    """
    if isinstance(declared, str):
        declared = load_json(declared, "the tool list") if declared.strip() else None
    if declared is None:
        return []
    if isinstance(declared, Mapping):
        declared = _unwrapped(declared)
    if not isinstance(declared, list):
        raise RowError(f"the tools must be a list, not {type(declared).__name__}")
    found: list[Any] = []
    for entry in declared:
        if isinstance(entry, str) and entry.lstrip().startswith("{"):
            entry = load_json(entry, "a tool")
        if not isinstance(entry, Mapping):
            found.append(entry)
        elif (inner := _wrapped(entry)) is not None:
            found += inner
        elif (text_tool := _text_tool(entry)) is not None:
            repairs["custom_tool"] += 1
            found.append(text_tool)
        elif isinstance(_peek(entry, "toolSpec"), Mapping):
            found.append(_of_converse(entry["toolSpec"]))
        elif _is_builtin(entry):
            read_keys(entry, ("type",))
            repairs["builtin_tool"] += 1
        else:
            found.append(_with_function(entry))
    return found


def _unwrapped(declared: Mapping[str, Any]) -> list[Any]:
    """Return the tools of an object: one tool, a list under a key, or schemas by name."""
    if (inner := _wrapped(declared)) is not None:
        return inner
    values = [value for _, value in _items(declared)]
    named = bool(values) and all(
        isinstance(value, Mapping) and _OF_A_TOOL & _keys(value) for value in values
    )
    if "name" in declared or "function" in declared or not named:
        return [declared]
    return [{"name": name, **value} for name, value in declared.items()]


def _wrapped(entry: Mapping[str, Any]) -> list[Any] | None:
    if "name" in entry:
        return None
    key = next((key for key in _WRAPPERS if isinstance(_peek(entry, key), list)), None)
    return None if key is None else entry[key]


def _text_tool(entry: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return a tool that takes free text as a function with that parameter; None for others.

    The grammar that such a text may have is not read.
    """
    inner = _peek(entry, "custom")
    if not isinstance(inner, Mapping):
        inner = entry if _peek(entry, "type") == "custom" and not _SCHEMAS & _keys(entry) else {}
    if not isinstance(_peek(inner, "name"), str):
        return None
    read_keys(entry, ("type", "custom"))
    if isinstance(form := inner.get("format"), Mapping):
        read_keys(form, ("type",))
    described = {"name": inner["name"], "description": inner.get("description")}
    kept = {key: value for key, value in described.items() if value is not None}
    return {"type": "function", "function": {**kept, "parameters": _TEXT_TOOL}}


def _of_converse(specification: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a tool of Bedrock's Converse as a function."""
    schema = specification.get("inputSchema")
    schema = schema.get("json") if isinstance(schema, Mapping) else schema
    found = {"name": specification.get("name"), "description": specification.get("description")}
    if schema is not None:
        found["parameters"] = schema
        read_tool(changed(specification, parameters=schema))
    return {key: value for key, value in found.items() if value is not None}


def _is_declaring(entry: Any) -> bool:
    """Whether a message does nothing but declare tools."""
    role = _peek(entry, "role")
    return isinstance(role, str) and role.lower() in _TOOL_ROLES and _holds(entry, "content")


def _beside(row: Mapping[str, Any], key: str) -> Mapping[str, Any] | None:
    """Return the object under a key of a row, or in the JSON text there, if it may hold tools."""
    value = _peek(row, key)
    if isinstance(value, str):
        if not value.lstrip().startswith("{") or "tools" not in value and "functions" not in value:
            return None
        try:
            value = decoded(row, key, lambda text: load_json(text, repr(key)))
        except RowError:
            return None
        return value if any(_holds(value, name) for name in KEYS) else None
    return row[key] if isinstance(value, Mapping) else None


def _declares(value: Any) -> bool:
    """Whether a value is a declaration of a tool, or holds some; reads nothing."""
    if isinstance(value, str):
        return value.lstrip().startswith(("[{", "{")) and '"parameters"' in value
    if isinstance(value, list):
        return bool(value) and all(map(_declares, value))
    if not isinstance(value, dict):
        return False
    for key in ("function", "toolSpec", "custom"):
        if isinstance(inner := dict.get(value, key), dict):
            value = inner
    if isinstance(dict.get(value, "name"), str):
        return bool(_OF_A_TOOL & _keys(value))
    return any(_declares(dict.get(value, key)) for key in _WRAPPERS)


def _is_builtin(entry: Mapping[str, Any]) -> bool:
    """Whether a tool is one of the service that made the row, which declares only its kind."""
    kind = _peek(entry, "type")
    return isinstance(kind, str) and kind != "function" and not {"name", "function"} & _keys(entry)


def _with_function(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    function = _peek(entry, "function")
    if isinstance(function, str) and function.lstrip().startswith("{"):
        inner = decoded(entry, "function", lambda text: load_json(text, "a tool"))
        return changed(entry, function=inner)
    return entry


def _read(holder: Mapping[str, Any], key: str) -> Any:
    return decoded(holder, key, lambda text: load_json(text, "the tool list"))


def _holds(holder: Any, key: str) -> bool:
    """Whether a key of an object has something that can be tools; reads nothing."""
    value = _peek(holder, key)
    if isinstance(value, str):
        return value.lstrip().startswith(("[", "{"))
    return bool(value) and isinstance(value, list | dict)


def _peek(holder: Any, key: str) -> Any:
    return dict.get(holder, key) if isinstance(holder, dict) else None


def _items(value: Mapping[str, Any]) -> Any:
    return dict.items(value) if isinstance(value, dict) else value.items()


def _keys(value: Mapping[str, Any]) -> set[str]:
    return set(dict.keys(value) if isinstance(value, dict) else value)
