"""Import ToolTalk: dialogues written by people, with calls that were really run.

A row is ``{"name", "conversation", "metadata", "apis_used", ...}``; the tools are in
``tools.json``. An assistant turn is ``{"text", "apis": [{"request", "response", "exception"}]}``:
the calls come before the text, one after the other, and later ones use the results of earlier
ones, so every call becomes a turn of its own with its result, and the text the turn after them.

Every call of a tool that needs a login has a ``session_token``, which the tool file does not
declare: it is added there as a required parameter. The token, the place and the time are in the
metadata, which become a system turn. The tool file lists the values of ``event_type`` at ``name``
of ``CreateEvent``, against every call; they are moved. The tools of the suites that a dialogue uses
are offered.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tl_jax.data.importers.assistant import assistant_calls
from tl_jax.data.importers.schemas import repair_tags
from tl_jax.data.importers.side_files import read_json
from tl_jax.data.importers.toolbox import Toolbox, needed, toolbox
from tl_jax.data.trajectory import Message, Trajectory
from tl_jax.errors import RowError

NAME = "tooltalk"
TOOLS_FILES = ("tools.json",)
_TOKEN = {
    "type": "string",
    "description": "The session token of the user who is logged in.",
    "required": True,
}


@dataclasses.dataclass(frozen=True)
class Suites:
    """The tools, and the suite that each belongs to."""

    tools: Toolbox
    suites: Mapping[str, str]

    def with_neighbours(self, called: set[str]) -> list[str]:
        """Return the names of all tools in the suites of the tools called."""
        used = {self.suites[name] for name in called if name in self.suites}
        return [name for name, suite in self.suites.items() if suite in used]


def recognise(row: Any) -> str:
    """Return why ``row`` looks like this format, or an empty string."""
    if isinstance(row, Mapping) and {"conversation", "apis_used", "metadata"} <= set(row):
        return "conversation, apis_used and metadata"
    return ""


def load_tools(path: str | os.PathLike[str]) -> Suites:
    """Read ``tools.json``: suite_file, name, description, parameters, requires_auth."""
    rows = read_json(path)
    tools = toolbox(map(_function, rows), path)
    return Suites(tools, {row["name"]: str(row.get("suite_file")) for row in rows})


def trajectory(
    row: Mapping[str, Any], *, source: str, line: int, tools: Suites | None = None
) -> Trajectory:
    """Convert one row.

    Raises:
      RowError: No dialogue, an unknown role, or a turn without text.
    """
    known = needed(tools, TOOLS_FILES)
    turns, metadata = row.get("conversation"), row.get("metadata")
    if not isinstance(turns, list) or not isinstance(metadata, Mapping):
        raise RowError("'conversation' must be a list of turns and 'metadata' an object")
    facts = "\n".join(f"{key}: {value}" for key, value in metadata.items())
    messages = [Message("system", facts)] if facts else []
    for number, turn in enumerate(turns):
        role, text = turn.get("role"), turn.get("text")
        if role not in ("user", "assistant") or not isinstance(text, str):
            raise RowError(f"turn {number}: expected a text of role user or assistant")
        for api in turn.get("apis") or ():
            messages += _called(api)
        messages.append(Message(role, text))
    called = [turn["request"]["api_name"] for entry in turns for turn in entry.get("apis") or ()]
    repairs: Counter[str] = Counter()
    offered = known.tools.named(known.with_neighbours(set(called)), repairs)
    name = str(row.get("name") or line)
    return Trajectory(
        id=f"{name}:{line}",
        tools=offered,
        messages=tuple(messages),
        source=source,
        line=line,
        tags={"task": f"tooltalk/{name}", **repair_tags(repairs)},
    )


def _called(api: Mapping[str, Any]) -> list[Message]:
    request, exception = api["request"], api.get("exception")
    if exception:
        result = Message("tool", str(exception), status="error")
    else:
        text = json.dumps(api.get("response"), ensure_ascii=False)
        result = Message("tool", text, status="ok")
    return [assistant_calls("", [(request["api_name"], request["parameters"])]), result]


def _function(row: Mapping[str, Any]) -> dict[str, Any]:
    properties = dict(row["parameters"])
    if row.get("requires_auth"):
        properties = {"session_token": _TOKEN, **properties}
    if {"name", "event_type"} <= properties.keys() and "enum" in properties["name"]:
        name = dict(properties["name"])
        properties["event_type"] = {**properties["event_type"], "enum": name.pop("enum")}
        properties["name"] = name
    return {
        "name": row["name"],
        "description": row.get("description"),
        "parameters": {"type": "object", "properties": properties},
    }
