"""Import InterCode: a task, and the commands that a model ran on a database, shell or interpreter.

A row is ``{"environment", "task_id", "query", "turn_history": {"actions", "observations",
"valid_action", "thoughts"?}, "summary", ...}``. The source has no schema: each environment is one
tool that runs a command; runs with thoughts (ReAct) write ``execute[command]``, here without the
wrapping, and hand in the last result with ``submit``, a second tool offered only to them.

``valid_action`` is the status of the feedback; where it is null (Python) there is none. The action
``blocked``, which never has a result, stands for a reply that the model's provider held back: it
is kept as a turn that should hold a call but does not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tl_jax.calls.call import ToolSpec
from tl_jax.data.importers.assistant import assistant_calls, unparsable_turn
from tl_jax.data.importers.schemas import declared_tool
from tl_jax.data.trajectory import Message, Trajectory
from tl_jax.errors import RowError

NAME = "intercode"

TOOLS = {
    "ic_sql": declared_tool(
        "execute_sql",
        "Run a query on a MySQL database.",
        query=("string", "The SQL query or command."),
    ),
    "ic_bash": declared_tool(
        "execute_bash", "Run a command in a shell.", command=("string", "The Bash command.")
    ),
    "ic_python": declared_tool("execute_python", "Run Python code.", code=("string", "The code.")),
}
SUBMIT = ToolSpec("submit", "Hand in the result of the last command as the answer.")

_WRAPPED = re.compile(r"execute\[(.*?)\]?", re.DOTALL)
_STATUS = {True: "ok", False: "error", None: ""}


def recognise(row: Any) -> str:
    """Return why ``row`` looks like this format, or an empty string."""
    if isinstance(row, Mapping) and {"environment", "turn_history", "query"} <= set(row):
        return "environment, query and turn_history"
    return ""


def trajectory(row: Mapping[str, Any], *, source: str, line: int) -> Trajectory:
    """Convert one row.

    Raises:
      RowError: No query, an unknown environment, or lists that do not fit each other.
    """
    environment, query = row.get("environment"), row.get("query")
    history = row.get("turn_history")
    if not isinstance(query, str) or not isinstance(history, Mapping):
        raise RowError("'query' must be text and 'turn_history' an object")
    if environment not in TOOLS:
        raise RowError(f"unknown environment {environment!r}; known: {', '.join(TOOLS)}")
    actions, results = history.get("actions"), history.get("observations")
    thoughts, valid = history.get("thoughts"), history.get("valid_action") or []
    if (
        not isinstance(actions, list)
        or not isinstance(results, list)
        or not isinstance(valid, list)
        or not isinstance(thoughts or [], list)
    ):
        raise RowError("actions, observations, valid_action and thoughts must be lists")
    if len(results) > len(actions):
        raise RowError(f"{len(results)} observations for {len(actions)} actions")
    messages = [Message("user", query)]
    for number, action in enumerate(actions):
        thought = str(thoughts[number]) if thoughts and number < len(thoughts) else ""
        blocked = action == "blocked" and number >= len(results)
        messages.append(
            unparsable_turn(action) if blocked else _turn(environment, action, thought, thoughts)
        )
        if number < len(results):
            status = _STATUS[valid[number]] if number < len(valid) else ""
            messages.append(Message("tool", str(results[number]), status=status))
    return Trajectory(
        id=f"{environment}-{row.get('task_id')}:{line}",
        tools=(TOOLS[environment], SUBMIT) if thoughts else (TOOLS[environment],),
        messages=tuple(messages),
        source=source,
        line=line,
        tags=_tags(row, environment),
    )


def _turn(environment: str, action: Any, thought: str, react: Any) -> Message:
    if not isinstance(action, str):
        raise RowError("an action must be text")
    if react and action.strip() == SUBMIT.name:
        return assistant_calls(thought, [(SUBMIT.name, {})])
    wrapped = _WRAPPED.fullmatch(action) if react else None
    tool = TOOLS[environment]
    command = wrapped[1] if wrapped else action
    return assistant_calls(thought, [(tool.name, {tool.parameters[0].name: command})])


def _tags(row: Mapping[str, Any], environment: str) -> dict[str, str]:
    dataset = str(row.get("dataset") or environment).rpartition("/")[2].removesuffix(".json")
    tags = {"task": f"intercode/{dataset}/{row.get('task_id')}", "domain": environment}
    summary = row.get("summary")
    if isinstance(summary, Mapping) and "max_reward" in summary:
        tags["success"] = "true" if summary["max_reward"] == 1 else "false"
    folders = str(row.get("source_path") or "").split("/")
    if len(folders) > 1:
        tags["model"] = folders[-2]
    return tags
