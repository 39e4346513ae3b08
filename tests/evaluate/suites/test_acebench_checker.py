"""ACEBench's rules as released: what they tell, and how much they let pass."""

import pytest

from tl_jax.calls.call import ToolCall
from tl_jax.evaluate.suites.acebench_checker import fault_of_calls

FUNCTIONS = (
    {"name": "plan", "parameters": {}},
    {
        "name": "book",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer"},
                "price": {"type": "number"},
                "fast": {"type": "boolean"},
                "stops": {"type": "array", "items": {"type": "string"}},
                "legs": {"type": "array", "items": {"type": "object"}},
                "who": {"type": "object"},
            },
            "required": ["city"],
        },
    },
)
GOLD = {
    "city": "New York",
    "days": 2,
    "price": 4.5,
    "fast": True,
    "stops": ["Rome", "Oslo"],
    "legs": [{"to": "Rome"}],
    "who": {"name": "Ann", "home": {"zip": 10}},
}


def fault(*, name="book", without=(), **changes):
    arguments = {key: value for key, value in {**GOLD, **changes}.items() if key not in without}
    return fault_of_calls([ToolCall(name, arguments)], {"book": GOLD}, FUNCTIONS)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"city": "the new-york, please"},
        {"without": ("days", "price", "stops")},
        {"days": 7, "fast": False},
        {"price": 9.9},
        {"fast": "false"},
        {"fast": 1},
        {"stops": ["rome.", "OSLO"]},
        {"legs": [{"to": "Rome, Italy"}]},
        {"who": {"name": "ann", "home": {"zip": 2104}}},
    ],
)
def test_what_the_rules_let_pass_is_right(changes):
    assert fault(**changes) == ""


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"name": "plan"}, "wrong_tool"),
        ({"without": ("city",)}, "missing_required"),
        ({"more": 1}, "unexpected_argument"),
        ({"days": "2"}, "wrong_type"),
        ({"fast": 0}, "wrong_type"),
        ({"who": "Ann"}, "wrong_type"),
        ({"city": "Rome"}, "wrong_value"),
        ({"stops": ["Oslo", "Rome"]}, "wrong_value"),
        ({"legs": [{"to": "Rome"}, {"to": "Oslo"}]}, "wrong_value"),
        ({"who": {"name": "Ann"}}, "wrong_value"),
        ({"who": {"name": "Ann", "home": {"zip": 3}}}, "wrong_value"),
    ],
)
def test_each_fault_is_told_by_its_name(changes, kind):
    assert fault(**changes) == kind


def test_several_calls_are_matched_by_name_and_number():
    answer = {"book_1": {"city": "Rome"}, "book_2": {"city": "Oslo"}, "plan": {}}

    def judged(*calls):
        return fault_of_calls([ToolCall(*call) for call in calls], answer, FUNCTIONS)

    rome, oslo, plan = ("book", {"city": "Rome"}), ("book", {"city": "Oslo"}), ("plan", {})
    assert judged(oslo, plan, rome) == ""
    assert judged(oslo, rome) == "wrong_count"
    assert judged(oslo, plan, plan) == "wrong_tool"
    assert judged(rome, rome, plan) == "wrong_value"
    assert judged(rome, oslo, ("plan", {"a": 1})) == "unexpected_argument"
