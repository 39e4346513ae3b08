"""Read a turn as calls where they are written as models do that have no form of their own.

JSON objects in any of the shapes that sources have, bare, or in fences or tags of any name at the
end of the turn; ``tool_code`` fences; ReAct's ``Action`` and ``Action Input``; Python calls; a name
and an object behind it. Any text may look like these: here it is calls only if every one is of a
declared tool and nothing follows the last.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tl_jax.calls.call import ToolCall
from tl_jax.calls.parse import parse_calls
from tl_jax.data.importers import thoughts
from tl_jax.data.importers.assistant import sound_call
from tl_jax.data.importers.json_text import load_loose_json
from tl_jax.data.importers.message_calls import ARGUMENTS, NAMES, TOOL_NAMES
from tl_jax.data.importers.message_keys import CALL, CALLS
from tl_jax.data.trajectory import Message
from tl_jax.errors import RowError

_NAMES = ("name", "function", *TOOL_NAMES, *NAMES)
"""Keys of a call under which the name of its tool may stand, as a text."""
_NOTES = frozenset(("id", "type", "index", "tool_call_id", "call_id"))
_FENCE, _CODE = "```", "tool_code"
_FENCED = frozenset(("", "json", "tool_call", "tool_calls", "function_call", "tool_use", "action"))
_REACT = re.compile(r"^[ \t]*Action:[ \t]*([^\s:]++)[ \t]*\n\s*Action Input:", re.MULTILINE)
_THOUGHT, _OBSERVATION, _GLAIVE = "Thought:", "Observation", "<functioncall>"
_ACTION, _END_OF_CALL = "Action:", "</tool_call>"
_CLOSED = re.compile(r"</([A-Za-z_][\w-]*+)>\s*+\Z")
_LONGEST_TAG = 100
_NO_CALLS = ("example", "code", "pre", "output", "response", "result", "schema", "tool_response")
"""Tags whose content is shown, and calls nothing."""
_LLAMA, _BUILTIN, _API = "<|python_tag|>", ".call", "default_api."
_FUNCTIONARY = ">>>"
_QUOTED = re.compile(
    r"\{\s*\"name\"\s*:\s*\"([^\"]+)\"\s*,\s*\"arguments\"\s*:\s*'(.*)'\s*\}\s*", re.DOTALL
)


def written_calls(text: str, known: Collection[str]) -> Message | None:
    """Return the turn of a text that is calls, or says something and then is calls; else None.

    Args:
      text: The text, without blanks round it.
      known: Names of the declared tools.
    """
    readers = (_glaive, _fenced, _react, _bare, _python, _named, _tagged)
    return next(filter(None, (read(text, known) for read in readers)), None) if known else None


def shaped_call(value: Any) -> tuple[Any, Any] | None:
    """Return name and arguments of an object that is a call in some shape and nothing else."""
    if not isinstance(value, Mapping):
        return None
    if isinstance(inner := value.get("function"), Mapping):
        if value.keys() - {"function"} - _NOTES:
            return None
        value = inner
    named = [key for key in _NAMES if isinstance(value.get(key), str)]
    given = [key for key in ARGUMENTS if key in value]
    if len(named) != 1 or len(given) != 1 or value.keys() - {named[0], given[0]} - _NOTES:
        return None
    return value[named[0]], value[given[0]]


def declares(call: ToolCall) -> bool:
    """Whether what was read as a call is the declaration of a tool, whose schema looks like one."""
    arguments = call.arguments
    return arguments.get("type") == "object" and isinstance(arguments.get("properties"), Mapping)


def quoted_call(text: str) -> tuple[Any, Any] | None:
    """Return name and arguments of a call whose arguments are JSON in single quotes, or None."""
    quoted = _QUOTED.fullmatch(text)
    return (quoted[1], quoted[2].replace("\\'", "'")) if quoted else None


def _message(said: str, calls: Sequence[ToolCall], thought: str = "") -> Message:
    return Message("assistant", said.strip(), tuple(calls), thoughts=thought)


def _of_json(text: str, known: Collection[str]) -> Message | None:
    """Return the turn of a text that is a call as JSON, a list of them, or an object with one."""
    try:
        value = load_loose_json(text.strip(), "a call")
    except RowError:
        return None
    thought = ""
    if isinstance(value, Mapping):
        key = next((key for key in (*CALLS, *CALL) if key in value), "")
        others = [other for other in value if key and other != key]
        if not set(others) <= set(thoughts.KEYS):
            return None
        thought = thoughts.joined(*(thoughts.thought_text(value[other]) for other in others))
        value = value[key] if key else value
    found = [shaped_call(one) for one in (value if isinstance(value, list) else [value])]
    calls = [sound_call(*one, keep_names=True) for one in found if one and one[0] in known]
    sound = [call for call in calls if call and not declares(call)]
    return _message("", sound, thought) if sound and len(sound) == len(found) else None


def _bare(text: str, known: Collection[str]) -> Message | None:
    text = text.removeprefix(_LLAMA).lstrip()
    # The tag before it may stand in the prompt.
    return _json(text.removesuffix(_END_OF_CALL), known)


def _json(text: str, known: Collection[str]) -> Message | None:
    return _of_json(text, known) if text.lstrip().startswith(("{", "[")) else None


def _glaive(text: str, known: Collection[str]) -> Message | None:
    said, mark, call = text.partition(_GLAIVE)
    found = quoted_call(call.strip()) if mark else None
    if found is None or found[0] not in known:
        return None
    call = sound_call(*found, keep_names=True)
    return _message(said, [call]) if call else None


def _fenced(text: str, known: Collection[str]) -> Message | None:
    """Read the fences at the end of a text as far as they hold nothing but calls."""
    if not text.endswith(_FENCE):
        return None
    lines = text.split("\n")
    marks = [number for number, line in enumerate(lines) if line.lstrip().startswith(_FENCE)]
    if len(marks) % 2:
        return None
    end, found = len(lines), list[Message]()
    while marks:
        start, stop = marks[-2:]
        kind = lines[start].strip().removeprefix(_FENCE).strip().lower()
        read = _code if kind == _CODE else _json if kind in _FENCED else None
        body = "\n".join(lines[start + 1 : stop])
        alone = lines[stop].strip() == _FENCE and not any(map(str.strip, lines[stop + 1 : end]))
        turn = read(body, known) if read and alone else None
        if turn is None:
            break
        found.insert(0, turn)
        end, marks = start, marks[:-2]
    return _together("\n".join(lines[:end]), found)


def _tagged(text: str, known: Collection[str]) -> Message | None:
    """Read the tags at the end of a text as far as they hold nothing but calls."""
    found: list[Message] = []
    while (mark := _CLOSED.search(text, max(len(text) - _LONGEST_TAG, 0))) is not None:
        start = text.rfind(f"<{mark[1]}>")
        if start < 0 or mark[1].lower() in _NO_CALLS:
            break
        body = text[start + len(mark[1]) + 2 : mark.start()].strip()
        turn = _json(body, known) or _python(body, known) or _named(body, known)
        if turn is None:
            break
        found.insert(0, turn)
        text = text[:start].rstrip()
    return _together(text, found)


def _together(said: str, turns: Sequence[Message]) -> Message | None:
    """Return what is said and the calls behind it as one turn; None if there are no calls."""
    if not turns:
        return None
    thought = thoughts.joined(*(turn.thoughts for turn in turns))
    if (before := said.rstrip()).endswith(_ACTION):
        said, reasoned = _spoken(before.removesuffix(_ACTION))
        thought = thoughts.joined(reasoned, thought)
    return _message(said, [call for turn in turns for call in turn.calls], thought)


def _spoken(said: str) -> tuple[str, str]:
    """Return what is said before an action, and what is only thought."""
    said = said.strip()
    if said.startswith(_THOUGHT):
        return "", said.removeprefix(_THOUGHT).strip()
    return said, ""


def _react(text: str, known: Collection[str]) -> Message | None:
    marks = list(_REACT.finditer(text))
    if len(marks) != 1 or marks[0][1] not in known:
        return None
    given = text[marks[0].end() :].strip().removesuffix(":").removesuffix(_OBSERVATION).rstrip()
    try:
        arguments = load_loose_json(given, "the input of an action") if given else {}
    except RowError:
        return None
    call = sound_call(marks[0][1], arguments, keep_names=True)
    if call is None:
        return None
    said, thought = _spoken(text[: marks[0].start()])
    return _message(said, [call], thought)


def _python(text: str, known: Collection[str]) -> Message | None:
    """Read Python calls on lines of their own."""
    text = text.removeprefix(_LLAMA).lstrip()
    name, bracket, rest = text.partition("(")
    if bracket and name not in known and name.removesuffix(_BUILTIN) in known:
        text = name.removesuffix(_BUILTIN) + bracket + rest
    elif name not in known or not bracket:
        return None
    return _styled(text, "python", known)


def _code(text: str, known: Collection[str]) -> Message | None:
    """Read calls in Gemini's manner, which it may print, and may have from a module."""
    lines = filter(None, map(str.strip, text.split("\n")))
    return _python("\n".join(map(_unprinted, lines)), known) or _python(
        _unprinted(text.strip()), known
    )


def _unprinted(text: str) -> str:
    if text.startswith("print(") and text.endswith(")"):
        text = text.removeprefix("print(").removesuffix(")")
    return text.removeprefix(_API)


def _named(text: str, known: Collection[str]) -> Message | None:
    """Read calls whose name stands on the line before the object, as Functionary and GLM 4 have."""
    text = text.removeprefix(_FUNCTIONARY)
    if text.partition("\n")[0].strip() not in known:
        return None
    return _styled(text, "functionary_v32", known)


def _styled(text: str, style: str, known: Collection[str]) -> Message | None:
    try:
        calls = parse_calls(text, style)
    except ValueError:
        return None
    return _message("", calls) if {call.name for call in calls} <= set(known) else None
