"""Hold calls against the manuals of the offered tools, without any feedback."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tl_jax.calls.call import Parameter, ToolCall, ToolSpec
from tl_jax.calls.compare import values_equal

_DEPTH = 6  # levels of nested schemas that are checked


@dataclasses.dataclass(frozen=True)
class CallFault:
    """What contradicts the manual.

    Attributes:
      category: ``tool_hallucination``, ``parameter_hallucination``, ``parameter_missing`` or
        ``content_filling`` (a value of another type or not among the listed ones).
      about: The tool or parameter, for reports.
    """

    category: str
    about: str


def check_call(call: ToolCall, tools: Sequence[ToolSpec]) -> CallFault | None:
    """Return the first fault of a call, gravest kind first, or None.

    Types are those of JSON schema: an integer is a number, 2.0 is an integer, and a boolean is
    neither. Null is allowed for a parameter that is not required. A text that reads as the wanted
    number or boolean passes, as some formats write every value as text. Types that JSON schema
    does not know are not checked.

    Args:
      call: The call.
      tools: The tools offered in the prompt; none means that no manual is known, so that nothing
        can be held against the call.
    """
    if not tools:
        return None
    tool = next((t for t in tools if t.name == call.name), None)
    if tool is None:
        return CallFault("tool_hallucination", "unknown tool")
    declared = {parameter.name: parameter for parameter in tool.parameters}
    for name in call.arguments:
        if name not in declared:
            return CallFault("parameter_hallucination", "unknown parameter")
    for parameter in tool.parameters:
        if parameter.required and parameter.name not in call.arguments:
            return CallFault("parameter_missing", "missing parameter")
    for name, value in call.arguments.items():
        if about := _fault(value, declared[name]):
            return CallFault("content_filling", about)
    return None


def problems_of(call: ToolCall, tools: Sequence[ToolSpec]) -> list[str]:
    """Return all that is wrong with a call by the schema of its tool, in words."""
    tool = next((tool for tool in tools if tool.name == call.name), None)
    if tool is None:
        return [f"no tool {call.name} is offered"]
    problems = []
    for name, value in call.arguments.items():
        parameter = tool.parameter(name)
        if parameter is None:
            problems.append(f"{name} is no parameter")
        # Held against this parameter alone, so that every fault is told.
        elif fault := check_call(
            ToolCall(tool.name, {name: value}), [ToolSpec(tool.name, "", (parameter,))]
        ):
            problems.append(f"{name}: {fault.about}")
    missing = [p.name for p in tool.parameters if p.required and p.name not in call.arguments]
    return problems + [f"{name} is missing" for name in missing]


def _fault(value: Any, parameter: Parameter) -> str:
    if value is None and not parameter.required:
        return ""
    schema = parameter.schema
    if "type" not in schema and parameter.type != "any":
        schema = {**schema, "type": parameter.type}
    return _against(value, schema, _DEPTH)


def _against(value: Any, schema: Mapping[str, Any], depth: int) -> str:
    """Return what is wrong with a value, or an empty text."""
    kinds = schema.get("type")
    kinds = [kinds] if isinstance(kinds, str) else kinds if isinstance(kinds, list) else []
    if schema.get("nullable") is True and value is None:
        return ""
    known = [kind for kind in kinds if isinstance(kind, str) and kind in _TYPES]
    if known and len(known) == len(kinds) and not any(_TYPES[kind](value) for kind in known):
        return f"wrong type, not {' or '.join(known)}"
    listed = schema.get("enum")
    if isinstance(listed, list) and listed and not any(_same(value, item) for item in listed):
        return "value not among the listed ones"
    if depth and isinstance(value, (list, tuple)) and isinstance(schema.get("items"), Mapping):
        for item in value:
            if about := _against(item, schema["items"], depth - 1):
                return f"{about}, in a list"
    properties = schema.get("properties")
    if depth and isinstance(value, Mapping) and isinstance(properties, Mapping):
        for name, inner in properties.items():
            if name in value and isinstance(inner, Mapping):
                if about := _against(value[name], inner, depth - 1):
                    return f"{about}, in an object"
    return ""


def _same(value: Any, listed: Any) -> bool:
    return values_equal(value, listed) or (
        isinstance(value, str) != isinstance(listed, str) and str(value) == str(listed)
    )


def _is_number(value: Any) -> bool:
    if isinstance(value, str) and len(value) <= 40:
        try:
            return float(value) == float(value)
        except ValueError:
            return False
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_integer(value: Any) -> bool:
    return _is_number(value) and (isinstance(value, int) or float(value).is_integer())


def _is_boolean(value: Any) -> bool:
    return isinstance(value, bool) or (
        isinstance(value, str) and value.lower() in ("true", "false")
    )


_TYPES = {
    "string": lambda value: isinstance(value, str),
    "number": _is_number,
    "integer": _is_integer,
    "boolean": _is_boolean,
    "array": lambda value: isinstance(value, (list, tuple)),
    "object": lambda value: isinstance(value, Mapping),
    "null": lambda value: value is None,
}
