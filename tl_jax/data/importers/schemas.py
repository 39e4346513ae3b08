"""Bring tool declarations of any source into one JSON-schema form, and count every repair.

What is repaired: Python and other type names, ``required`` in the wrong place or form, properties
given as a list, as text or without the object round them, misspelt and renamed keys, names that
cannot be written in a call, and repeated tools. What JSON schema allows is left as it is.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tl_jax.calls.call import ToolSpec, declared_as, tool_from_schema
from tl_jax.data.importers.compositions import KEYWORDS, with_properties
from tl_jax.data.importers.declarations import listed
from tl_jax.data.importers.json_text import load_json
from tl_jax.data.importers.names import KEPT, writable_name
from tl_jax.data.importers.nulls import without_null_keywords
from tl_jax.data.importers.unread import read_tool
from tl_jax.errors import RowError

REPAIRS: Mapping[str, str] = {
    "type_name": "a type that is not JSON schema's, such as dict or 'str, optional', renamed",
    "unknown_type": "a type of no known name removed",
    "misspelt_description": "the key 'desciption' spelt right",
    "parameters_key": "parameters found under input_schema, inputSchema or arguments",
    "parameters_as_text": "parameters, or properties, written as JSON text, read",
    "properties_without_schema": "properties found directly under parameters",
    "properties_as_list": "properties given as a list of named entries",
    "property_as_text": "a property given as a bare type or description",
    "property_not_object": "a property that is no schema at all, left without a type",
    "required_beside_parameters": "the list 'required' found beside 'parameters'",
    "required_in_property": "true or false at each property gathered into one list",
    "required_not_list": "'required' of another kind than a list of names, read or dropped",
    "missing_required": "no 'required' where it has no place or the others are marked: all others",
    "unknown_required": "a required name that is no property, dropped",
    "renamed_tool": "a tool name that cannot be written in a call",
    "renamed_parameter": "a parameter name that cannot be written in a call",
    "kept_name": "a name that calls written as Python cannot have, kept for the other forms",
    "parameters_of_calls": "a declaration that calls which ran do not fit, made to fit them",
    "duplicate_parameter": "a second parameter of one name, dropped",
    "duplicate_tool": "a second tool of one name, dropped",
    "builtin_tool": "a tool of the service that made the row, without a declaration, left out",
    "custom_tool": "a tool that takes free text, read as a function with the parameter 'input'",
    "null_property": "a parameter declared as null, which is none of this tool, removed",
    "null_keyword": "a keyword of a schema that is null, such as enum, removed",
}
"""Every kind of repair that ``normalised_tool`` and ``normalised_tools`` count."""

_TYPES = {
    "string": ("str", "text", "char", "date", "datetime", "time", "timestamp", "url", "email",
               "uuid", "path", "bytes", "enum"),
    "integer": ("int", "long", "int32", "int64", "short"),
    "number": ("float", "double", "decimal", "complex", "numeric"),
    "boolean": ("bool",),
    "array": ("list", "tuple", "set", "sequence", "iterable", "frozenset"),
    "object": ("dict", "dictionary", "map", "mapping", "hashtable", "hashmap", "json", "struct"),
    "null": ("none", "nonetype", "void"),
    "": ("any", "mixed", "union", "optional"),
}  # fmt: skip
_TYPE_NAMES = {alias: name for name, aliases in _TYPES.items() for alias in (name, *aliases)}

_KEYWORDS = frozenset(
    ("type", "required", "optional", "title", "description", "properties", "$schema", "$defs",
     "definitions", "additionalProperties", "strict", "default", "example", "examples")
)  # fmt: skip
_DEFINITIONS = ("$defs", "definitions")
_READ_AS_GIVEN = frozenset(
    (KEPT, "type_name", "unknown_type", "required_in_property", "missing_required",
     "unknown_required", "required_beside_parameters")
)  # fmt: skip
"""Repairs after which a template still writes the declaration as its source has it: it reads the
properties where they are, and what serves the model would hand it the same."""
_SCHEMA_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SCHEMA_MAPPINGS = ("properties", "$defs", "definitions")
_LONGEST_TYPE = 200
_REPAIR_TAG = re.compile(r"[^:,]+:[0-9]{1,9}(?:,[^:,]+:[0-9]{1,9})*")
# The end of a type such as "str (optional, default: 3)"; every mark begins with a word of its own.
_OPTIONAL = re.compile(
    r"\b(?:(?:optional\b[\s,;()]*+)++(?:default\b.*+)?|default\b.*+)$", re.IGNORECASE | re.DOTALL
)
_HEAD = re.compile(r"(?:typing\.)?([A-Za-z_]\w*)\s*(?:\[(.*)\]|<(.*)>|\((.*)\))?\s*", re.DOTALL)


def normalised_tool(function: Any, repairs: Counter[str], *, keep_names: bool = False) -> ToolSpec:
    """Build a ToolSpec from one tool declaration, counting what had to be repaired.

    Args:
      function: A function object, or one under a ``"function"`` key.
      repairs: Counts by kind (a key of ``REPAIRS``); added to.
      keep_names: Leave names as they are even where not every style can write a call with them;
        see ``names.with_writable_names``.

    Raises:
      RowError: No object, no name, or parameters that cannot be read.
    """
    given, before = function, Counter(repairs)
    if isinstance(function, Mapping) and isinstance(function.get("function"), Mapping):
        function = function["function"]
    if not isinstance(function, Mapping):
        raise RowError(f"a tool must be an object, not {type(function).__name__}")
    function = _respelt(function, repairs)
    name = function.get("name")
    if not isinstance(name, str) or not name.strip():
        raise RowError("a tool needs a non-empty string 'name'")
    schema = with_properties(_parameters(name, function, repairs))
    read_tool(given)
    properties = _properties(name, schema, repairs)
    required = _required(function, schema, properties, repairs)
    rename = _unchanged if keep_names else _renamed
    clean: dict[str, Any] = {}
    for key, value in properties.items():
        written = rename(key, "renamed_parameter", repairs)
        if written in clean:
            repairs["duplicate_parameter"] += 1
            continue
        clean[written] = _clean_schema(value, repairs)
    kept = {key: schema[key] for key in _DEFINITIONS if isinstance(schema.get(key), Mapping)}
    written = {
        "name": rename(name, "renamed_tool", repairs),
        "description": function.get("description"),
        "parameters": {
            **_clean_schema(kept, repairs),
            "properties": clean,
            "required": [rename(key, "renamed_parameter", Counter()) for key in required],
        },
    }
    tool = tool_from_schema(written)
    as_given = (repairs - before).keys() <= _READ_AS_GIVEN
    return declared_as(tool, given) if as_given else dataclasses.replace(tool, declared=None)


def normalised_tools(
    declared: Any, repairs: Counter[str], *, table: bool = False, keep_names: bool = False
) -> tuple[ToolSpec, ...]:
    """Build the tools of one row: a list of declarations, JSON text of one, or nothing.

    Args:
      declared: As found, see ``declarations.listed``; None and blank text mean no tools.
      repairs: Counts by kind, as for ``normalised_tool``.
      table: Whether the row is one of a table, which fills declarations with nulls.
      keep_names: As for ``normalised_tool``.

    Raises:
      RowError: Neither a list nor the JSON text of one, or a tool that cannot be read.
    """
    entries = without_null_keywords(listed(declared, repairs), repairs, table=table)
    tools = (normalised_tool(entry, repairs, keep_names=keep_names) for entry in entries)
    return without_repeats(tools, repairs)


def declared_tool(name: str, description: str, /, **parameters: tuple[str, str]) -> ToolSpec:
    """Return a tool that a source offered without declaring it, all its parameters required.

    Args:
      name: Its name.
      description: What it does.
      **parameters: Type and description by name.
    """
    properties = {key: {"type": t, "description": d} for key, (t, d) in parameters.items()}
    schema = {"properties": properties, "required": list(properties)}
    return tool_from_schema({"name": name, "description": description, "parameters": schema})


def without_repeats(tools: Iterable[ToolSpec], repairs: Counter[str]) -> tuple[ToolSpec, ...]:
    """Return the first tool of every name, in order, counting the others."""
    kept: dict[str, ToolSpec] = {}
    for tool in tools:
        repairs["duplicate_tool"] += tool.name in kept
        kept.setdefault(tool.name, tool)
    return tuple(kept.values())


def repair_tags(repairs: Counter[str]) -> dict[str, str]:
    """Return the tag that records the repairs of a row's tools: ``kind:count,...``, or {}."""
    found = ",".join(f"{kind}:{count}" for kind, count in sorted(repairs.items()) if count)
    return {"repairs": found} if found else {}


def repair_counts(tags: Mapping[str, Any]) -> Counter[str]:
    """Return the repairs that the tag of ``repair_tags`` records.

    Raises:
      RowError: The tag says something else.
    """
    text = tags.get("repairs", "")
    if not isinstance(text, str) or (text and not _REPAIR_TAG.fullmatch(text)):
        raise RowError("the tag 'repairs' must be 'kind:count,...', counts of schema repairs")
    pairs = (entry.split(":") for entry in text.split(",") if entry)
    return Counter({kind: int(count) for kind, count in pairs})


def _renamed(name: str, kind: str, repairs: Counter[str]) -> str:
    written = writable_name(name)
    if not written:
        raise RowError("a tool or parameter without a name")
    repairs[kind] += written != name
    return written


def _unchanged(name: str, kind: str, repairs: Counter[str]) -> str:
    repairs[KEPT] += writable_name(name) != name
    return name


def _respelt(value: Mapping[str, Any], repairs: Counter[str]) -> Mapping[str, Any]:
    if "desciption" not in value:
        return value
    value = dict(value)
    value.setdefault("description", value.pop("desciption"))
    repairs["misspelt_description"] += 1
    return value


def _parameters(name: str, function: Mapping[str, Any], repairs: Counter[str]) -> Any:
    schema = function.get("parameters")
    if schema is None:
        for key in ("input_schema", "inputSchema", "arguments"):
            if isinstance(function.get(key), Mapping):
                schema = function[key]
                repairs["parameters_key"] += 1
                break
    if isinstance(schema, str) and schema.strip():
        schema = load_json(schema, f"tool {name}: 'parameters'")
        repairs["parameters_as_text"] += 1
    if not schema:
        return {}
    if isinstance(schema, list):
        return {"properties": schema}
    if not isinstance(schema, Mapping):
        raise RowError(f"tool {name}: 'parameters' must be an object")
    return schema


def _properties(name: str, schema: Mapping[str, Any], repairs: Counter[str]) -> dict[str, Any]:
    found = schema.get("properties")
    if "properties" not in schema:
        # ``type`` and its like may be parameters themselves, but then they are schemas.
        found = {
            key: value
            for key, value in schema.items()
            if key not in _KEYWORDS | KEYWORDS
            or (isinstance(value, Mapping) and ("type" in value or "description" in value))
        }
        repairs["properties_without_schema"] += bool(found)
    if isinstance(found, str) and found.strip():
        found = load_json(found, f"tool {name}: 'properties'")
        repairs["parameters_as_text"] += 1
    if isinstance(found, list):
        repairs["properties_as_list"] += bool(found)
        named = {}
        for entry in found:
            key = entry.get("name") if isinstance(entry, Mapping) else None
            if not isinstance(key, str):
                raise RowError(f"tool {name}: a listed parameter has no name")
            repairs["duplicate_parameter"] += key in named
            named.setdefault(key, {k: v for k, v in entry.items() if k != "name"})
        found = named
    if not found:
        return {}
    if not isinstance(found, Mapping):
        raise RowError(f"tool {name}: 'properties' must be an object")
    return {key: _property(value, repairs) for key, value in found.items()}


def _property(value: Any, repairs: Counter[str]) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return _respelt(value, repairs)
    if isinstance(value, str):
        repairs["property_as_text"] += 1
        return {"type" if _json_type(value) is not None else "description": value}
    # ``true`` is a schema that takes anything.
    repairs["property_not_object"] += value is not None and value is not True
    return {}


def _required(
    function: Mapping[str, Any],
    schema: Mapping[str, Any],
    properties: Mapping[str, Mapping[str, Any]],
    repairs: Counter[str],
) -> list[str]:
    """Return the names of the required properties, wherever the source says so."""
    named = _names(schema.get("required"), repairs)
    if not named and (beside := _names(function.get("required"), repairs)):
        repairs["required_beside_parameters"] += 1
        named = beside
    marks = {k: v["required"] for k, v in properties.items() if _is_mark(v.get("required"))}
    if marks:
        repairs["required_in_property"] += 1
        named = [*(named or ()), *(key for key, mark in marks.items() if _true(mark))]
    bare = bool(properties) and "properties" not in schema
    if named is None and (bare or any(_says_optional(value) for value in properties.values())):
        repairs["missing_required"] += 1
        named = [
            key
            for key, value in properties.items()
            if not _says_optional(value) and "default" not in value
        ]
    known = list(dict.fromkeys(key for key in named or () if key in properties))
    repairs["unknown_required"] += len(set(named or ()) - set(known))
    return known


def _names(value: Any, repairs: Counter[str]) -> list[str] | None:
    if value is None:
        return None
    if isinstance(value, list) and all(isinstance(key, str) for key in value):
        return value
    repairs["required_not_list"] += 1
    return [value] if isinstance(value, str) else None


def _is_mark(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, str) and value.lower() in _MARKS)


_MARKS = {"true": True, "yes": True, "false": False, "no": False}


def _true(mark: bool | str) -> bool:
    return _MARKS[mark.lower()] if isinstance(mark, str) else mark


def _says_optional(value: Mapping[str, Any]) -> bool:
    kind = value.get("type")
    if not isinstance(kind, str) or len(kind) > _LONGEST_TYPE:
        return False
    return bool(_OPTIONAL.search(kind)) or kind.lstrip().lower().startswith("optional[")


def _clean_schema(value: Any, repairs: Counter[str]) -> dict[str, Any]:
    """Return a schema with JSON type names throughout and without marks of being required."""
    clean = dict(_respelt(value, repairs))
    if _is_mark(clean.get("required")):
        del clean["required"]
    kind = clean.get("type")
    if isinstance(kind, str):
        found = _json_type(kind)
        if found != kind:
            repairs["unknown_type" if found is None else "type_name"] += 1
            del clean["type"]
            clean = {**({"type": found} if found else {}), **clean}
            if found == "array" and "items" not in clean and (item := _item_type(kind)):
                clean["items"] = {"type": item}
    elif isinstance(kind, list):
        names = [_json_type(name) if isinstance(name, str) else None for name in kind]
        if names != kind:
            repairs["type_name"] += 1
            del clean["type"]
            if known := [name for name in names if name]:
                clean = {"type": known, **clean}
    for key in _SCHEMA_LISTS:
        if isinstance(clean.get(key), list):
            clean[key] = [_inner(entry, repairs) for entry in clean[key]]
    for key in _SCHEMA_MAPPINGS:
        if isinstance(clean.get(key), Mapping):
            clean[key] = {k: _inner(entry, repairs) for k, entry in clean[key].items()}
    for key in ("items", "additionalProperties"):
        if key in clean:
            clean[key] = _inner(clean[key], repairs)
    return clean


def _inner(value: Any, repairs: Counter[str]) -> Any:
    return _clean_schema(value, repairs) if isinstance(value, Mapping) else value


def _json_type(kind: str) -> str | None:
    """Return the JSON-schema name of a type, ``""`` for any type, None for no known type."""
    head, inner = _split_type(kind)
    if head == "optional" and inner:
        return _json_type(inner)
    return _TYPE_NAMES.get(head)


def _item_type(kind: str) -> str | None:
    """Return the JSON-schema name of the elements of a type such as ``List[int]``, if known."""
    head, inner = _split_type(kind)
    if head == "optional":
        return _item_type(inner)
    return (_json_type(inner.split(",")[0]) or None) if inner else None


def _split_type(kind: str) -> tuple[str, str]:
    """Return the lower-case name of a type and what stands in its brackets."""
    if len(kind) > _LONGEST_TYPE:
        return "?", ""
    mark = _OPTIONAL.search(kind)
    bare = kind[: mark.start()].rstrip(" \t\r\n,;(") if mark else kind
    match = _HEAD.fullmatch(bare.strip() or kind)
    if match is None:
        return "?", ""
    return match[1].lower(), next((group for group in match.groups()[1:] if group), "")
