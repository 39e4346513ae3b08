"""Find the parameters of a tool whose schema has them in parts, such as ``allOf``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tl_jax.calls.references import resolved

_ALL, _SOME = "allOf", ("anyOf", "oneOf")
KEYWORDS = frozenset(
    (_ALL, *_SOME, "$ref", "$id", "$comment", "patternProperties", "propertyNames", "minProperties",
     "maxProperties", "unevaluatedProperties", "dependentRequired", "if", "then", "else", "not")
)  # fmt: skip
"""Keywords of a schema that are not the names of parameters, unless what they hold has a type."""


def with_properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a schema with the properties that its parts have, if it has none of its own.

    Those of all parts of ``allOf`` are required where these say so, those of other parts are not.

    Args:
      schema: The schema of a tool's parameters.
    """
    if "properties" in schema or not KEYWORDS & schema.keys():
        return schema
    whole = resolved(schema, schema) if isinstance(schema.get("$ref"), str) else schema
    if "properties" in whole:
        return whole
    properties: dict[str, Any] = {}
    required: list[Any] = []
    for key in (_ALL, *_SOME):
        listed = whole.get(key)
        for part in listed if isinstance(listed, list) else ():
            found = resolved(part, schema) if isinstance(part, Mapping) else {}
            if isinstance(found.get("properties"), Mapping):
                properties |= found["properties"]
                names = found.get("required") if key == _ALL else None
                required += names if isinstance(names, list) else ()
    if not properties:
        return schema
    return {**whole, "properties": properties, "required": required}
