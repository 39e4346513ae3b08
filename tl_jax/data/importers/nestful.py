"""Import NESTFUL: questions with nested gold calls, and no feedback.

A row is ``{"input", "output": [{"name", "arguments", "label"}]}``; the tools of a file
``executable.jsonl`` are in ``executable-spec.json``. The calls are one plan, so they become one
turn. ``$var2.skyId$`` is a field of the result of the call labelled ``var2``; labels count the
calls from 1, so they need not be written, and a system turn tells the rule. Two rows repeat a
label; their references count the calls all the same.

The last entry of every output, ``var_result``, calls no tool: it says which results answer the
question. It goes to the tag ``result``. The source names no tools but those called; ten are
offered: these and neighbours in the tool file.
"""

from __future__ import annotations

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

NAME = "nestful"
TOOLS_FILES = ("{stem}-spec.json",)
RULE = (
    "Answer with all calls that are needed, in order. Where an argument is a result of an earlier "
    "call, write $varN.field$, or $varN$ for the whole result: N is that call's number, from 1."
)
_RESULT = "var_result"
_VALUES = ("allowed_values", "possible_values")


def recognise(row: Any) -> str:
    """Return why ``row`` looks like this format, or an empty string."""
    calls = row.get("output") if isinstance(row, Mapping) else None
    if isinstance(calls, list) and calls and isinstance(calls[-1], Mapping) and "input" in row:
        if calls[-1].get("name") == _RESULT:
            return "input and output, a list of calls that ends with var_result"
    return ""


def load_tools(path: str | os.PathLike[str]) -> Toolbox:
    """Read a specification: name, description, query or path parameters, output parameters."""
    return toolbox(map(_function, read_json(path)), path)


def trajectory(
    row: Mapping[str, Any], *, source: str, line: int, tools: Toolbox | None = None
) -> Trajectory:
    """Convert one row.

    Raises:
      RowError: No question, or no calls.
    """
    known = needed(tools, TOOLS_FILES)
    query, output = row.get("input"), row.get("output")
    if not isinstance(query, str) or not query.strip():
        raise RowError("'input' must be text")
    if not isinstance(output, list):
        raise RowError("'output' must be a list of calls")
    calls = [(c["name"], c["arguments"]) for c in output if c["name"] != _RESULT]
    if not calls:
        raise RowError("'output' calls no tool")
    results = [c["arguments"] for c in output if c["name"] == _RESULT]
    repairs: Counter[str] = Counter()
    offered = known.named(known.candidates([name for name, _ in calls], query), repairs)
    return Trajectory(
        id=f"{source}:{line}",
        tools=offered,
        messages=(Message("system", RULE), Message("user", query), assistant_calls("", calls)),
        source=source,
        line=line,
        tags={**repair_tags(repairs), **({"result": json.dumps(results[-1])} if results else {})},
    )


def _function(row: Mapping[str, Any]) -> dict[str, Any]:
    properties = {
        name: {
            "enum" if key in _VALUES and isinstance(value, list) else key: value
            for key, value in schema.items()
            if key != "optional"
        }
        for place in ("parameters", "query_parameters", "path_parameters")
        for name, schema in (row.get(place) or {}).items()
    }
    description = str(row.get("description") or "").strip().rstrip(".")
    results = ", ".join(row.get("output_parameters") or ())
    return {
        "name": row["name"],
        "description": f"{description}. Result: {results or 'none'}.",
        "parameters": {"type": "object", "properties": properties},
    }
