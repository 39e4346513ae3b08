"""Read the calls of a message: name, arguments and id, in any of the shapes that sources have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tl_jax.calls.call import ToolCall
from tl_jax.calls.parse import CallSyntaxError, parse_call
from tl_jax.data.importers.assistant import sound_call
from tl_jax.data.importers.declarations import TEXT_PARAMETER
from tl_jax.data.importers.json_text import load_json, load_loose_json
from tl_jax.data.importers.names import KEPT, writable_name
from tl_jax.data.importers.nulls import says_nothing, without_null_arguments
from tl_jax.data.importers.reading import Reading
from tl_jax.data.importers.unread import changed, decoded, read_keys, read_whole, unread_here
from tl_jax.errors import RowError

TOOL_NAMES = ("tool_name", "toolName", "function_name", "functionName")
"""Keys of a call or a result under which the name of its tool may stand."""
_HOLDERS = ("function_call", "tool_call", "functionCall", "toolCall", "tool", "action")
"""Other keys of a call than ``function`` under which all of it may stand, as an object."""
NAMES = ("method", "recipient_name", "tool", "action", "func", "api_name", "api")
"""Other keys of a call under which the name may stand, as a text."""
ARGUMENTS = (
    "arguments", "args", "parameters", "input", "params", "kwargs", "argument", "action_input",
    "tool_input", "tool_args", "toolArgs", "tool_arguments", "function_arguments", "inputs",
)  # fmt: skip
"""Keys of a call under which its arguments may stand."""
_IDS = ("id", "call_id", "toolCallId", "tool_call_id")
RESULTS = ("result", "output", "response", "observation")
"""Keys of a call under which its result may stand."""
_CUSTOM = ("custom", "custom_tool_call")

Found = tuple[Any, Any, str]
"""Name, arguments and id of a call; the name is None where there is none."""


def listed_calls(entry: Mapping[str, Any], key: str) -> Sequence[Any]:
    """Return the calls of a list under a key of a message, or of its JSON text.

    Raises:
      RowError: No list.
    """
    calls = decoded(entry, key, lambda text: load_json(text, "a list of calls"))
    if isinstance(calls, Mapping):
        return () if says_nothing(calls) else (calls,)
    if calls is not None and not isinstance(calls, list):
        raise RowError(f"{key!r} must be a list")
    return [call for call in calls or () if not says_nothing(call)]


def single_call(entry: Mapping[str, Any], key: str) -> Sequence[Any]:
    """Return the one call under a key of a message, or of its JSON text, if it is there."""
    call = decoded(entry, key, lambda text: load_loose_json(text, "a call"))
    return () if says_nothing(call) else (call,)


def first(entry: Mapping[str, Any], keys: Sequence[str]) -> str:
    """Return the first value under one of the keys as text; empty if there is none."""
    return next((str(value) for key in keys if (value := entry.get(key))), "")


def without_repeats(places: Sequence[Sequence[Found]], repairs: Counter[str]) -> Sequence[Found]:
    """Return the calls of a message from all places that hold some, each once.

    Sources keep the same calls in several places, for old and new readers.

    Raises:
      RowError: Several places that hold other calls than each other.
    """
    filled = [calls for calls in places if calls]
    if len(filled) < 2:
        return filled[0] if filled else ()
    most = max(filled, key=len)
    known = [_sound(call) for call in most]
    for calls in filled:
        if calls is most:
            continue
        if any(_sound(call) not in known for call in calls):
            raise RowError("a message with other calls in 'tool_calls' than elsewhere in it")
        repairs["repeated_call"] += len(calls)
    return most


def _sound(found: Found) -> ToolCall | None:
    return sound_call(found[0], found[1], keep_names=True)


def found_call(call: Any, reading: Reading) -> Found:
    """Return name, arguments and id of a call as it is found.

    Raises:
      RowError: A call of free text without any, or one of which nothing is read.
    """
    if isinstance(call, str):
        try:
            call = load_loose_json(call, "a call")
        except RowError:
            return _written(call)
    if not isinstance(call, Mapping):
        return None, call, ""
    read_keys(call, ("type",))
    call_id = first(call, _IDS)
    inner = decoded(call, "function", _object_or_name)
    if isinstance(inner, Mapping):
        call = inner
    elif holder := next((k for k in _HOLDERS if isinstance(_peek(call, k), Mapping)), ""):
        name, arguments, inner_id = found_call(call[holder], reading)
        return name, arguments, call_id or inner_id
    elif isinstance(custom := call.get("custom"), Mapping):
        call = _of_text(custom, reading)
    elif call.get("type") in _CUSTOM and isinstance(call.get("input"), str):
        call = _of_text(call, reading)
    name = call.get("name", inner) or first(call, TOOL_NAMES) or _text_under(call, NAMES)
    if isinstance(name, str) and "recipient_name" in call:
        name = name.removeprefix("functions.")
    key = next((k for k in ARGUMENTS if k in call), "")
    arguments = _arguments(call.get(key))
    if not name or not key:
        _refuse_unread(call)
    reading.repairs[KEPT] += isinstance(name, str) and writable_name(name) != name
    if isinstance(arguments, Mapping):
        tool = reading.tools.get(name.strip()) if isinstance(name, str) else None
        arguments = without_null_arguments(
            arguments, tool, table=reading.table, repairs=reading.repairs
        )
    return name, arguments, call_id


def _object_or_name(text: str) -> Any:
    return load_json(text, "a call") if text.lstrip().startswith("{") else text


def _text_under(call: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    return next((call[key] for key in keys if key in call and isinstance(call[key], str)), None)


def _refuse_unread(call: Mapping[str, Any]) -> None:
    """Refuse a call without name or arguments that has something else to say."""
    unread = [key for key in unread_here(call) if key not in RESULTS]
    if unread:
        raise RowError(
            f"a call of which {', '.join(map(repr, unread[:5]))} is not read; give it 'name' and "
            "'arguments'"
        )


def inner_results(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the results that a message keeps beside its calls or inside them, as messages."""
    found: list[Mapping[str, Any]] = []
    calls = entry.get("tool_calls") if isinstance(entry.get("tool_calls"), list) else ()
    for call in calls or ():
        key = next((k for k in RESULTS if isinstance(call, Mapping) and k in call), None)
        if key is not None and not says_nothing(call[key]):
            call_id = first(call, _IDS)
            found.append({"role": "tool", "content": call[key], "tool_call_id": call_id})
    if isinstance(results := entry.get("tool_results"), list):
        found += [changed(one, role="tool") for one in results if isinstance(one, Mapping)]
    return found


def several_results(entry: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    """Return the results of a message that holds several, as messages; None if it holds one."""
    for key in ("tool_responses", "tool_results", "content"):
        if key in entry and _are_results(entry, key):
            entry.get("content")  # which may have the texts of all again
            return [_result(one) for one in entry[key]]
    return None


def _are_results(entry: Mapping[str, Any], key: str) -> bool:
    """Whether a list of results stands under a key, each of a call that it names."""
    value = _peek(entry, key)
    if not isinstance(value, list) or not value:
        return False
    return all(
        isinstance(one, dict) and ("tool_call_id" in one or {"call", "outputs"} <= one.keys())
        for one in value
    )


def _result(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return one of several results as a message; Cohere has each with its call."""
    if "tool_call_id" in entry:
        return changed(entry, role="tool")
    call = entry["call"]
    read_whole(call, ("parameters",))
    name = call.get("name") if isinstance(call, Mapping) else None
    return changed(entry, role="tool", name=name, content=entry["outputs"])


def _of_text(custom: Mapping[str, Any], reading: Reading) -> Mapping[str, Any]:
    """Return a call of a tool that takes free text as one of a function with that parameter.

    Raises:
      RowError: It has none, so that nothing is called with it.
    """
    text = custom.get("input")
    if not isinstance(text, str):
        raise RowError(f"the input of a custom call must be text, not {type(text).__name__}")
    reading.repairs["custom_call"] += 1
    return {"name": custom.get("name"), "arguments": {TEXT_PARAMETER: text}}


def _arguments(value: Any) -> Any:
    """Read arguments given as the text of a Python dictionary, or of JSON with a null in it.

    So are those that are a list of names and values. All other JSON text is read later.
    """
    if isinstance(value, list) and value and all(map(_is_pair, value)):
        named = {one.get("name", one.get("key")): one["value"] for one in value}
        return named if len(named) == len(value) else value
    if isinstance(value, str) and (value.lstrip().startswith("{'") or "null" in value):
        try:
            return load_loose_json(value, "arguments")
        except RowError:
            pass
    return value


def _is_pair(value: Any) -> bool:
    return isinstance(value, Mapping) and value.keys() in ({"name", "value"}, {"key", "value"})


def _written(text: str) -> Found:
    """Return a call that is written as Python, or the text as what is none."""
    try:
        call = parse_call(text)
    except CallSyntaxError:
        return None, text, ""
    return call.name, dict(call.arguments), ""


def _peek(holder: Mapping[str, Any], key: str) -> Any:
    return dict.get(holder, key) if isinstance(holder, dict) else holder.get(key)
