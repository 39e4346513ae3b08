"""Import Seal-Tools: questions with the nested calls that answer them, and no feedback.

A row is ``{"id", "query", "calling": [{"api", "parameters", "responses"}]}``; the tools are in
``tools.jsonl``. The gold calls are one plan, so they become one turn. An argument that is the
result of an earlier call reads ``API_call_3``: responses are numbered from 0 over all calls. A
model can only number them if it knows how many every tool gives, so a tool's responses are told
at the end of its description, and a system turn tells the rule.

The source names no tools but those called. Ten are offered: these and neighbours in the tool file.
"""

from __future__ import annotations

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

NAME = "seal_tools"
TOOLS_FILES = ("tools.jsonl.gz", "tools.jsonl")
RULE = (
    "Answer with all calls that are needed, in order. Where an argument is a response of an "
    "earlier call, write API_call_N: its number, counted from 0 over the responses of all calls."
)


def recognise(row: Any) -> str:
    """Return why ``row`` looks like this format, or an empty string."""
    calls = row.get("calling") if isinstance(row, Mapping) else None
    if isinstance(calls, list) and calls and "query" in row:
        if all(isinstance(call, Mapping) and {"api", "parameters"} <= set(call) for call in calls):
            return "query and calling with api, parameters and responses"
    return ""


def load_tools(path: str | os.PathLike[str]) -> Toolbox:
    """Read ``tools.jsonl``: api_name, api_description, parameters, required, responses."""
    return toolbox(map(_function, read_json(path)), path)


def trajectory(
    row: Mapping[str, Any], *, source: str, line: int, tools: Toolbox | None = None
) -> Trajectory:
    """Convert one row.

    Raises:
      RowError: No query, or no calls.
    """
    known = needed(tools, TOOLS_FILES)
    query, calling = row.get("query"), row.get("calling")
    if not isinstance(query, str) or not query.strip():
        raise RowError("'query' must be text")
    if not isinstance(calling, list) or not calling:
        raise RowError("'calling' must be a list of at least one call")
    calls = [(call["api"], call["parameters"]) for call in calling]
    repairs: Counter[str] = Counter()
    offered = known.named(known.candidates([name for name, _ in calls], query), repairs)
    return Trajectory(
        id=str(row.get("id") or f"{source}:{line}"),
        tools=offered,
        messages=(Message("system", RULE), Message("user", query), assistant_calls("", calls)),
        source=source,
        line=line,
        tags=repair_tags(repairs),
    )


def _function(row: Mapping[str, Any]) -> dict[str, Any]:
    description = str(row.get("api_description") or "").strip().rstrip(".")
    responses = ", ".join(row.get("responses") or ())
    return {
        "name": row["api_name"],
        "description": f"{description}. Responses: {responses or 'none'}.",
        "parameters": {"type": "object", "properties": row["parameters"]},
        "required": row.get("required"),
    }
