"""Local references of a JSON schema (``$ref``), put in place.

A tool's parameter is used apart from the schema of the whole tool, where its definitions stand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_MOST_PARTS, _DEEPEST = 20_000, 40
"""Parts of a resolved schema and references inside each other; such definitions may multiply."""


def resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema with what its local references stand for.

    A reference inside the definition that it names (a tree), one that leads nowhere, and those
    beyond a limit of size are left out: such a part may be anything.

    Args:
      schema: The schema.
      root: The schema that references such as ``#/$defs/Person`` begin at.
    """
    return _Resolver(root).of(schema, ())


class _Resolver:
    def __init__(self, root: Mapping[str, Any]):
        self._root = root
        self._left = _MOST_PARTS

    def of(self, schema: Mapping[str, Any], inside: tuple[str, ...]) -> dict[str, Any]:
        reference = schema.get("$ref")
        parts = {key: value for key, value in schema.items() if key != "$ref"}
        if not isinstance(reference, str):
            return {key: self._value(value, inside) for key, value in schema.items()}
        known = reference in inside or len(inside) == _DEEPEST
        found = {} if known else self._at(reference)
        # What stands beside a reference, such as a description, is said of this place.
        return {
            **self.of(found, (*inside, reference)),
            **{key: self._value(value, inside) for key, value in parts.items()},
        }

    def _value(self, value: Any, inside: tuple[str, ...]) -> Any:
        if isinstance(value, Mapping):
            self._left -= 1
            return self.of(value, inside) if self._left > 0 else {}
        if isinstance(value, Sequence) and not isinstance(value, str):
            return [self._value(item, inside) for item in value]
        return value

    def _at(self, reference: str) -> Mapping[str, Any]:
        if reference != "#" and not reference.startswith("#/"):
            return {}
        place: Any = self._root
        for key in reference.split("/")[1:]:
            key = key.replace("~1", "/").replace("~0", "~")
            place = place.get(key) if isinstance(place, Mapping) else None
        return place if isinstance(place, Mapping) else {}
