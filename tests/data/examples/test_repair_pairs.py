"""Wrong calls and the right ones after them, as preference pairs."""

import dataclasses

import pytest
from template_cases import renderer_of

from tl_jax.calls.call import ToolCall
from tl_jax.data.examples.repair_pairs import find_repairs, repair_rows
from tl_jax.data.mae.labels import label_turns
from tl_jax.data.trajectory import Message


def call(tool, /, **arguments):
    return Message("assistant", "", (ToolCall(tool, arguments),))


def with_messages(trajectory, *messages):
    return dataclasses.replace(trajectory, messages=(Message("user", "q"), *messages))


def found(trajectory, within=3):
    labels = label_turns(trajectory, "structured")
    return [
        (r.wrong.turn, r.right.turn, r.category, r.kind)
        for r in find_repairs(trajectory, labels, within)
    ]


def rows(trajectory, tokenizer, samples="per_turn", max_length=4096):
    renderer = renderer_of(tokenizer, samples=samples)
    encoded = renderer.encode_trajectory(trajectory)
    labels = label_turns(trajectory, "structured")
    limits = {"max_length": max_length, "within": 3}
    return list(repair_rows(trajectory, labels, renderer, encoded, **limits))


ERROR = Message("tool", "Error: invalid query")
RESULT = Message("tool", '["found"]')


def test_the_next_right_call_of_the_same_tool_is_the_repair(trajectory):
    assert found(trajectory) == [(1, 2, "parameter_hallucination", "same_tool")]


def test_another_tool_with_the_same_values_is_a_repair_of_the_goal(trajectory):
    goal = with_messages(
        trajectory, call("find", query="Ann Lee"), Message("tool", "Unknown tool find"),
        call("search_user", name="Ann Lee"), RESULT,
    )  # fmt: skip
    assert found(goal) == [(1, 2, "tool_hallucination", "same_goal")]
    other = with_messages(
        trajectory, call("find", query="Ann Lee"), Message("tool", "Unknown tool find"),
        call("search_user", name="Bob"), RESULT,
    )  # fmt: skip
    assert found(other) == []


def test_the_first_right_call_counts_and_wrong_ones_between_are_repaired_too(trajectory):
    tries = with_messages(
        trajectory, call("f", a="1"), ERROR, call("f", a="2"), ERROR, call("f", a="3"), RESULT,
        call("f", a="4"), RESULT,
    )  # fmt: skip
    assert [(wrong, right) for wrong, right, *_ in found(tries)] == [(1, 3), (2, 3)]
    assert [(wrong, right) for wrong, right, *_ in found(tries, within=1)] == [(2, 3)]
    assert found(tries, within=0) == []


@pytest.mark.parametrize(
    "messages",
    [
        (call("f", a="1"), ERROR, call("f", a="1"), RESULT),  # nothing changed
        (call("f", a="1"), Message("tool", "503 Service Unavailable"), call("f", a="2"), RESULT),
        (call("f", a="1"), ERROR, Message("assistant", "Which?"), Message("user", "2"),
         call("f", a="2"), RESULT),
        (call("f", a="1"), ERROR, call("f", a="2"), ERROR),
        (call("f", a="1"), RESULT, call("f", a="2"), RESULT),
    ],
)  # fmt: skip
def test_what_is_no_repair(trajectory, messages):
    assert found(with_messages(trajectory, *messages)) == []


def test_a_turn_that_cannot_be_parsed_is_repaired_by_the_next_right_call(trajectory):
    broken = with_messages(
        trajectory, Message("assistant", "search love(", status="error"),
        Message("user", "Please follow the format."), call("search_advice", query="love"), RESULT,
    )  # fmt: skip
    assert found(broken) == [(1, 2, "format_error", "format")]


@pytest.mark.parametrize("samples", ["per_turn", "per_trajectory"])
def test_a_pair_holds_the_texts_of_the_training_samples(trajectory, tokenizer, samples):
    (row,) = rows(trajectory, tokenizer, samples=samples)
    assert row["prompt"].endswith("User: advice on 'love', please\nAssistant:")
    assert row["rejected"] == " search_advice(q = 'love') "
    assert row["chosen"] == " search_advice(query = 'love', limit = 2) "
    assert row["id"] == "Turn 1: t1 -> Turn 2: t1"
    assert (row["category"], row["kind"]) == ("parameter_hallucination", "same_tool")
    assert (row["trajectory"], row["source"], row["line"]) == ("t1", "made.jsonl", 8)


def test_of_parallel_calls_only_the_wrong_one_differs(trajectory, tokenizer):
    both = (ToolCall("search_user", {"name": "Ann"}), ToolCall("search_advice", {"q": "love"}))
    parallel = with_messages(
        trajectory, Message("assistant", "", both), RESULT,
        Message("tool", "unexpected keyword argument 'q'"),
        call("search_advice", query="love"), RESULT,
    )  # fmt: skip
    (row,) = rows(parallel, tokenizer)
    assert row["rejected"] == " search_user(name = 'Ann')\nsearch_advice(q = 'love') "
    assert row["chosen"] == " search_user(name = 'Ann')\nsearch_advice(query = 'love') "


def test_pairs_that_do_not_fit_are_left_out(trajectory, tokenizer):
    assert rows(trajectory, tokenizer, max_length=60) == []
