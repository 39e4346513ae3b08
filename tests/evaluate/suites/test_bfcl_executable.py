"""BFCL's executable items: TS, PI and CF of one call and of several, numbers by declared type."""

import pytest

from tl_jax.errors import DataError, RowError
from tl_jax.evaluate.suites.bfcl_executable import SUITE

FUNCTION = {
    "name": "odds",
    "description": "d",
    "parameters": {
        "type": "dict",
        "properties": {
            "n": {"type": "integer", "description": "d"},
            "p": {"type": "float", "description": "d"},
        },
        "required": ["n"],
    },
}


def row(category="exec_parallel", gold=("odds(n=2.0, p=1)", "odds(3, p=1/4)"), **changes):
    return {
        "id": f"{category}_0",
        "category": category,
        "question": [[{"role": "user", "content": "What are the odds?"}]],
        "function": [FUNCTION],
        "ground_truth": list(gold),
    } | changes


@pytest.fixture(scope="module")
def asked(ask, write_lines, tmp_path_factory):
    return ask(SUITE, write_lines(tmp_path_factory.mktemp("exec") / "rows.jsonl", row()))


@pytest.mark.parametrize(
    ("reply", "levels", "category"),
    [
        ("[odds(n=3, p=0.25), odds(n=2, p=1.0)]", 3, "all_right"),
        ("odds(n=2, p=1)\nodds(n=3, p=0.25)", 3, "all_right"),
        ("```[odds(n=2, p=1), odds(n=3, p=0.25)]```", 3, "all_right"),
        ("[odds(n=2, p=1), odds(n=3, p=0.5)]", 2, "content_filling"),
        ("[odds(n=2, p=1), odds(n=3)]", 1, "parameter_missing"),
        ("[odds(n=2, p=1), even(n=3)]", 0, "tool_hallucination"),
        ("[odds(n=2, p=1)]", 0, "missing_call"),
        ("The odds are good.", 0, "format_error"),
    ],
)
def test_levels_and_category_of_several_calls(asked, reply, levels, category):
    (verdict,) = asked.judge(reply)
    assert [verdict.scores[name] for name in ("ts", "pi", "cf")] == [
        level < levels for level in range(3)
    ]
    assert verdict.category == category


def test_gold_replies_are_right_by_category(asked):
    scores = asked.scores(*asked.oracle())
    assert set(scores.values()) == {100.0}
    assert {"cf", "exec_parallel/cf"} <= scores.keys()


@pytest.mark.parametrize(
    ("rows", "error", "says"),
    [
        ([row(gold=["odds(n=f(1))"])], RowError, r"rows\.jsonl:1.*gold call"),
        ([row(gold=[])], RowError, "no gold call"),
        ([row(ground_truth=[{"odds": {"n": [1]}}])], RowError, "calls as texts"),
        ([row("multiple")], DataError, "holds 1 of 'multiple'"),
    ],
)
def test_a_wrong_file_is_refused_by_name_and_place(write_lines, tmp_path, rows, error, says):
    with pytest.raises(error, match=says):
        SUITE.read(str(write_lines(tmp_path / "rows.jsonl", *rows)))
