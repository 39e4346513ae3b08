"""Import the dialogues of API-Bank, levels 1 and 2, whose calls were really run.

A row is ``{"source_path", "level", "turns": [{"role": User|AI|API, ...}]}``; the tools are in
``all_apis.json``, whose schemas are Python text. What the AI says right before a call becomes the
thought of that call. Arguments are taken as the tool got them (``result.input``); the dialogue has
them all as text.

The table describes another version than the one that ran: of 1,117 arguments it lacks 440. Where
calls of a row that ran do not fit a declaration, its parameters become those of the calls, the
described ones with their descriptions; this is counted as a repair, ``parameters_of_calls``.

The rows do not say which tools were offered. At level 1 these are the ones called and those that
the file is named after; at level 2 ``ToolSearcher``, what it found, and what was called.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tl_jax.calls.call import Parameter, ToolSpec
from tl_jax.data.importers.assistant import assistant_calls
from tl_jax.data.importers.json_text import load_loose_json
from tl_jax.data.importers.schemas import repair_tags
from tl_jax.data.importers.side_files import read_json
from tl_jax.data.importers.toolbox import Toolbox, needed, toolbox
from tl_jax.data.trajectory import Message, Trajectory
from tl_jax.errors import RowError

NAME = "api_bank"
TOOLS_FILES = ("all_apis.json",)
SEARCHER = "ToolSearcher"

_CLASS = "类名"  # the name of the class, which is the name in calls
_INFO = re.compile(
    r"description = (?P<description>.*?)\s*\ninput_parameters = (?P<inputs>.*?)\s*"
    r"\noutput_parameters = ",
    re.DOTALL,
)
_NONE = re.compile(r"\{?\s*None\s*\}?")
_ARGUMENT = re.compile(r"(\w+): (\w+)")
_SEARCHER = {
    "name": SEARCHER,
    "description": "Searches for relevant tools in library based on the keywords.",
    "parameters": {
        "properties": {"keywords": {"type": "str", "description": "The keyword to search for."}},
        "required": ["keywords"],
    },
}
_TYPES = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    list: "array",
    dict: "object",
}
_ROLES = ("User", "AI", "API")


def recognise(row: Any) -> str:
    """Return why ``row`` looks like this format, or an empty string."""
    turns = row.get("turns") if isinstance(row, Mapping) else None
    if isinstance(turns, list) and turns and all(isinstance(turn, Mapping) for turn in turns):
        if all(turn.get("role") in _ROLES for turn in turns):
            return "turns of User, AI and API"
    return ""


def load_tools(path: str | os.PathLike[str]) -> Toolbox:
    """Read ``all_apis.json``: the name of each class, and its schema as Python text."""
    return toolbox([_SEARCHER, *map(_function, read_json(path))], path)


def trajectory(
    row: Mapping[str, Any], *, source: str, line: int, tools: Toolbox | None = None
) -> Trajectory:
    """Convert one row.

    Raises:
      RowError: No turns, an unknown role, or a turn without text.
    """
    known = needed(tools, TOOLS_FILES)
    turns = row.get("turns")
    if not isinstance(turns, list) or not turns:
        raise RowError("no turns")
    path = str(row.get("source_path") or "")
    messages = tuple(_messages(turns))
    repairs: Counter[str] = Counter()
    declared = known.named(_offered(turns, path, str(row.get("level"))), repairs)
    offered = tuple(_as_called(tool, messages, repairs) for tool in declared)
    name = path.rpartition("/")[2].removesuffix(".jsonl")
    return Trajectory(
        id=f"{name or source}:{line}",
        tools=offered,
        messages=messages,
        source=source,
        line=line,
        tags={
            "task": f"api_bank/{name or line}",
            "domain": str(row.get("level")),
            **repair_tags(repairs),
        },
    )


def _messages(turns: Sequence[Mapping[str, Any]]) -> Iterator[Message]:
    said: list[str] = []
    for number, turn in enumerate(turns):
        role = turn.get("role")
        if role == "API":
            yield from _called(turn, "\n".join(said))
            said = []
            continue
        text = turn.get("text")
        if role not in _ROLES or not isinstance(text, str):
            raise RowError(f"turn {number}: expected a text of User or AI, or a call of API")
        if role == "AI":
            said.append(text)
            continue
        if said:
            yield Message("assistant", "\n".join(said))
            said = []
        yield Message("user", text)
    if said:
        yield Message("assistant", "\n".join(said))


def _called(turn: Mapping[str, Any], thought: str) -> Iterator[Message]:
    result, arguments = turn["result"], turn["param_dict"]
    got, output = result.get("input"), result.get("output")
    if (
        isinstance(got, Mapping)
        and isinstance(arguments, Mapping)
        and got.keys() == arguments.keys()
    ):
        arguments = {name: got[name] for name in arguments}
    yield assistant_calls(thought, [(turn["api_name"], arguments)])
    if result.get("exception"):
        yield Message("tool", str(result["exception"]), status="error")
    else:
        text = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
        yield Message("tool", text, status="ok")


def _offered(turns: Sequence[Mapping[str, Any]], path: str, level: str) -> list[str]:
    calls = [turn for turn in turns if turn.get("role") == "API"]
    called = [turn["api_name"] for turn in calls]
    if level.startswith("level-1"):
        return [*path.rpartition("/")[2].split("-level-")[0].split("-"), *called]
    found = [turn["result"].get("output") for turn in calls if turn["api_name"] == SEARCHER]
    entries = [x for output in found for x in (output if isinstance(output, list) else [output])]
    named = [str(entry.get("name")) for entry in entries if isinstance(entry, Mapping)]
    return [SEARCHER, *named, *called]


def _as_called(tool: ToolSpec, messages: Sequence[Message], repairs: Counter[str]) -> ToolSpec:
    """Return the tool with the parameters of the calls that ran, if the declared do not fit."""
    ran = [
        call.arguments
        for turn, result in zip(messages, messages[1:], strict=False)
        for call in turn.calls
        if call.name == tool.name and result.status == "ok"
    ]
    values = {name: value for arguments in ran for name, value in arguments.items()}
    parameters = []
    for name, value in values.items():
        kind = _TYPES.get(type(value), "any")
        found = tool.parameter(name) or Parameter(name, kind, schema={"type": kind})
        if kind != found.type and (kind, found.type) != ("integer", "number"):
            found = dataclasses.replace(found, type=kind, schema={**found.schema, "type": kind})
        required = all(name in arguments for arguments in ran)
        parameters.append(dataclasses.replace(found, required=required))
    if not ran or {p.name: p for p in parameters} == {p.name: p for p in tool.parameters}:
        return tool
    repairs["parameters_of_calls"] += 1
    return dataclasses.replace(tool, parameters=tuple(parameters))


def _function(row: Mapping[str, Any]) -> dict[str, Any]:
    info = _INFO.match(row["api_info"].strip())
    if info is None:  # then only the signature says what there is
        names = dict(_ARGUMENT.findall(row["input_parameters"]))
        properties, description = {name: {"type": kind} for name, kind in names.items()}, ""
    else:
        description = load_loose_json(info["description"], f"{row[_CLASS]}: description")
        inputs = "{}" if _NONE.fullmatch(info["inputs"]) else info["inputs"]
        properties = load_loose_json(inputs, f"{row[_CLASS]}: input_parameters")
    return {
        "name": row[_CLASS],
        "description": description,
        "parameters": {"properties": properties, "required": list(properties)},
    }
