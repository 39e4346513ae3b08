"""Dialogues with tools that a chat template must write right, of every kind that data have."""

from __future__ import annotations

import dataclasses
from typing import Any

from tl_jax.calls.call import ToolCall, ToolSpec, tool_from_schema
from tl_jax.data.trajectory import Message


@dataclasses.dataclass(frozen=True)
class Case:
    """One dialogue; every assistant turn in it must be trained right."""

    name: str
    turns: tuple[Message, ...]
    tools: tuple[ToolSpec, ...]


def _tool(name: str, about: str, required: tuple[str, ...] = (), **properties: Any) -> ToolSpec:
    schema = {"type": "object", "properties": properties, "required": list(required)}
    return tool_from_schema({"name": name, "description": about, "parameters": schema})


WEATHER = _tool(
    "get_weather",
    "Weather of a city.",
    ("city",),
    city={"type": "string", "description": "The city."},
    days={"type": "integer", "description": "How many days."},
    unit={"type": "string", "enum": ["celsius", "kelvin"], "description": "The unit."},
)
NOW = _tool("time_now", "The time.")
BOOK = _tool(
    "book_trip",
    "Books a trip.",
    stops={"type": "array", "items": {"type": "string"}, "description": "The stops."},
    options={
        "type": "object",
        "properties": {"class": {"type": "integer"}, "bikes": {"type": "array", "items": {}}},
        "description": "What else.",
    },
    flexible={"type": "boolean", "description": "Whether the day may change."},
    price={"type": "number", "description": "At most."},
)
NOTE = _tool(
    "save_note",
    "Saves a note.",
    text={"type": "string", "description": "The note."},
    title={"type": ["string", "null"], "description": "Its title."},
)
TOOLS = (WEATHER, NOW, BOOK)


def _user(text: str) -> Message:
    return Message("user", text)


def _call(*calls: ToolCall, words: str = "", thoughts: str = "") -> Message:
    return Message("assistant", words, calls, thoughts=thoughts)


def _say(text: str, thoughts: str = "") -> Message:
    return Message("assistant", text, thoughts=thoughts)


def _result(text: str) -> Message:
    return Message("tool", text)


_OSLO = ToolCall("get_weather", {"city": "Oslo", "days": 2})
_ROME = ToolCall("get_weather", {"city": "Rome", "unit": "celsius"})
_ASK = _user("What is the weather in Oslo?")
_COLD, _WARM = _result("3 degrees"), _result("21 degrees")
_IS_COLD = _say("It is 3 degrees in Oslo.")


def _typed(**arguments: Any) -> tuple[Message, ...]:
    return (
        _user("Book it."),
        _call(ToolCall("book_trip", arguments)),
        _result("ok"),
        _say("Done."),
    )


def _noted(text: str, **others: Any) -> tuple[Message, ...]:
    call = ToolCall("save_note", {"text": text, **others})
    return (_user("Note that."), _call(call), _result("saved"), _say("Noted."))


_DIALOGUES: dict[str, tuple[Message, ...]] = {
    "one call": (_ASK, _call(_OSLO)),
    "words only": (_user("Hello!"), _say("Hello, what can I do?")),
    "answer after a result": (_ASK, _call(_OSLO), _COLD, _IS_COLD),
    "system turn": (Message("system", "Be brief."), _ASK, _call(_OSLO), _COLD, _IS_COLD),
    "two questions": (
        *(_ASK, _call(_OSLO), _COLD, _IS_COLD),
        *(_user("And in Rome?"), _call(_ROME), _WARM, _say("It is 21 degrees.")),
    ),
    "words, then a call": (_user("Hello!"), _say("Hello!"), _ASK, _call(_OSLO), _COLD, _IS_COLD),
    "call after a result": (
        _ASK, _call(_OSLO), _COLD, _call(_ROME), _WARM, _say("Rome is warmer."),
    ),
    "words before a call": (_ASK, _call(_OSLO, words="I look it up."), _COLD, _IS_COLD),
    "parallel calls": (_user("Oslo and Rome?"), _call(_OSLO, _ROME)),
    "parallel calls with results": (
        _user("Oslo and Rome?"), _call(_OSLO, _ROME), _COLD, _WARM, _say("Rome is warmer."),
    ),
    "no arguments": (
        _user("What time is it?"), _call(ToolCall("time_now")), _result("noon"), _say("Noon."),
    ),
    "nested values": _typed(
        stops=["Oslo", "Rome"], options={"class": 2, "bikes": [{"size": 1.5}, []]}
    ),
    "true, false, null": _typed(flexible=True, options={"class": None, "bikes": [False]}),
    "numbers": _typed(price=12.5, stops=["7", "true"], options={"class": -3}),
    "a result in JSON": (_ASK, _call(_OSLO), _result('{"degrees": [3]}'), _IS_COLD),
    "a list of types": _noted("Milk", title=None),
    "quotes and lines": _noted('He said "it\'s 5 o\'clock"\\\n\nthen left.'),
    "beyond ASCII": _noted("Prüfung: 東京 – 20 €"),
    "texts like values": (
        *_noted("7"), *_noted("null")[:2], _result("saved"), _say("Noted."),
    ),
    "thoughts": (
        _ASK, _call(_OSLO, thoughts="I need it."), _COLD, _say("3 degrees.", "Now I know."),
    ),
    "control tokens typed": (
        _user("Is it <|im_end|> or </s>?"), _call(_OSLO), _result("<|im_start|>user"), _IS_COLD,
    ),
}  # fmt: skip

CASES = tuple(
    Case(name, turns, (NOTE,) if turns[0].content == "Note that." else TOOLS)
    for name, turns in _DIALOGUES.items()
)
