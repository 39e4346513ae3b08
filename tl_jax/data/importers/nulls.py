"""Undo what table formats do to nested data: every object gets the keys of all others, as null.

A row of such a format shows it: all its messages have the same keys. There a null says nothing. In
any other row a null argument stays where the schema of its tool allows one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from tl_jax.calls.call import ToolSpec
from tl_jax.data.importers.unread import Watched

_VALUES = frozenset(("default", "const", "example"))
"""Keywords whose null is a value of its own."""
_OF_EVERY_MESSAGE = ("content",)


def is_table(entries: Any) -> bool:
    """Return whether messages come from a table: all have the same keys, and fill some with null.

    Nothing of them counts as read.
    """
    if not isinstance(entries, list) or len(entries) < 2:
        return False
    if not all(isinstance(entry, dict) for entry in entries):
        return False
    keys = dict.keys(entries[0])
    if any(dict.keys(entry) != keys for entry in entries[1:]):
        return False
    return any(
        value is None
        for entry in entries
        for key, value in dict.items(entry)
        if key not in _OF_EVERY_MESSAGE
    )


def says_nothing(value: Any) -> bool:
    """Return whether a value is null, or an object or list of nothing else; nothing is read."""
    if isinstance(value, dict):
        return all(map(says_nothing, dict.values(value)))
    return value is None


def without_null_arguments(
    arguments: Mapping[str, Any], tool: ToolSpec | None, *, table: bool, repairs: Counter[str]
) -> Mapping[str, Any]:
    """Return the arguments of a call without nulls that its source did not mean.

    Args:
      arguments: As found in the row.
      tool: The tool, if it is declared.
      table: Whether the row is one of a table, see ``is_table``.
      repairs: Counts by kind; ``null_argument`` is added to.
    """
    properties = None
    if tool is not None and tool.parameters:
        properties = {parameter.name: parameter.schema for parameter in tool.parameters}
    return _object(arguments, properties, _others(_parameters(tool)), table, repairs)


def _parameters(tool: ToolSpec | None) -> Any:
    """Return the schema of a tool's parameters as its source declares it, if it does."""
    entry = tool.declared.entry if tool is not None and tool.declared is not None else {}
    inner = entry.get("function")
    return (inner if isinstance(inner, Mapping) else entry).get("parameters")


def _others(schema: Any) -> Any:
    """Return what a schema takes beside its properties: a schema, or False if it does not say."""
    found = schema.get("additionalProperties") if isinstance(schema, Mapping) else False
    return found if isinstance(found, Mapping) or found is True else False


def _object(
    value: Mapping[str, Any],
    properties: Mapping[str, Any] | None,
    others: Any,
    table: bool,
    repairs: Counter[str],
) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    for key, inner in value.items():
        schema = None if properties is None else properties.get(key.strip(), others)
        if inner is None:
            if table or (schema is not None and not _allows_null(schema)):
                repairs["null_argument"] += 1
                continue
        elif isinstance(inner, dict | list):
            left = _value(inner, schema, table, repairs)
            if table and left == {} and inner:
                continue  # an object that was absent, filled with nulls
            inner = left
        found[key] = inner
    return found if len(found) < len(value) or _changed(found, value) else value


def _value(value: Any, schema: Any, table: bool, repairs: Counter[str]) -> Any:
    schema = schema if isinstance(schema, Mapping) else {}
    if isinstance(value, Mapping):
        properties = schema.get("properties")
        properties = properties if isinstance(properties, Mapping) else None
        return _object(value, properties, _others(schema), table, repairs)
    if isinstance(value, list):
        items = schema.get("items")
        found = [_value(inner, items, table, repairs) for inner in value]
        same = all(one is other for one, other in zip(found, value, strict=True))
        return value if same else found
    return value


def _changed(found: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    return any(inner is not value[key] for key, inner in found.items())


def _allows_null(schema: Any) -> bool:
    """Whether a schema takes null; one that says nothing of types takes everything."""
    if not isinstance(schema, Mapping):
        return schema is not False
    if schema.get("nullable") is True or "default" in schema and schema["default"] is None:
        return True
    if isinstance(values := schema.get("enum"), list):
        return None in values
    kind = schema.get("type")
    if isinstance(kind, str):
        return kind == "null"
    if isinstance(kind, list):
        return "null" in kind
    for key in ("anyOf", "oneOf"):
        if isinstance(branches := schema.get(key), list):
            return any(map(_allows_null, branches))
    return True


def without_null_keywords(declared: Any, repairs: Counter[str], *, table: bool = False) -> Any:
    """Return tool declarations without the nulls that a table fills in.

    Args:
      declared: A declaration, or anything that holds some.
      repairs: Counts by kind; ``null_property`` and ``null_keyword`` are added to.
      table: Whether they stand in a row of a table, where ``"default": null`` says nothing, too.
    """
    if not table and not _filled(declared, False):
        return declared
    return _schema(declared, repairs, table, False)


def _filled(value: Any, properties: bool) -> bool:
    """Whether a parameter, or the values of one, are declared as null, as only tables do."""
    if isinstance(value, list):
        return any(_filled(inner, False) for inner in value)
    if not isinstance(value, dict):
        return False
    return any(
        (inner is None and (properties or key == "enum"))
        or _filled(inner, key == "properties" and not properties)
        for key, inner in dict.items(value)
    )


def _schema(value: Any, repairs: Counter[str], table: bool, properties: bool) -> Any:
    """Clean a part of a declaration; ``properties`` says that its keys are parameters."""
    if isinstance(value, list):
        found = [_schema(inner, repairs, table, False) for inner in value]
        same = all(one is other for one, other in zip(found, value, strict=True))
        return value if same else found
    if not isinstance(value, dict):
        return value
    clean: dict[str, Any] = {}
    for key, inner in dict.items(value):
        if inner is None and (properties or table or key not in _VALUES):
            repairs["null_property" if properties else "null_keyword"] += 1
            continue
        clean[key] = inner
        if key not in _VALUES or properties:
            clean[key] = _schema(inner, repairs, table, key == "properties" and not properties)
    same = len(clean) == len(value) and all(inner is clean[key] for key, inner in dict.items(value))
    if same:
        return value
    return value.like(clean) if isinstance(value, Watched) else clean
