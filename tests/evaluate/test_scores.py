"""Tool selection, parameter identification, content filling and their summaries."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tl_jax.calls.call import Parameter, ToolCall, ToolSpec
from tl_jax.evaluate.scores import (
    MISS,
    Policy,
    TurnScore,
    bootstrap_interval,
    score_call,
    score_calls,
)

GOLD = ToolCall("f", {"a": "x", "n": 1})
RIGHT = TurnScore(True, True, True)


@pytest.mark.parametrize(
    "prediction,expected",
    [
        (ToolCall("f", {"n": 1, "a": "x"}), RIGHT),
        (ToolCall("f", {"a": "x", "n": 2}), TurnScore(True, True, False)),
        (ToolCall("f", {"a": "x", "n": True}), TurnScore(True, True, False)),
        (ToolCall("f", {"a": "x", "n": "1"}), TurnScore(True, True, False)),
        (ToolCall("f", {"a": "x"}), TurnScore(True, False, False)),
        (ToolCall("f", {"a": "x", "n": 1, "z": 0}), TurnScore(True, False, False)),
        (ToolCall("g", {"a": "x", "n": 1}), MISS),
        (None, MISS),
    ],
)
def test_levels_are_nested(prediction, expected):
    assert score_call(prediction, [GOLD]) == expected


def test_each_level_takes_the_best_gold():
    other = ToolCall("g", {"b": 1})
    assert score_call(other, [GOLD, other]) == RIGHT
    assert score_call(ToolCall("g", {"b": 2}), [GOLD, other]) == TurnScore(True, True, False)


def test_declared_types_decide_about_numbers():
    tools = [ToolSpec("f", parameters=(Parameter("n", "number"),))]
    prediction, gold = ToolCall("f", {"n": 1.0}), ToolCall("f", {"n": 1})
    assert score_call(prediction, [gold], tools=tools).cf
    assert not score_call(prediction, [gold]).cf


def test_empty_arguments_count_unless_the_policy_says_no():
    call = ToolCall("f")
    assert score_call(call, [call]) == RIGHT
    assert score_call(call, [call], policy=Policy(count_empty_arguments=False)) == MISS


def test_free_text_tools_need_names_only():
    gold = ToolCall("finish", {"answer": "yes"})
    assert score_call(ToolCall("finish", {"answer": "no"}), [gold]) == RIGHT
    assert score_call(ToolCall("finish", {"text": "yes"}), [gold]) == TurnScore(True, False, False)
    strict = Policy(free_text_tools=())
    assert not score_call(ToolCall("finish", {"answer": "no"}), [gold], policy=strict).cf


def test_the_string_none_is_a_wildcard_only_by_policy():
    gold, prediction = ToolCall("f", {"a": "None"}), ToolCall("f", {"a": 3})
    assert not score_call(prediction, [gold]).cf
    assert score_call(prediction, [gold], policy=Policy(none_is_wildcard=True)).cf


def test_scoring_needs_a_gold_call():
    with pytest.raises(ValueError, match="at least one gold"):
        score_call(GOLD, [])


CALLS = st.builds(
    ToolCall,
    st.sampled_from(["f", "finish"]),
    st.dictionaries(st.sampled_from("ab"), st.sampled_from([1, 1.0, True, "None", "x"])),
)


@given(CALLS, st.lists(CALLS, min_size=1, max_size=3), st.booleans(), st.booleans())
def test_content_implies_parameters_implies_tool(prediction, golds, empty, wild):
    policy = Policy(count_empty_arguments=empty, none_is_wildcard=wild)
    found = score_call(prediction, golds, policy=policy)
    assert found.cf <= found.pi <= found.ts


def test_several_calls_of_a_turn_are_paired_with_the_gold_calls():
    other = ToolCall("f", {"a": "y", "n": 1})
    turns = [(GOLD, other)]
    assert score_calls((other, GOLD), turns) == RIGHT
    assert score_calls((GOLD, GOLD), turns) == TurnScore(True, True, False)
    assert score_calls((GOLD, ToolCall("f", {"a": "y"})), turns) == TurnScore(True, False, False)
    assert score_calls((GOLD, ToolCall("g")), turns) == MISS
    for calls in ((GOLD,), (GOLD, other, other), ()):
        assert score_calls(calls, turns) == MISS
    assert score_calls((GOLD,), [*turns, (GOLD,)]) == RIGHT
    assert score_calls((), [()]) == MISS


def test_a_bootstrap_interval_depends_on_its_seed_only():
    values = np.linspace(0, 1, 50)
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3)
    assert bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)
