"""Tools under other names: what a perturbation changes, applied to tools and calls, and undone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tl_jax.calls.call import Parameter, ToolCall, ToolSpec

NOT_OFFERED = " (not offered)"
"""Behind a name that was taken from a tool or parameter: calling it is no call of that."""


@dataclasses.dataclass(frozen=True)
class Renaming:
    """Other names of tools and parameters, and parameters that a call must have besides.

    Attributes:
      tools: New name of a tool by its old one.
      parameters: New names by old ones, by the old name of the tool.
      added: Name and prescribed value of a further parameter, by the old name of the tool.
    """

    tools: Mapping[str, str] = dataclasses.field(default_factory=dict)
    parameters: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    added: Mapping[str, tuple[str, str]] = dataclasses.field(default_factory=dict)

    def tool(self, tool: ToolSpec) -> ToolSpec:
        """Return a tool under its new names."""
        names = self.parameters.get(tool.name, {})
        parameters = [
            dataclasses.replace(p, name=names.get(p.name, p.name)) for p in tool.parameters
        ]
        if tool.name in self.added:
            name, value = self.added[tool.name]
            told = f"Always write {value!r}."
            parameters.append(Parameter(name, "string", told, required=True))
        name = self.tools.get(tool.name, tool.name)
        return dataclasses.replace(tool, name=name, parameters=tuple(parameters))

    def call(self, call: ToolCall) -> ToolCall:
        """Return a call as it is written with the new names."""
        names = self.parameters.get(call.name, {})
        arguments = {names.get(key, key): value for key, value in call.arguments.items()}
        if call.name in self.added:
            name, value = self.added[call.name]
            arguments[name] = value
        return ToolCall(self.tools.get(call.name, call.name), arguments)

    def undone(self, call: ToolCall) -> ToolCall:
        """Return a call with new names as one with the old names.

        A name that means nothing any more keeps no meaning, and a further parameter that is absent
        or has another value than prescribed stays an argument too many.
        """
        name = _back(self.tools, call.name)
        given = dict(call.arguments)
        arguments: dict[str, Any] = {}
        if name in self.added:
            key, value = self.added[name]
            if given.pop(key, None) != value:
                arguments[f"{key}{NOT_OFFERED}"] = value
        for key, value in given.items():
            arguments[_back(self.parameters.get(name, {}), key)] = value
        return ToolCall(name, arguments)

    def calls(self, calls: Sequence[ToolCall]) -> tuple[ToolCall, ...]:
        """Return calls as they are written with the new names."""
        return tuple(map(self.call, calls))


def _back(names: Mapping[str, str], name: str) -> str:
    for old, new in names.items():
        if new == name:
            return old
    return f"{name}{NOT_OFFERED}" if name in names else name
