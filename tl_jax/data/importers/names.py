"""The names of tools and parameters, as they can be written in a call.

JSON forms write any name. In a form that writes calls as Python only some can stand.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections import Counter

from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.data.trajectory import Trajectory

KEPT = "kept_name"
"""The repair that says that a row has a name which calls written as Python cannot have."""
_NOT_IN_NAMES = re.compile(r"[^\w.\-$@/:]+")


def writable_name(name: str) -> str:
    """Return ``name`` with an underscore for what cannot stand in a Python call, such as a blank.

    Tool and parameter names are renamed by this rule, so calls must be renamed by it too.
    """
    return _NOT_IN_NAMES.sub("_", name.strip())


def with_writable_names(trajectory: Trajectory, repairs: Counter[str]) -> Trajectory:
    """Return a trajectory whose tools and calls have names that a Python call can be written with.

    Only where an importer kept other names (the repair ``kept_name``); a trajectory that comes
    with such names from elsewhere has no text form as Python.

    Args:
      trajectory: The dialogue; returned as it is where nothing needs another name.
      repairs: Counts by kind; ``renamed_tool`` and ``renamed_parameter`` are added to.

    Raises:
      ValueError: Two tools, parameters or arguments would get the same name, or one gets none.
    """
    if not trajectory.repairs.get(KEPT) and f"{KEPT}:" not in trajectory.tags.get("repairs", ""):
        return trajectory
    tools = tuple(_tool(tool, repairs) for tool in trajectory.tools)
    _check([tool.name for tool in tools], "tools")
    messages = tuple(
        dataclasses.replace(message, calls=tuple(_call(call) for call in message.calls))
        if any(_needs(call.name, call.arguments) for call in message.calls)
        else message
        for message in trajectory.messages
    )
    same = all(new is old for new, old in zip(tools, trajectory.tools, strict=True))
    if same and all(new is old for new, old in zip(messages, trajectory.messages, strict=True)):
        return trajectory
    return dataclasses.replace(trajectory, tools=tools, messages=messages)


def _needs(name: str, others: object) -> bool:
    names = (name, *others) if isinstance(others, dict) else (name,)
    return not all(map(_is_writable, names))


@functools.lru_cache(maxsize=1 << 14)
def _is_writable(name: str) -> bool:
    return name == writable_name(name)


def _tool(tool: ToolSpec, repairs: Counter[str]) -> ToolSpec:
    if not _needs(tool.name, dict.fromkeys(p.name for p in tool.parameters)):
        return tool
    parameters = [dataclasses.replace(p, name=writable_name(p.name)) for p in tool.parameters]
    _check([parameter.name for parameter in parameters], f"parameters of {tool.name}")
    name = writable_name(tool.name)
    repairs["renamed_tool"] += name != tool.name
    repairs["renamed_parameter"] += sum(
        new.name != old.name for new, old in zip(parameters, tool.parameters, strict=True)
    )
    return ToolSpec(name, tool.description, tuple(parameters))


def _call(call: ToolCall) -> ToolCall:
    arguments = {writable_name(key): value for key, value in call.arguments.items()}
    if len(arguments) < len(call.arguments):
        _check([writable_name(key) for key in call.arguments], f"arguments of {call.name}")
    return ToolCall(writable_name(call.name), arguments)


def _check(names: list[str], what: str) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1 or not name]
    if twice:
        raise ValueError(
            f"{what} that differ only in characters that no Python call can be written with "
            f"({twice[0]!r}); rename them, or take a chat template that writes calls as JSON"
        )
