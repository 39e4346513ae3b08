"""Import STAR: dialogues between two people, one of whom works the tools through forms.

A row is one dialogue with ``Events`` and a ``Scenario``; the forms are in ``apis.json``. Only what
the two say and what the tools return is kept: hints to the user and choices in the interface are
not. The forms that a dialogue's wizard can use are its tools, the wizard's task its system turn.

A query is ``Constraints: [{name: value}]``, where a value is text: a JSON literal (also ``True``,
``False``), or a condition on one. Decided here:

- Quotes are taken off. A field of words stays text, also where it holds a number (a PIN may begin
  with 0), without blanks round it; a field of numbers or yes and no becomes one.
- ``api.is_equal_to(x)`` means the same as ``x`` and is written so. ``api.is_one_of([...])`` and
  ``api.contains(x)`` become the list and the value; other conditions, such as
  ``api.is_at_least(3)``, the object ``{"is_at_least": 3}``. The schemas allow these forms.
- An empty or ``null`` value is an empty field and left out.
- If a field is given twice, conditions of different kinds are joined, else the last one holds.
- Feedback is the returned item, with ``TotalItems`` where the form searches (else it is -1).

Whether a call went wrong is only said in the text of the feedback, so it has no status.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tl_jax.data.importers.assistant import assistant_calls
from tl_jax.data.importers.json_text import load_json
from tl_jax.data.importers.schemas import repair_tags
from tl_jax.data.importers.side_files import read_table
from tl_jax.data.importers.toolbox import Toolbox, needed, toolbox
from tl_jax.data.trajectory import Message, Trajectory
from tl_jax.errors import RowError

NAME = "star"
TOOLS_FILES = ("apis.json",)

_CONDITION = re.compile(r"api\.(\w+)\((.*)\)", re.DOTALL)
_COMPARISONS = "is_at_least, is_at_most, is_greater_than, is_less_than or is_not"
_WORDS = {"True": True, "False": False, "None": None}


def recognise(row: Any) -> str:
    """Return why ``row`` looks like this format, or an empty string."""
    if isinstance(row, Mapping) and {"Events", "Scenario"} <= set(row):
        return "Events and Scenario"
    return ""


def load_tools(path: str | os.PathLike[str]) -> Toolbox:
    """Read ``apis.json``: per form its input fields and which of them are required."""
    forms = read_table(path)
    return toolbox((_function(name, form) for name, form in forms.items()), path)


def trajectory(
    row: Mapping[str, Any], *, source: str, line: int, tools: Toolbox | None = None
) -> Trajectory:
    """Convert one row.

    Raises:
      RowError: No events or scenario, or an event without its text.
    """
    known = needed(tools, TOOLS_FILES)
    events, scenario = row.get("Events"), row.get("Scenario")
    if not isinstance(events, list) or not isinstance(scenario, Mapping):
        raise RowError("'Events' must be a list and 'Scenario' an object")
    tasks = [entry["Task"] for entry in scenario.get("WizardCapabilities") or ()]
    called = [event["APIName"] for event in events if event.get("Action") == "query"]
    repairs: Counter[str] = Counter()
    offered = known.named([*tasks, *called], repairs)
    system = scenario.get("WizardTask")
    messages = [Message("system", system)] if isinstance(system, str) and system else []
    for number, event in enumerate(events):
        messages += _said(event, number, known)
    plan = str(scenario.get("UserTask"))
    return Trajectory(
        id=f"star-{row.get('DialogueID')}:{line}",
        tools=offered,
        messages=tuple(messages),
        source=source,
        line=line,
        tags={
            "task": f"star/{hashlib.sha256(plan.encode()).hexdigest()[:16]}",
            "domain": "+".join(tasks),
            **repair_tags(repairs),
        },
    )


def _said(event: Mapping[str, Any], number: int, tools: Toolbox) -> list[Message]:
    agent, action = event.get("Agent"), event.get("Action")
    if action == "query":
        arguments = _arguments(event["APIName"], event["Constraints"], tools)
        return [assistant_calls("", [(event["APIName"], arguments)])]
    if action == "return_item":
        total = event.get("TotalItems")
        found = {} if total == -1 else {"TotalItems": total}
        item = event.get("Item")
        content = {**found, **({"Item": item} if found and item is not None else item or {})}
        return [Message("tool", json.dumps(content, ensure_ascii=False))]
    if (agent, action) in (("User", "utter"), ("Wizard", "utter"), ("Wizard", "pick_suggestion")):
        text = event.get("Text")
        if not isinstance(text, str):
            raise RowError(f"event {number}: 'Text' must be text")
        return [Message("user" if agent == "User" else "assistant", text)]
    return []


def _arguments(
    form: str, constraints: Iterable[Mapping[str, str]], tools: Toolbox
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    tool = tools.tools.get(form)
    for constraint in constraints:
        for name, written in constraint.items():
            parameter = tool.parameter(name) if tool else None
            value = _value(written, parameter is not None and parameter.type == "string")
            before = found.pop(name, None)
            if isinstance(before, dict) and isinstance(value, dict):
                value = {**before, **value}
            if value is not None:
                found[name] = value
    return found


def _value(written: str, is_text: bool) -> Any:
    condition = _CONDITION.fullmatch(written.strip())
    if condition is None:
        return _literal(written, is_text)
    kind, value = condition[1], _literal(condition[2], is_text)
    if value is None or kind in ("is_equal_to", "is_one_of", "contains"):
        # Equal to a list of one is the form's way to say equal to it.
        if kind == "is_equal_to" and isinstance(value, list) and len(value) == 1:
            return value[0]
        return value
    return {kind: value}


def _literal(written: str, is_text: bool) -> Any:
    text = written.strip()
    if not text:
        return None
    try:
        value = _WORDS[text] if text in _WORDS else load_json(text, "a value")
    except RowError:
        return text
    return text if is_text and isinstance(value, (int, float)) else value


def _function(name: str, form: Mapping[str, Any]) -> dict[str, Any]:
    properties = {field["Name"]: _schema(field) for field in form["input"]}
    return {
        "name": name,
        "description": f"{name.replace('_', ' ').capitalize()}.",
        "parameters": {"properties": properties, "required": form.get("required") or []},
    }


def _schema(field: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of a field and of the conditions that its kind takes."""
    kind, label = field["Type"], str(field.get("ReadableName") or field["Name"])
    values = field.get("Categories")
    if kind == "Integer":
        number = {"type": "number"}
        limits = {"Min": "minimum", "Max": "maximum"}
        number |= {key: field[limit] for limit, key in limits.items() if limit in field}
        text = f'{label}. A number, or a condition {{"kind": number}}; kinds: {_COMPARISONS}.'
        return {"description": text, "anyOf": [number, {"type": "object"}]}
    if kind == "Boolean":
        return {"type": "boolean", "description": f"{label}."}
    if kind == "RequestType":
        return {"type": "string", "description": f"{label}.", "enum": values}
    if kind in ("Categorical", "CategoricalMultiple"):
        value = {"type": "string", "enum": values}
        forms = [value, {"type": "array", "items": {"type": "string"}}]
        if kind == "CategoricalMultiple":
            forms = [value, {"type": "object"}]
        listed = ", ".join(map(str, values or ()))
        more = "or a list of them" if kind == "Categorical" else 'or {"contains_not": one}'
        return {"description": f"{label}. One of {listed}; {more}.", "anyOf": forms}
    return {"type": "string", "description": f"{label}."}
