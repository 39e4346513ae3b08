"""Calls held against the manual of their tool."""

import dataclasses

import pytest

from tl_jax.calls.call import ToolCall, tool_from_schema
from tl_jax.data.mae.labels import label_turns
from tl_jax.data.mae.schema_checks import check_call
from tl_jax.data.trajectory import Message, Trajectory

PROPERTIES = {
    "city": {"type": "string"},
    "days": {"type": "integer"},
    "price": {"type": "number"},
    "exact": {"type": "boolean"},
    "unit": {"type": "string", "enum": ["C", "F"]},
    "level": {"type": "integer", "enum": [1, 2]},
    "tags": {"type": "array", "items": {"type": "string"}},
    "place": {"type": "object", "properties": {"zip": {"type": "integer"}}},
    "either": {"type": ["string", "null"]},
    "odd": {"type": "date"},
    "nested": {"type": ["string", {"type": "integer"}]},
    "free": {"description": "anything"},
}
TOOL = tool_from_schema(
    {"name": "f", "parameters": {"properties": PROPERTIES, "required": ["city"]}}
)


def category(name="f", tools=(TOOL,), **arguments):
    fault = check_call(ToolCall(name, arguments), tools)
    return fault and fault.category


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"city": "Rome"}, None),
        ({}, "parameter_missing"),
        ({"city": "Rome", "town": 1}, "parameter_hallucination"),
        ({"town": 1}, "parameter_hallucination"),
        ({"city": 5}, "content_filling"),
        ({"city": None}, "content_filling"),
        ({"city": "Rome", "days": None}, None),
        ({"city": "Rome", "days": 2}, None),
        ({"city": "Rome", "days": 2.0}, None),
        ({"city": "Rome", "days": "2"}, None),
        ({"city": "Rome", "days": 10**400}, None),
        ({"city": "Rome", "days": 2.5}, "content_filling"),
        ({"city": "Rome", "days": "two"}, "content_filling"),
        ({"city": "Rome", "days": True}, "content_filling"),
        ({"city": "Rome", "days": float("inf")}, "content_filling"),
        ({"city": "Rome", "price": "nan"}, "content_filling"),
        ({"city": "Rome", "price": 1}, None),
        ({"city": "Rome", "exact": "true"}, None),
        ({"city": "Rome", "exact": 1}, "content_filling"),
        ({"city": "Rome", "nested": 5}, None),
        ({"city": "Rome", "unit": "F"}, None),
        ({"city": "Rome", "unit": "K"}, "content_filling"),
        ({"city": "Rome", "level": "2"}, None),
        ({"city": "Rome", "level": 3}, "content_filling"),
        ({"city": "Rome", "tags": ["a"]}, None),
        ({"city": "Rome", "tags": ("a",)}, None),
        ({"city": "Rome", "tags": "a"}, "content_filling"),
        ({"city": "Rome", "tags": ["a", 1]}, "content_filling"),
        ({"city": "Rome", "place": {"zip": 1, "more": 2}}, None),
        ({"city": "Rome", "place": {"zip": "x"}}, "content_filling"),
        ({"city": "Rome", "either": None}, None),
        ({"city": "Rome", "either": 3}, "content_filling"),
        ({"city": "Rome", "odd": 3}, None),
        ({"city": "Rome", "free": [{}]}, None),
    ],
)
def test_a_call_is_held_against_the_manual(arguments, expected):
    assert category(**arguments) == expected


def test_an_unknown_tool_is_the_gravest_fault_unless_no_manual_is_known():
    assert category("g", town=1) == "tool_hallucination"
    assert category("g", tools=(), town=1) is None


@pytest.fixture
def dialogue():
    """A turn with a wrong call whose feedback is fine, one of a right call, one without answer."""

    def call(**arguments):
        return Message("assistant", "", (ToolCall("f", arguments),))

    return Trajectory(
        "t",
        (TOOL,),
        (
            Message("user", "q"),
            call(city="Rome", days="two"),
            Message("tool", "[1]"),
            call(city="Rome"),
            Message("tool", "Error: invalid city"),
            call(city="Rome", town=1),
            call(city="Rome"),
        ),
    )


def test_the_rules_differ_in_what_they_hold_against_a_call(dialogue):
    verdicts = {
        rules: [(x.verdict, x.category) for x in label_turns(dialogue, rules)]
        for rules in ("static", "structured", "structured+static")
    }
    value, town = ("error", "content_filling"), ("error", "parameter_hallucination")
    assert verdicts["static"] == [value, ("keep", "all_right"), town, ("keep", "all_right")]
    assert verdicts["structured"] == [
        ("keep", "all_right"), ("error", "content_filling"), ("no_feedback", ""), ("keep", ""),
    ]  # fmt: skip
    assert verdicts["structured+static"] == [value, value, town, ("keep", "")]


def test_without_feedback_the_manual_is_what_decides(dialogue):
    bare = dataclasses.replace(
        dialogue, messages=tuple(m for m in dialogue.messages if m.role != "tool")
    )
    kept = [x.kept for x in label_turns(bare, "static")]
    assert kept == [False, True, False, True]
    assert [x.kept for x in label_turns(bare, "structured")] == [False, False, False, True]


def test_a_turn_that_cannot_be_parsed_is_a_format_error(dialogue):
    broken = dataclasses.replace(
        dialogue, messages=(dialogue.messages[0], Message("assistant", "f(", status="error"))
    )
    (label,) = label_turns(broken, "static")
    assert (label.verdict, label.category, label.kept) == ("unparsable", "format_error", False)
