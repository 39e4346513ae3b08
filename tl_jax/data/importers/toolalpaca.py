"""Import the training file of ToolAlpaca: APIs, each with dialogues on a simulated server.

A row is one API, ``{"Name", "Documentation", "Function_Projection", "Instances", ...}``; each of
its instances, ``{"input", "output", "intermediate_steps"}``, becomes a dialogue. A step is
``[[action, action input as JSON text, what the model wrote], observation]``.

The tools are read from the OpenAPI ``Documentation``: the parameters of each function and the
fields of its body. ``getDetails``, with which the agent asks the user, was always offered too. The
thought before the last answer is left out, since the answer is what the user reads, and so is the
hint that was added to some questions. An instance without steps has nothing to learn calls from and
is refused, as the published script does.

The evaluation files of ToolAlpaca have ``Golden_Answers`` and no instances; no row of them is read
(``evaluation_sets``).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tl_jax.calls.call import ToolSpec
from tl_jax.data.importers.assistant import assistant_turn
from tl_jax.data.importers.json_text import load_json
from tl_jax.data.importers.schemas import normalised_tools, repair_tags
from tl_jax.data.trajectory import Message, Trajectory
from tl_jax.errors import RowError

NAME = "toolalpaca"

_DETAILS = {
    "name": "getDetails",
    "description": "Ask the user for details that the question lacks.",
    "parameters": {
        "type": "object",
        "properties": {"Question": {"type": "string", "description": "What to ask the user."}},
        "required": ["Question"],
    },
}
_ACTION = re.compile(r"\n?(?:ASSISTANT )?Action\s*\d*\s*:")
_HINT = "\nHint: "
_MOST_VALUES = 200_000  # in the documentation of an API with all references replaced


def recognise(row: Any) -> str:
    """Return why ``row`` looks like this format, or an empty string."""
    if isinstance(row, Mapping) and {"Documentation", "Function_Projection"} <= row.keys():
        if "Instances" in row or "Golden_Answers" in row:
            return "an API with Documentation and Function_Projection"
    return ""


def split(row: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return one row for each instance of an API, or the row itself if it has none."""
    instances = row.get("Instances")
    if not isinstance(instances, list) or not instances:
        return (row,)
    api = {key: value for key, value in row.items() if key != "Instances"}
    return [{**api, "Instances": [one], "Number": n} for n, one in enumerate(instances)]


def trajectory(row: Mapping[str, Any], *, source: str, line: int) -> Trajectory:
    """Convert one instance, as ``split`` gives it.

    Raises:
      RowError: No instance, no steps in it, or documentation that cannot be read.
    """
    instances = row.get("Instances")
    if not isinstance(instances, list) or len(instances) != 1:
        raise RowError("the API has no instances")
    instance, name = instances[0], str(row.get("Name"))
    steps = instance.get("intermediate_steps") if isinstance(instance, Mapping) else None
    if not isinstance(steps, list) or not steps:
        raise RowError("an instance without intermediate_steps")
    question, answer = instance.get("input"), instance.get("output")
    if not isinstance(question, str) or not isinstance(answer, str):
        raise RowError("'input' and 'output' of an instance must be texts")
    messages = [Message("user", question.rsplit(_HINT, 1)[0])]
    for step in steps:
        messages += _step(step)
    if answer.strip():
        messages.append(Message("assistant", answer))
    repairs: Counter[str] = Counter()
    return Trajectory(
        id=f"{name}-{row.get('Number', 0)}:{line}",
        tools=api_tools(row, repairs),
        messages=tuple(messages),
        source=source,
        line=line,
        tags={"domain": str(row.get("Category") or ""), **repair_tags(repairs)},
    )


def _step(step: Any) -> list[Message]:
    (name, arguments, written), result = step
    if not all(isinstance(part, str) for part in (name, arguments, written, result)):
        raise RowError("a step must be made of texts")
    thought = _ACTION.split(written, maxsplit=1)[0].strip().removeprefix("Thought:").strip()
    return [assistant_turn(written, name, arguments, thought), Message("tool", result)]


def api_tools(row: Mapping[str, Any], repairs: Counter[str]) -> tuple[ToolSpec, ...]:
    """Return the functions of an API, and ``getDetails``.

    Args:
      row: An API with ``Documentation`` (OpenAPI as JSON text), ``Function_Projection`` (path and
        method by function) and ``Function_Description``.
      repairs: Counts of repairs by kind; added to.

    Raises:
      RowError: One of them is missing or cannot be read.
    """
    spec, projection = row.get("Documentation"), row.get("Function_Projection")
    spec = load_json(spec, "'Documentation'") if isinstance(spec, str) else spec
    if not isinstance(spec, Mapping) or not isinstance(projection, Mapping):
        raise RowError("'Documentation' and 'Function_Projection' must be objects")
    resolved = _resolver(spec)
    functions: list[Mapping[str, Any]] = [_DETAILS]
    for name, place in projection.items():
        path, method = place
        shared = spec["paths"][path]
        operation = shared[method]
        properties: dict[str, Any] = {}
        required: list[str] = []
        listed = (*(shared.get("parameters") or ()), *(operation.get("parameters") or ()))
        for parameter in map(resolved, listed):
            schema = parameter.get("schema") or {}
            properties[parameter["name"]] = {
                **schema,
                "description": parameter.get("description") or schema.get("description") or "",
            }
            required += [parameter["name"]] if parameter.get("required") is True else []
        body = _body(operation, resolved)
        properties |= body.get("properties") or {}
        required += body.get("required") or []
        described = row.get("Function_Description") or {}
        text = operation.get("description") or operation.get("summary")
        functions.append(
            {
                "name": name,
                "description": text or str(described.get(name) or "").partition("\n")[0],
                "parameters": {"type": "object", "properties": properties, "required": required},
            }
        )
    return normalised_tools(functions, repairs)


def _body(operation: Mapping[str, Any], resolved: Callable[[Any], Any]) -> Mapping[str, Any]:
    content = resolved(operation.get("requestBody") or {}).get("content") or {}
    media = next(iter(content.values()), {})
    return media.get("schema") or {}


def _resolver(spec: Mapping[str, Any]) -> Callable[[Any], Any]:
    """Return a function that replaces the references in a part of the documentation.

    A reference within what it names stands for anything. The function raises RowError when all
    that it has returned becomes too much, as with references to many of the next.
    """
    left = _MOST_VALUES

    def resolve(value: Any, within: tuple[str, ...]) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise RowError(f"the documentation has over {_MOST_VALUES} values behind references")
        if isinstance(value, list):
            return [resolve(entry, within) for entry in value]
        if not isinstance(value, Mapping):
            return value
        reference = value.get("$ref")
        if isinstance(reference, str):
            if reference in within:
                return {}
            found: Any = spec
            for key in reference.removeprefix("#/").split("/"):
                found = found[key]
            return resolve(found, (*within, reference))
        return {key: resolve(entry, within) for key, entry in value.items()}

    return lambda value: resolve(value, ())
