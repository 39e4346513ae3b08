"""ToolEyes offline: the form of a first reply, and its calls against the documentation."""

import json
import os
import pathlib
import random

import pytest

from tl_jax.errors import DataError, RowError
from tl_jax.evaluate.suites.tooleyes import SUITE

FILE = pathlib.Path(os.environ.get("TL_JAX_DATA", ""), "eval_tooleyes/queries.jsonl.gz")

TOOLS = [
    {
        "name": "advice",
        "description": "d",
        "parameters": {
            "type": "object",
            "properties": {
                "count": {"type": "integer", "description": "d"},
                "topic": {"type": "string", "description": "d"},
            },
            "required": ["count"],
        },
    },
    {
        "name": "finish",
        "description": "d",
        "parameters": {
            "type": "object",
            "properties": {"answer": {"type": "string", "description": "d"}},
            "required": ["answer"],
        },
    },
]


def row(**changes):
    turns = [
        {"from": "system", "value": f"Use tools.\n{json.dumps(TOOLS)}\n\nLet's Begin!"},
        {"from": "user", "value": "I need advice.\nBegin!\n"},
    ]
    return {
        "index": 7,
        "query": "I need advice.",
        "path": "p",
        "scenario": "TG",
        "zero_shot": {"id": "Turn 1: q", "conversations": turns},
    } | changes


@pytest.fixture(scope="module")
def asked(ask, write_lines, tmp_path_factory):
    return ask(SUITE, write_lines(tmp_path_factory.mktemp("eyes") / "rows.jsonl", row()))


@pytest.mark.parametrize(
    ("reply", "passed", "category"),
    [
        ("advice(count=2, topic='tea')", 3, "all_right"),
        ("advice(count='2')", 3, "all_right"),
        ("advice(count='two')", 2, "content_filling"),
        ("advice(topic='tea')", 1, "parameter_missing"),
        ("advice(count=2, mood='good')", 1, "parameter_hallucination"),
        ("advise(count=2)", 1, "tool_hallucination"),
        ("advice(count='two')\nadvise(count=2)", 1, "tool_hallucination"),
        ("Drink tea.", 0, "format_error"),
    ],
)
def test_each_fault_is_told_and_only_of_replies_with_calls(asked, reply, passed, category):
    (verdict,) = asked.judge(reply)
    names = ("format", "documented", "schema")
    right = {name: number < passed for number, name in enumerate(names)}
    assert verdict.scores == (right if passed else {"format": False})
    assert verdict.category == category
    assert asked.items[0].messages[0].content == "I need advice."


def test_documentation_errors_are_a_share_of_replies_with_calls(ask, write_lines, tmp_path):
    rows = [row(index=number) for number in range(4)]
    asked = ask(SUITE, write_lines(tmp_path / "rows.jsonl", *rows))
    scores = asked.scores(*asked.oracle())
    assert scores.pop("documentation_errors") == 0
    assert set(scores.values()) == {100.0}
    scores = asked.scores("advise()", "advice(count=1)", "advice(count='a')", "Drink tea.")
    assert scores["documentation_errors"] == pytest.approx(100 / 3)
    assert scores["format"] == scores["TG/format"] == 75


@pytest.mark.parametrize(
    ("rows", "error", "says"),
    [
        ([row(zero_shot={"conversations": []})], RowError, r"rows\.jsonl:1.*no ToolEyes query"),
        ([row(zero_shot=None)], RowError, "no ToolEyes query"),
        ([{"id": "multiple_0", "question": []}], RowError, "zero_shot"),
        ([], DataError, "no ToolEyes queries"),
    ],
)
def test_a_wrong_file_is_refused_by_name_and_place(write_lines, tmp_path, rows, error, says):
    with pytest.raises(error, match=says):
        SUITE.read(str(write_lines(tmp_path / "rows.jsonl", *rows)))


@pytest.mark.skipif(not FILE.is_file(), reason="TL_JAX_DATA holds no eval_tooleyes")
def test_calls_of_other_queries_are_mostly_undocumented(ask):
    asked = ask(SUITE, FILE)
    replies = asked.oracle()
    assert len(replies) == 382
    assert asked.scores(*replies)["documentation_errors"] == 0
    random.Random(0).shuffle(replies)
    assert asked.scores(*replies)["documentation_errors"] > 90
