"""Tool calls and tool signatures as data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tl_jax.calls.references import resolved


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
    parameter's full JSON schema (enum, items, default ...) with local references resolved.
    """

    name: str
    type: str = "any"
    description: str = ""
    required: bool = False
    schema: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class ToolSpec:
    """A tool as the model sees it: name, description, parameters in declaration order.

    ``declared`` is how its source declared it, which chat templates write in that very form.

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
    declared: Declaration | None = dataclasses.field(default=None, repr=False, compare=False)

    def parameter(self, name: str) -> Parameter | None:
        """Return the declared parameter called ``name``, or None."""
        return next((p for p in self.parameters if p.name == name), None)


@dataclasses.dataclass(frozen=True)
class Declaration:
    """A tool's declaration as its source gives it.

    Attributes:
      entry: The function object, or one with a ``"function"`` key round it.
      tool: What it was read as; once a tool says something else (another name, fewer parameters)
        the declaration is not its own any more.
    """

    entry: Mapping[str, Any]
    tool: ToolSpec


def declared_as(tool: ToolSpec, entry: Mapping[str, Any]) -> ToolSpec:
    """Return ``tool`` with the declaration that it was read from; see ``Declaration``."""
    return dataclasses.replace(tool, declared=Declaration(entry, tool))


def tool_from_schema(function: Mapping[str, Any]) -> ToolSpec:
    """Build a ToolSpec from an OpenAI-style function object.

    Accepts ``{"name", "description", "parameters": {"properties", "required"}}`` and the same
    under a ``"function"`` key. Parameters keep property order, and have the definitions that they
    refer to (``$ref``) in their own schema; the object itself is kept as ``declared``.

    Raises:
      ValueError: No name, or the entry, ``parameters`` or ``properties`` is not a mapping.
    """
    entry = function
    function = function.get("function", function) if isinstance(function, Mapping) else function
    if not isinstance(function, Mapping):
        raise ValueError(f"a tool must be an object, not {type(function).__name__}")
    name = function.get("name")
    if not isinstance(name, str) or not name:
        raise ValueError("a tool needs a non-empty string 'name'")
    schema = function.get("parameters") or {}
    if not isinstance(schema, Mapping):
        raise ValueError(f"tool {name}: 'parameters' must be an object")
    properties = schema.get("properties") or {}
    if not isinstance(properties, Mapping):
        raise ValueError(f"tool {name}: 'properties' must be an object")
    listed = schema.get("required") or function.get("required") or ()
    required = {key for key in listed if isinstance(key, str)} if _is_list(listed) else set()
    parameters = []
    for key, value in properties.items():
        value = resolved(value, schema) if isinstance(value, Mapping) else {}
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
    tool = ToolSpec(name, str(function.get("description") or ""), tuple(parameters))
    return declared_as(tool, entry)


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple | set | frozenset)


def tool_to_schema(tool: ToolSpec) -> dict[str, Any]:
    """Return the OpenAI-style function object of ``tool``; inverse of ``tool_from_schema``.

    It is the one that the source gave (``declared``), unless the tool says something else by now.
    """
    return dict(tool_entry(tool)["function"])


def tool_entry(tool: ToolSpec) -> dict[str, Any]:
    """Return ``{"type": "function", "function": ...}``, as prompts and chat templates take tools.

    What the source gave is returned as given; see ``tool_to_schema``.
    """
    entry = _declared(tool)
    if entry is None:
        return {"type": "function", "function": _written(tool)}
    if isinstance(entry.get("function"), Mapping):
        return dict(entry)
    return {"type": "function", "function": dict(entry)}


def tool_to_json(tool: ToolSpec) -> dict[str, Any]:
    """Return a JSON-ready dict; inverse of ``tool_from_json``, ``declared`` included."""
    entry = _declared(tool)
    if entry is None:
        return _written(tool)
    if list(entry) == ["type", "function"] and entry["type"] == "function":
        entry = entry["function"]
    if "declared" not in entry and tool_from_schema(entry) == tool:
        return dict(entry)
    return {**_written(tool), "declared": entry}


def tool_from_json(row: Mapping[str, Any]) -> ToolSpec:
    """Build a ToolSpec from ``tool_to_json`` output.

    Raises:
      ValueError: As in ``tool_from_schema``.
    """
    entry = row.get("declared")
    if not isinstance(entry, Mapping):
        return tool_from_schema(row)
    return declared_as(tool_from_schema(row), entry)


def _declared(tool: ToolSpec) -> Mapping[str, Any] | None:
    found = tool.declared
    return found.entry if found is not None and found.tool == tool else None


def _written(tool: ToolSpec) -> dict[str, Any]:
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
