"""Typed equality of argument values."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from tl_jax.calls.call import ToolSpec

Schema = Mapping[str, Any]


def values_equal(left: Any, right: Any, type: str | Schema | None = None) -> bool:
    """Tell whether two argument values are the same value of the same type.

    A bool is no number. An int equals a float only where the declared type is ``number`` (then
    1 == 1.0). Strings are compared after Unicode normalisation (NFC), a tuple equals a list, and
    lists and dictionaries are compared item by item, by the item's own declared type. Where the
    schema offers a choice (``anyOf``, ``oneOf``), being equal under one of them is enough.

    Args:
      left: A JSON-like value.
      right: A JSON-like value.
      type: JSON-schema type name, or the JSON schema of the value; None if nothing is declared.
    """
    if isinstance(left, str) and isinstance(right, str):
        return left == right or _nfc(left) == _nfc(right)
    if isinstance(left, bool) or isinstance(right, bool) or left is None or right is None:
        return left is right
    schema: Schema = type if isinstance(type, Mapping) else {"type": type}
    choices = _choices(schema)
    if choices:
        return any(values_equal(left, right, choice) for choice in choices)
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        return left == right and (left.__class__ is right.__class__ or _is_number(schema))
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        item = _schema(schema.get("items"))
        return len(left) == len(right) and all(
            values_equal(a, b, item) for a, b in zip(left, right, strict=True)
        )
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        properties = _schema(schema.get("properties"))
        return left.keys() == right.keys() and all(
            values_equal(left[key], right[key], _schema(properties.get(key))) for key in left
        )
    return False


def differing(left: Schema, right: Schema, tool: ToolSpec | None = None) -> tuple[str, ...]:
    """Return the names, in the order of ``right``, that both mappings have with unequal values."""
    return tuple(
        name
        for name, value in right.items()
        if name in left and not values_equal(left[name], value, declared_type(tool, name))
    )


def declared_type(tool: ToolSpec | None, name: str) -> Schema | None:
    """Return the JSON schema that ``tool`` declares for parameter ``name``, or None."""
    parameter = tool.parameter(name) if tool is not None else None
    if parameter is None:
        return None
    schema = parameter.schema
    return schema if "type" in schema else {**schema, "type": parameter.type}


def _is_number(schema: Schema) -> bool:
    kind = schema.get("type")
    return kind == "number" or (isinstance(kind, (list, tuple)) and "number" in kind)


def _choices(schema: Schema) -> list[Schema]:
    found = schema.get("anyOf") or schema.get("oneOf") or ()
    found = found if isinstance(found, (list, tuple)) else ()
    return [choice for choice in found if isinstance(choice, Mapping)]


def _schema(value: Any) -> Schema:
    return value if isinstance(value, Mapping) else {}


def _nfc(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)
