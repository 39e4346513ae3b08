"""The published reward, blind spots included."""

import json
import os
import pathlib
import time

import pytest

from tl_jax.calls.call import ToolCall
from tl_jax.rewards import taxonomy
from tl_jax.rewards.rules import score

GOLDEN = os.environ.get("TL_JAX_GOLDEN")
TOOLS = {"search": ["query", "venue", "limit"], "random": [], "finish": ["answer"]}


def golden_cases():
    if not GOLDEN:
        return []
    found = json.loads(pathlib.Path(GOLDEN, "reward_cases.json").read_text())
    return [
        (case, found["default_tools"] if case["tools"] == "default" else case["tools"])
        for case in found["cases"]
    ]


@pytest.mark.skipif(not GOLDEN, reason="TL_JAX_GOLDEN is not set")
@pytest.mark.parametrize("case,tools", golden_cases(), ids=lambda x: x.get("id", ""))
def test_golden_published_rewards(case, tools):
    reward = score(
        case["prediction"],
        case["gold"],
        tools,
        mode="reference",
        given_tool=case["prompt_suffix_after_last_Assistant"],
    )
    assert reward.value == case["code_reward"]
    assert type(reward.value) is float


@pytest.mark.parametrize(
    "prediction,gold,value",
    [
        ("search(query = 'a', venue = 'b')", "search(query = 'a', venue = 'b')", 1.0),
        ("search(query = 'a', limit = 1)", "search(query = 'a', limit = 2)", 1.0),
        ('search(query = "a")', 'search(query = "b")', 1.0),
        ("search(query = 'a)', venue = 'b')", "search(query = 'a)', venue = 'c')", 1.0),
        ("search(query = 'a', venue = 'b')", "search(query = 'a')", -0.5),
        ("search(query = 'a', x = 'b')", "search(query = 'a')", -0.8),
        ("search(venue = 'a')", "search(query = 'a')", -1.0),
        ("search(venue = 'a', x = 'b')", "search(query = 'a')", -1.8),
        ("search(query = 'b')", "search(query = 'a')", -0.25),
        ("(query = 'a')", "search(query = 'a')", -1.5),
        ("random()", "search(query = 'a')", -1.5),
        ("other(query = 'a')", "search(query = 'a')", -2.0),
        ("search", "search(query = 'a')", -2.0),
        (")search(", "search(query = 'a')", -2.0),
    ],
)
def test_published_rules(prediction, gold, value):
    assert score(prediction, gold, TOOLS, mode="reference").value == value


def test_a_given_tool_supplies_the_signature():
    options = {"mode": "reference", "given_tool": " search\n"}
    assert score("(query = 'a')", "(query = 'a')", TOOLS, **options).value == 1.0
    assert score("(x = 'a', query = 'a')", "(query = 'a')", TOOLS, **options).value == -0.8


def test_an_unknown_given_tool_hides_all_but_missing():
    options = {"mode": "reference", "given_tool": "search("}
    assert score("(x = 'a')", "(query = 'a')", TOOLS, **options).value == -0.5
    extra = score("(x = 'a', query = 'a')", "(query = 'a')", TOOLS, **options)
    assert (extra.value, extra.category) == (-0.25, taxonomy.CONTENT_FILLING)


def test_calls_are_read_through_the_released_form():
    call = ToolCall("search", {"query": "a", "limit": 1})
    other = ToolCall("search", {"query": "a", "limit": 2})
    assert score(call, other, TOOLS, mode="reference").value == 1.0


@pytest.mark.parametrize(
    "text",
    ["a" * 200_000, "f(" + "a" * 200_000 + ")", "f(" + "a " * 100_000, "f(" + "a='" * 70_000],
)
def test_long_text_takes_linear_time(text):
    start = time.process_time()
    score(text, "search(query = 'a')", TOOLS, mode="reference")
    score("search(query = 'a')", text, TOOLS, mode="reference")
    assert time.process_time() - start < 0.2
