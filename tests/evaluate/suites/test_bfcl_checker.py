"""BFCL's rules: every kind of fault is told, and what they let pass passes."""

import pytest

from tl_jax.calls.call import ToolCall
from tl_jax.evaluate.suites.bfcl_checker import FAULTS, fault_of_calls


def prop(kind, item=None):
    return {"type": kind, **({"items": {"type": item}} if item else {})}


FUNCTIONS = (
    {
        "name": "other",
        "parameters": {"properties": {"a": prop("integer")}, "required": []},
    },
    {
        "name": "book.trip",
        "parameters": {
            "properties": {
                "city": prop("string"),
                "days": prop("integer"),
                "price": prop("float"),
                "fast": prop("boolean"),
                "stops": prop("array", "string"),
                "sizes": prop("array", "float"),
                "who": prop("dict"),
                "legs": prop("array", "dict"),
                "note": prop("any"),
                "code": prop("integer"),
                "pair": prop("tuple", "integer"),
            },
            "required": ["city"],
        },
    },
)
ANSWER = {
    "book.trip": {
        "city": ["New York, NY", "NYC"],
        "days": [2],
        "price": [4.0, ""],
        "fast": [True, ""],
        "stops": [["Rome", "Oslo"], ""],
        "sizes": [[1.0, 2.0]],
        "who": [{"name": ["Ann"], "age": [3, ""]}, ""],
        "legs": [[{"to": ["Rome"]}, {"to": ["Oslo", ""]}], ""],
        "note": [None, ""],
        "code": ["n", ""],
        "pair": [[1, 2], ""],
    }
}
RIGHT = {"city": "NYC", "days": 2, "sizes": [1.0, 2.0]}


def fault(*, name="book.trip", without=(), **changes):
    arguments = {key: value for key, value in {**RIGHT, **changes}.items() if key not in without}
    return fault_of_calls([ToolCall(name, arguments)], [ANSWER], FUNCTIONS, parallel=False)


PASSES = {
    "accepted values, the optional left out": {},
    "another accepted value": {"city": "New York, NY"},
    "blanks, punctuation and case of a text": {"city": " new-york_n.y. "},
    "the same of items": {"stops": ["rome", "OSLO."]},
    "the same of values of a dictionary": {"who": {"name": "an n"}},
    "an optional key given": {"who": {"name": "Ann", "age": 3}},
    "an optional key left out in a list": {"legs": [{"to": "Rome"}, {}]},
    "an integer for a float": {"price": 4},
    "an empty text where the argument is optional": {"note": None},
    "an empty list where the argument is optional": {"stops": []},
    "an answer of another type than the declared one": {"code": "n"},
    "a list for a tuple": {"pair": [1, 2]},
}
FAILS = {
    "wrong_tool": [{"name": "other"}, {"name": "book_trip"}],
    "missing_required": [{"without": ("city",)}, {"without": ("city", "days")}],
    "missing_argument": [{"without": ("days",)}, {"without": ("sizes",)}],
    "unexpected_argument": [{"unknown": 1}],
    "wrong_type": [
        {"days": 2.0},
        {"days": True},
        {"days": "2"},
        {"fast": 1},
        {"sizes": [1, 2]},
        {"stops": "Rome"},
        {"sizes": [1.0, "2.0"]},
        {"who": [{"name": "Ann"}]},
        {"pair": "1, 2"},
    ],
    "wrong_value": [
        {"city": "Rome"},
        {"days": 3},
        {"price": 4.5},
        {"stops": ["Oslo", "Rome"]},
        {"stops": ["Rome"]},
        # Items are not held to their type where the list may be left out.
        {"stops": ["Rome", 1]},
        {"who": {}},
        {"who": {"name": "Ann", "more": 1}},
        {"legs": [{"to": "Rome"}]},
        {"legs": [{"to": "Oslo"}, {"to": "Rome"}]},
        {"code": "N"},
        {"note": "something"},
    ],
}


@pytest.mark.parametrize("changes", PASSES.values(), ids=PASSES)
def test_what_the_rules_accept_is_right(changes):
    assert fault(**changes) == ""


@pytest.mark.parametrize("kind", FAILS)
def test_each_fault_is_told_by_its_name(kind):
    assert {fault(**changes) for changes in FAILS[kind]} == {kind}
    assert kind in FAULTS


def test_several_calls_come_in_any_order_and_in_the_right_number():
    answers = [{"other": {"a": [value, ""]}} for value in (1, 2)]

    def judged(*values, parallel=True):
        calls = [ToolCall("other", {"a": value}) for value in values]
        return fault_of_calls(calls, answers, FUNCTIONS, parallel=parallel)

    assert judged(1, 2) == judged(2, 1) == ""
    assert judged(1, 1) == "no_match"
    assert {judged(1), judged(1, 2, 2), judged()} == {"wrong_count"}
    assert judged(1, parallel=False) == "wrong_count"


def test_answers_take_calls_in_their_order_even_where_another_order_would_fit():
    answers = [{"other": {"a": [1, 2]}}, {"other": {"a": [1]}}]
    calls = [ToolCall("other", {"a": value}) for value in (1, 2)]
    assert fault_of_calls(calls, answers, FUNCTIONS, parallel=True) == "no_match"
    assert fault_of_calls(calls[::-1], answers, FUNCTIONS, parallel=True) == ""
