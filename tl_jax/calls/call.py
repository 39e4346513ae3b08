"""Tool calls and tool signatures as data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class ToolCall:
    """One call: a tool name and named JSON-like arguments (key order is kept).

    Example:
      >>> import tl_jax as tl
      >>> call = tl.ToolCall("weather", {"city": "Rome"})
      >>> call.name, call.arguments["city"]
      ('weather', 'Rome')
    """

    name: str
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One declared parameter of a tool.

    ``type`` is a JSON-schema type name, or ``"any"`` if the source gives none; ``schema`` is the
    parameter's full JSON schema as found (enum, items, default ...).
    """

    name: str
    type: str = "any"
    description: str = ""
    required: bool = False
    schema: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class ToolSpec:
    """A tool as the model sees it: name, description, parameters in declaration order.

    Example:
      >>> import tl_jax as tl
      >>> from tl_jax.calls.call import Parameter
      >>> tool = tl.ToolSpec("weather", "Weather of a city.", (Parameter("city", "string"),))
      >>> tool.parameter("city").type
      'string'
    """

    name: str
    description: str = ""
    parameters: tuple[Parameter, ...] = ()

    def parameter(self, name: str) -> Parameter | None:
        """Return the declared parameter called ``name``, or None."""
        return next((p for p in self.parameters if p.name == name), None)


def tool_from_schema(function: Mapping[str, Any]) -> ToolSpec:
    """Build a ToolSpec from an OpenAI-style function object.

    Accepts ``{"name", "description", "parameters": {"properties", "required"}}`` and the same
    under a ``"function"`` key. Parameters keep property order.

    Raises:
      ValueError: No name, or ``properties`` is not a mapping.
    """
    function = function.get("function", function)
    name = function.get("name")
    if not isinstance(name, str) or not name:
        raise ValueError("a tool needs a non-empty string 'name'")
    schema = function.get("parameters") or {}
    properties = schema.get("properties") or {}
    if not isinstance(properties, Mapping):
        raise ValueError(f"tool {name}: 'properties' must be an object")
    required = set(schema.get("required") or function.get("required") or ())
    parameters = []
    for key, value in properties.items():
        value = value if isinstance(value, Mapping) else {}
        kind = value.get("type", "any")
        parameters.append(
            Parameter(
                name=key,
                type=kind if isinstance(kind, str) else "any",
                description=str(value.get("description") or ""),
                required=key in required,
                schema=dict(value),
            )
        )
    return ToolSpec(name, str(function.get("description") or ""), tuple(parameters))


def tool_to_schema(tool: ToolSpec) -> dict[str, Any]:
    """Return the OpenAI-style function object of ``tool``; inverse of ``tool_from_schema``."""
    properties: dict[str, Any] = {}
    for parameter in tool.parameters:
        entry = dict(parameter.schema)
        if parameter.type != "any":
            entry["type"] = parameter.type
        if parameter.description:
            entry["description"] = parameter.description
        properties[parameter.name] = entry
    return {
        "name": tool.name,
        "description": tool.description,
        "parameters": {
            "type": "object",
            "properties": properties,
            "required": [p.name for p in tool.parameters if p.required],
        },
    }
