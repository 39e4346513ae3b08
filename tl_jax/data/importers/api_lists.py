"""Read the APIs that rows in the manner of ToolBench declare under ``api_list``.

An API has the name of its tool and its own; calls name both, as ``current_for_weather``, or the API
alone. Which it is in a row, its calls say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tl_jax.data.importers.unread import read_keys
from tl_jax.errors import RowError

_KEYS = ("api_list", "apis", "available_apis", "relevant_apis")
_PARAMETERS = (("required_parameters", True), ("optional_parameters", False))
_KNOWN = ("category_name", "method", "template_response", "api_url", "url", "id")
_LONGEST_NAME = 64
_NOT_IN_NAMES = re.compile(r"[^0-9a-z]+")


def declared_apis(row: Mapping[str, Any], entries: Any) -> list[dict[str, Any]] | None:
    """Return the APIs of a row as declarations of tools, or None if it has none.

    Args:
      row: The row.
      entries: Its messages, whose calls say how the tools are named.

    Raises:
      RowError: A parameter without a name.
    """
    key = next((key for key in _KEYS if _is_api_list(_peek(row, key))), None)
    if key is None:
        return None
    apis = row[key]
    called = _called(entries)
    found = []
    for api in apis:
        names = _names(api)
        read_keys(api, _KNOWN)
        chosen = next((name for name in names if name in called), "")
        found.append((names, chosen, api))
    forms = {names.index(chosen) for names, chosen, _ in found if chosen}
    form = min(forms) if forms else 0
    return [_declaration(chosen or names[form], api) for names, chosen, api in found]


def _is_api_list(value: Any) -> bool:
    return isinstance(value, list) and any(_peek(entry, "api_name") for entry in value)


def _names(api: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return what calls may name an API: with its tool, alone, and as it is written."""
    written, tool = str(api.get("api_name")), str(api.get("tool_name") or "")
    alone = _standard(written)
    whole = f"{alone}_for_{_standard(tool)}"[-_LONGEST_NAME:] if tool else alone
    return whole, alone, written


def _standard(name: str) -> str:
    return _NOT_IN_NAMES.sub("_", name.lower()).strip("_")


def _declaration(name: str, api: Mapping[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    required = []
    for key, needed in _PARAMETERS:
        for entry in api.get(key) or ():
            parameter = entry.get("name") if isinstance(entry, Mapping) else None
            if not isinstance(parameter, str):
                raise RowError(f"a parameter of the API {name} has no name")
            kind = str(entry.get("type") or "string").lower()
            schema = {"type": "string" if kind == "enum" else kind}
            if text := entry.get("description"):
                schema["description"] = text
            if entry.get("default") not in (None, ""):
                schema["default"] = entry["default"]
            properties[parameter] = schema
            required += [parameter] if needed else []
    texts = (api.get("api_description"), api.get("tool_description"))
    return {
        "name": name,
        "description": next((text for text in texts if isinstance(text, str) and text), ""),
        "parameters": {"type": "object", "properties": properties, "required": required},
    }


def _called(entries: Any) -> set[str]:
    """Return the names that the calls of a dialogue have; nothing of it counts as read."""
    found: set[str] = set()
    for entry in entries if isinstance(entries, list) else ():
        calls: Sequence[Any] = _peek(entry, "tool_calls") or ()
        single = _peek(entry, "function_call")
        for call in [*(calls if isinstance(calls, list) else ()), single]:
            name = _peek(_peek(call, "function") or call, "name")
            if isinstance(name, str):
                found.add(name)
    return found


def _peek(holder: Any, key: str) -> Any:
    return dict.get(holder, key) if isinstance(holder, dict) else None
