"""The rules by which ACEBench scores calls, stated anew; nothing is executed.

They let a lot pass: numbers and booleans need their type only, a text need only hold the gold text,
a value of the gold's own type passes whatever it is where the tool declares another type, and
arguments of the gold call that the tool does not require may be missing. ``suites.acebench`` says
beside the released figure what is right when all values are compared.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tl_jax.calls.call import ToolCall
from tl_jax.evaluate.suites.bfcl_checker import folded

_NUMBERED = re.compile(r"_\d+$")
_TYPES = {
    "string": str,
    "any": str,
    "integer": int,
    "int": int,
    "number": int,
    "float": float,
    "boolean": bool,
    "array": list,
    "list": list,
    "tuple": list,
    "list(string)": list,
    "list(enum)": list,
    "dict": dict,
    "object": dict,
}
_WITH_ITEMS = ("array", "tuple", "list(string)", "list(enum)", "object")
_BOOLEANS = {"true": True, "false": False}


def fault_of_calls(
    calls: Sequence[ToolCall],
    answer: Mapping[str, Mapping[str, Any]],
    functions: Sequence[Mapping[str, Any]],
) -> str:
    """Return what is wrong with the calls of a reply, or an empty text.

    Args:
      calls: The calls, in any order.
      answer: Arguments by tool, whose name has ``_1``, ``_2`` after it where several are due.
      functions: The offered functions as ACEBench declares them.

    Returns:
      ``wrong_count``, ``wrong_tool``, ``missing_required``, ``unexpected_argument``,
      ``wrong_type`` or ``wrong_value``; the last that was found.

    Raises:
      KeyError: An answer names no offered function.
    """
    if len(calls) != len(answer):
        return "wrong_count"
    due = [(_NUMBERED.sub("", name), name, arguments) for name, arguments in answer.items()]
    if Counter(call.name for call in calls) != Counter(name for name, _, _ in due):
        return "wrong_tool"
    for name, numbered, arguments in due:
        function = next((f for f in functions if f["name"] in numbered), None)
        if function is None:
            raise KeyError(f"an answer names {name}, which is not offered")
        # One call may meet several answers.
        faults = [_fault_of_call(c, arguments, function) for c in calls if c.name == name]
        if all(faults):
            return faults[-1]
    return ""


def tool_of_answer(name: str, functions: Sequence[Mapping[str, Any]]) -> str:
    """Return the name of the tool that an answer means, without the number of its call."""
    return name if any(f["name"] == name for f in functions) else _NUMBERED.sub("", name)


def _fault_of_call(call: ToolCall, gold: Mapping[str, Any], function: Mapping[str, Any]) -> str:
    schema = function["parameters"]
    if not call.arguments and not schema:
        return ""
    if not call.arguments:
        return "missing_required"
    if not schema:
        return "unexpected_argument"
    properties = schema["properties"]
    if gold == properties:
        return ""
    if not gold:
        return "unexpected_argument"
    if function["name"] != call.name:
        return "wrong_tool"
    if any(key not in call.arguments for key in schema["required"]):
        return "missing_required"
    for key, value in call.arguments.items():
        if key not in properties or key not in gold:
            return "unexpected_argument"
        if fault := _fault_of_value(value, gold[key], properties[key]):
            return fault
    return ""


def _fault_of_value(value: Any, gold: Any, schema: Mapping[str, Any]) -> str:
    kind = schema["type"]
    declared = _TYPES.get(kind)
    if kind == "float" and type(value) is int:
        value = float(value)
    read = _as_boolean(value)
    if type(read) is not declared:
        known = gold != "" and (type(read) is type(gold) or gold == read)
        return "" if known else "wrong_type"
    item = _item_type(kind, schema) if kind in _WITH_ITEMS else None
    if item is not None and not any(_items_fit(read, entry, item) for entry in gold):
        return "wrong_type"
    if gold != "" and type(gold) is not declared:
        return ""
    if declared is dict:
        equal = _dicts_fit(value, gold)
    elif declared is list and item is dict:
        equal = len(value) == len(gold) and all(map(_dicts_fit, value, gold))
    elif declared is list:
        equal = [folded(entry) for entry in value] == [folded(entry) for entry in gold]
    else:
        equal = declared is not str or folded(gold) in folded(value)
    return "" if equal else "wrong_value"


def _item_type(kind: str, schema: Mapping[str, Any]) -> type:
    items = schema.get("items")
    named = items.get("type") if isinstance(items, Mapping) else None
    if isinstance(named, str):
        return _TYPES.get(named, dict)
    return str if "string" in kind else dict


def _items_fit(value: Any, entry: Any, item: type) -> bool:
    """Whether all items have a type, which is asked only where the gold item is a list itself."""
    if not isinstance(entry, list):
        return True
    return all(type(found) in (item, list) or found == entry for found in value)


def _dicts_fit(value: Any, gold: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(gold, dict) or len(value) != len(gold):
        return False
    return all(key in gold and _entry_fits(entry, gold[key]) for key, entry in value.items())


def _entry_fits(value: Any, gold: Any) -> bool:
    value = _as_boolean(value)
    if isinstance(gold, dict):
        return _dicts_fit(value, gold)
    return str(folded(gold)) in str(folded(value))


def _as_boolean(value: Any) -> Any:
    return _BOOLEANS.get(value, value) if isinstance(value, str) else value
