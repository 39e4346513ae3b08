"""Graded rewards: partial credit, and never more of it for one error more."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.calls.call import Parameter, ToolCall, ToolSpec
from tl_jax.rewards.rules import RIGHT, Parallel, score

NAMES = "abcdef"
TOOL = ToolSpec("f", parameters=tuple(Parameter(name, "integer") for name in (*NAMES, "g", "h")))
TOOLS = (TOOL, ToolSpec("other"))


def value(prediction, gold, mode="graded"):
    return score(prediction, gold, TOOLS, mode=mode).value


@pytest.mark.parametrize(
    "prediction,expected",
    [
        ("f(a = 1, b = 1, c = 1, d = 1)", 1.0),
        ("f(a = 2, b = 1, c = 1, d = 1)", 0.6875),
        ("f(a = 2, b = 2, c = 1, d = 1)", 0.375),
        ("f(a = 2, b = 2, c = 2, d = 2)", -0.25),
        ("f(b = 1, c = 1, d = 1)", 0.625),
        ("f()", -0.5),
        ("f(a = 1, b = 1, c = 1, d = 1, g = 1)", 0.625),
        ("f(a = 1, b = 1, c = 1, d = 1, x = 1)", 0.55),
        ("f(b = 2, c = 1, d = 1, x = 1)", -0.1375),
        ("f(g = 1, h = 1, x = 1, y = 1)", -1.5),
        ("other()", -1.5),
        ("none()", -2.0),
        ("f(a = 1", -2.0),
        ("f(a = 1, b = 1, c = 1, d = 1) ok", -2.0),
    ],
)
def test_every_argument_has_its_share(prediction, expected):
    assert value(prediction, "f(a = 1, b = 1, c = 1, d = 1)") == expected


def test_a_call_without_arguments_is_graded_as_strictly():
    assert value("f(g = 1)", "f()") == -0.5
    assert value("f(x = 1)", "f()") == -0.8


ERRORS = st.dictionaries(
    st.sampled_from(NAMES), st.sampled_from(["right", "wrong", "missing", "renamed"])
)
EXTRA = st.sets(st.sampled_from(["g", "h", "x", "y"]))
# What may become of an argument when one thing more goes wrong with it.
WORSE = {"right": ["wrong", "missing"], "wrong": ["missing"], "missing": ["renamed"]}


def call_with(states, extra):
    arguments = dict.fromkeys(extra, 1)
    for name, state in states.items():
        if state != "missing":
            key = f"{name}{name}" if state == "renamed" else name
            arguments[key] = 2 if state == "wrong" else 1
    return ToolCall("f", arguments)


@settings(max_examples=300, deadline=None)
@given(ERRORS, EXTRA, st.data())
def test_one_error_more_is_never_better(states, extra, data):
    gold = ToolCall("f", dict.fromkeys(states, 1))
    before = call_with(states, extra)
    changes = [(name, to) for name, state in states.items() for to in WORSE.get(state, ())]
    changes += [(name, None) for name in ("g", "h", "x", "y", "z") if name not in extra]
    name, state = data.draw(st.sampled_from(changes))
    if state is None:
        after = call_with(states, {*extra, name})
    else:
        after = call_with({**states, name: state}, extra)
    for mode in ("strict", "graded"):
        assert value(after, gold, mode) <= value(before, gold, mode)
    assert value(ToolCall("other", before.arguments), gold) <= value(before, gold)
    # The same holds beside another call, and leaving the call out is never better.
    beside = ToolCall("other", {"n": 1})
    golds = Parallel((gold, beside))
    worse, better = (value(Parallel((beside, call)), golds) for call in (after, before))
    assert value(Parallel((beside,)), golds) <= worse <= better
    assert value(Parallel((before, beside, beside)), golds) == -2.0


@settings(max_examples=200, deadline=None)
@given(ERRORS, EXTRA)
def test_partial_credit_stays_between_the_strict_reward_and_right(states, extra):
    gold, call = ToolCall("f", dict.fromkeys(states, 1)), call_with(states, extra)
    graded, strict = value(call, gold), value(call, gold, "strict")
    assert -2.0 <= strict <= graded <= RIGHT
    assert (graded == RIGHT) == (strict == RIGHT) == (call == gold)
    assert type(graded) is float
    explained = [score(call, gold, TOOLS, mode=mode) for mode in ("strict", "graded")]
    assert explained[0].category == explained[1].category
    assert explained[0].details == explained[1].details
