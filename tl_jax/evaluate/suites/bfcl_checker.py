"""The rules by which BFCL scores calls of Python functions, stated anew; nothing is executed.

1. The answer lists the accepted values of every argument. An empty string among them means that the
   argument may be left out; the same holds for every key of a dictionary.
2. Strings are equal without blanks and the characters ``,./-_*^``, whatever their case and quotes:
   as arguments, as items of a list and as values of a dictionary, no deeper.
3. A required argument must be there, even where the answer says that it may be left out.
4. What the answer does not list is wrong, be it the default of the schema.
5. An integer passes for a float as an argument only, not as an item of a list; a float never passes
   for an integer.
6. An answer of another type than the declared one is met by equality alone.
7. Where several calls are due, the answers take them in their order, each the first that fits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tl_jax.calls.call import ToolCall

FAULTS: Mapping[str, str] = {
    "wrong_count": "another number of calls than is due",
    "wrong_tool": "another tool",
    "missing_required": "a required argument is left out",
    "unexpected_argument": "an argument that the answer does not list",
    "wrong_type": "a value of another type",
    "wrong_value": "a value that is not accepted",
    "missing_argument": "an argument is left out that the answer does not mark as optional",
    "no_match": "no call is left that meets one of the answers",
}
"""What can be wrong with the calls of a reply."""

Answer = Mapping[str, Mapping[str, Sequence[Any]]]
"""One accepted call, ``{tool: {argument: accepted values}}``."""

_TYPES = {
    "string": str,
    "any": str,
    "integer": int,
    "float": float,
    "boolean": bool,
    "array": list,
    "tuple": list,
    "dict": dict,
}
_IGNORED = str.maketrans({character: None for character in " ,./-_*^"} | {"'": '"'})


def fault_of_calls(
    calls: Sequence[ToolCall],
    answers: Sequence[Answer],
    functions: Sequence[Mapping[str, Any]],
    *,
    parallel: bool,
) -> str:
    """Return what is wrong with the calls of a reply, a key of ``FAULTS``, or an empty text.

    Args:
      calls: The calls, their values JSON-like.
      answers: The calls that are due.
      functions: The offered functions as BFCL declares them, ``{name, parameters}``.
      parallel: Whether the item belongs to a parallel category, whose calls come in any order.

    Raises:
      KeyError: An answer names no offered function, or one of its arguments has no such type.
    """
    if len(calls) != len(answers):
        return "wrong_count"
    if not parallel:
        return fault_of_call(calls[0], answers[0], functions) if calls else ""
    left = list(calls)
    for answer in answers:
        fits = (i for i, call in enumerate(left) if not fault_of_call(call, answer, functions))
        found = next(fits, None)
        if found is None:
            return "no_match"
        del left[found]
    return ""


def fault_of_call(call: ToolCall, answer: Answer, functions: Sequence[Mapping[str, Any]]) -> str:
    """Return what is wrong with one call where one answer is due; see ``fault_of_calls``."""
    ((name, accepted),) = answer.items()
    schema = _parameters(functions, name)
    if call.name != name:
        return "wrong_tool"
    given = call.arguments
    if any(key not in given for key in schema["required"]):
        return "missing_required"
    for key, value in given.items():
        if key not in schema["properties"] or key not in accepted:
            return "unexpected_argument"
        if fault := _fault_of_value(value, accepted[key], schema["properties"][key]):
            return fault
    if any(key not in given and "" not in values for key, values in accepted.items()):
        return "missing_argument"
    return ""


def _parameters(functions: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    for function in functions:
        if function["name"] == name:
            return function["parameters"]
    raise KeyError(f"an answer names {name}, which is not offered")


def _fault_of_value(value: Any, accepted: Sequence[Any], schema: Mapping[str, Any]) -> str:
    kind = schema["type"]
    declared = _TYPES[kind]
    if kind == "float" and type(value) is int:
        value = float(value)
    # Most answers that have another type are null, or stand for a variable of a program.
    answered = next((type(choice) for choice in accepted if choice != ""), None)
    if type(value) is not declared:
        if type(value) is not answered:
            return "wrong_type"
        return "" if value in accepted else "wrong_value"
    item = _TYPES[schema["items"]["type"]] if kind in ("array", "tuple") else None
    if item is not None and not any(_items_fit(value, choice, item) for choice in accepted):
        return "wrong_type"
    if answered not in (None, declared):
        return "" if value in accepted else "wrong_value"
    return (
        "" if any(_equal(value, choice, declared, item) for choice in accepted) else "wrong_value"
    )


def _items_fit(value: Sequence[Any], choice: Any, item: type) -> bool:
    """Whether all items have the declared type, or that of the first item of an accepted list."""
    if not isinstance(choice, list):
        return True
    answered = next((type(entry) for entry in choice if entry != ""), None)
    return all(type(entry) in (item, answered) for entry in value)


def _equal(value: Any, choice: Any, declared: type, item: type | None) -> bool:
    if declared is dict:
        return _dicts_equal(value, choice)
    if declared is list:
        # Where the argument may be left out, an empty list is as good.
        choice = [] if choice == "" else choice
        if not isinstance(choice, list) or len(value) != len(choice):
            return False
        if item is dict:
            return all(map(_dicts_equal, value, choice))
        return [folded(entry) for entry in value] == [folded(entry) for entry in choice]
    return folded(value) == folded(choice)


def _dicts_equal(value: Any, choice: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(choice, dict):
        return False
    known = all(
        key in choice and folded(entry) in [folded(option) for option in choice[key]]
        for key, entry in value.items()
    )
    return known and all(key in value or "" in options for key, options in choice.items())


def folded(value: Any) -> Any:
    """Return what a string is compared by; other values as they are."""
    return value.translate(_IGNORED).lower() if isinstance(value, str) else value
