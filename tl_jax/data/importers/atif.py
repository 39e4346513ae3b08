"""Import trajectories of agents in the Agent Trajectory Interchange Format (ATIF).

A row is ``{"schema_version": "ATIF-v1.7", "agent": {...}, "steps": [...]}``. A step is of the
system, the user or the agent; one of the agent has its calls and, as ``observation``, their
results. Steps that were copied from an earlier trajectory are context.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tl_jax.data.importers import openai, openai_form
from tl_jax.data.importers.openai_form import Entry
from tl_jax.data.importers.unread import changed, read_whole
from tl_jax.data.trajectory import Trajectory
from tl_jax.errors import RowError

NAME = "atif"

_ROLES = {"system": "system", "user": "user", "agent": "assistant"}
_NOTES = ("step_id", "timestamp", "model_name", "metrics", "reasoning_effort")


def recognise(row: Any) -> str:
    """Return why ``row`` looks like this format, or an empty string."""
    version = row.get("schema_version") if isinstance(row, Mapping) else None
    if isinstance(version, str) and version.startswith("ATIF") and "steps" in row:
        return f"steps of {version}"
    return ""


def trajectory(row: Mapping[str, Any], *, source: str, line: int) -> Trajectory:
    """Convert one row.

    Raises:
      RowError: Steps or tools that cannot be read.
    """
    entries: list[Entry] = []
    for number, step in enumerate(openai_form.listed(row.get("steps"), "'steps'")):
        try:
            entries += _entries(openai_form.mapping(step, "a step"))
        except RowError as error:
            raise RowError(f"step {number}: {error}") from error
    row.get("schema_version")
    read_whole(row, ("final_metrics", "session_id", "trajectory_id"))
    agent = row.get("agent")
    agent = agent if isinstance(agent, Mapping) else {}
    read_whole(agent, ("name", "version", "model_name"))
    found = changed(row, messages=entries, tools=agent.get("tool_definitions"))
    return openai.trajectory(found, source=source, line=line)


def _entries(step: Mapping[str, Any]) -> list[Entry]:
    role = _ROLES.get(str(step.get("source")))
    if role is None:
        raise RowError(f"unknown source {step.get('source')!r}; known: {', '.join(_ROLES)}")
    read_whole(step, _NOTES)
    calls = [_call(call) for call in openai_form.listed(step.get("tool_calls"), "'tool_calls'")]
    more: Entry = {"role": role, "content": step.get("message"), "source": None, "message": None}
    if step.get("is_copied_context") is True:
        more["weight"] = 0
    found = [changed(step, **more, tool_calls=calls or None)]
    observation = step.get("observation")
    if isinstance(observation, Mapping):
        results = openai_form.listed(observation.get("results"), "'results'")
        found += [_result(openai_form.mapping(one, "a result"), bool(calls)) for one in results]
    return found


def _call(call: Any) -> Entry:
    call = openai_form.mapping(call, "a call")
    return openai_form.call(
        call.get("function_name"), call.get("arguments"), call.get("tool_call_id")
    )


def _result(result: Mapping[str, Any], called: bool) -> Entry:
    """Return the result of a call, or what an agent sees that acts by its text."""
    content, call_id = result.get("content"), result.get("source_call_id")
    if called or call_id:
        return changed(result, source=None, **openai_form.answer(content, call_id))
    return changed(result, role="user", content=content)
