"""BFCL, single turn: its files, its categories and the figures it makes of them."""

import gzip
import json
import os
import pathlib
import random

import pytest

from tl_jax.errors import DataError, RowError
from tl_jax.evaluate.results import MISSING, NOT_ENDED, TOO_LONG, Reply, judge
from tl_jax.evaluate.suites.bfcl import CATEGORIES, SUITE
from tl_jax.evaluate.suites.bfcl_files import PACKAGE, data_version

FILE = pathlib.Path(os.environ.get("TL_JAX_DATA", ""), "eval_bfcl/single_turn_non_live.jsonl.gz")
needs_data = pytest.mark.skipif(not FILE.is_file(), reason="TL_JAX_DATA holds no eval_bfcl")

WEATHER = {
    "name": "weather.now",
    "description": "The weather of a city.",
    "parameters": {
        "type": "dict",
        "properties": {
            "city": {"type": "string", "description": "Where."},
            "days": {"type": "float", "description": "How many."},
        },
        "required": ["city"],
    },
}
GOLD = [{"weather.now": {"city": ["Rome"], "days": [1.0, ""]}}]
TWO = [*GOLD, {"weather.now": {"city": ["Oslo"], "days": ["", 2.0]}}]


def row(category, number=0, gold=None, **changes):
    found = {
        "category": category,
        "id": f"{category}_{number}",
        "question": [[{"role": "user", "content": "Is it warm?"}]],
        "function": [WEATHER],
    }
    return {**found, **({} if gold is None else {"ground_truth": gold}), **changes}


ROWS = [
    row(name, gold=None if "relevance" in name else TWO if "parallel" in name else GOLD)
    for name in CATEGORIES
]


@pytest.fixture(scope="module")
def asked(ask, write_lines, tmp_path_factory):
    """One item of every category."""
    return ask(SUITE, write_lines(tmp_path_factory.mktemp("bfcl") / "rows.jsonl", *ROWS))


def by_category(asked, reply):
    verdicts = asked.judge(*[reply] * len(asked.items))
    return {
        item.tags["category"]: verdict for item, verdict in zip(asked.items, verdicts, strict=True)
    }


def test_gold_replies_are_right_in_every_category(asked):
    scores = asked.scores(*asked.oracle())
    assert scores.pop("format_errors") == 0
    assert set(scores.values()) == {100.0}
    assert {*CATEGORIES, "non_live", "live", "irrelevance_mean", "single_turn"} <= scores.keys()


def test_tools_have_json_types_and_keep_their_names(asked):
    (tool,) = asked.items[0].tools
    assert tool.name == "weather.now"
    assert [p.type for p in tool.parameters] == ["string", "number"]


@pytest.mark.parametrize(
    ("reply", "category"),
    [
        ("weather.now(city='Oslo')", "wrong_value"),
        ("weather.now(days=1)", "missing_required"),
        ("weather.now(city='Rome', wind=1)", "unexpected_argument"),
        ("weather.now(city=['Rome'])", "wrong_type"),
        ("weather(city='Rome')", "wrong_tool"),
        ("weather.now(city='Rome')\nweather.now(city='Rome')", "wrong_count"),
        ("weather.now(city='Rome'", "format_error"),
        ("It is warm.", "format_error"),
    ],
)
def test_each_fault_of_a_reply_is_its_verdict(asked, reply, category):
    verdict = by_category(asked, reply)["simple_python"]
    assert verdict.category == category
    assert verdict.scores == {"simple_python": False, "readable": category != "format_error"}


def test_irrelevance_counts_whatever_is_no_call_and_strictly_words_only(asked):
    def figures(reply):
        found = by_category(asked, reply)
        return tuple(found["irrelevance"].scores.values()), found["live_relevance"].scores

    relevance = "live_relevance"
    assert figures("No tool can do that.") == ((True, True), {relevance: False})
    assert figures("weather.now(city=") == ((True, False), {relevance: False})
    assert figures("") == ((True, False), {relevance: False})
    assert figures("weather.now()") == ((False, False), {relevance: True})
    assert by_category(asked, "weather.now()")["irrelevance"].category == "extra_call"


@pytest.mark.parametrize("problem", [MISSING, NOT_ENDED, TOO_LONG])
def test_what_is_no_reply_is_wrong_even_where_no_call_is_due(asked, problem):
    for item in asked.items:
        verdict = judge(SUITE, item, Reply("", problem), "python")
        assert set(verdict.scores.values()) == {False}
        assert (verdict.category, verdict.detail) == ("format_error", problem)


@pytest.mark.parametrize(
    "reply",
    [
        "[weather.now(city='Rome'), weather.now(city='Oslo')]",
        "weather.now(city='Rome'), weather.now(city='Oslo')",
        "```\n[weather.now(city='Rome'), weather.now(city='Oslo')]\n```",
        "weather.now(city='Oslo')\nweather.now(city='Rome')",
    ],
)
def test_backticks_and_missing_brackets_are_no_fault(asked, reply):
    assert by_category(asked, reply)["live_parallel"].scores["live_parallel"]


@pytest.mark.parametrize(
    "reply", ["[weather.now(city='Rome')]", "```[weather.now(city='Rome'),]```"]
)
def test_a_list_of_one_call_is_a_call_as_its_prompt_asks_for_it(asked, reply):
    found = by_category(asked, reply)
    assert found["simple_python"].scores == {"simple_python": True, "readable": True}
    assert found["irrelevance"].category == "extra_call"
    assert found["live_relevance"].scores["live_relevance"]


def test_a_list_in_a_list_is_no_call(asked):
    for calls in ("weather.now(city='Rome')", "weather.now(city='Rome'), weather.now(city='Oslo')"):
        verdicts = by_category(asked, f"[[{calls}]]")
        assert not any(verdicts[name].scores[name] for name in ("simple_python", "live_parallel"))


def test_means_weigh_categories_where_not_live_and_items_where_live(ask, write_lines, tmp_path):
    wrong = ["simple_python", "live_simple", "live_simple", "live_irrelevance"]
    rows = ROWS + [row("live_simple", 1, GOLD), row("live_simple", 2, GOLD)]
    asked = ask(SUITE, write_lines(tmp_path / "rows.jsonl", *rows))
    replies = asked.oracle()
    for number, item in enumerate(asked.items):
        if item.tags["category"] in wrong:
            wrong.remove(item.tags["category"])
            replies[number] = "weather.now(city='Paris')"
    scores = asked.scores(*replies)
    assert scores["non_live"] == 75
    assert scores["live"] == pytest.approx(100 * 4 / 6)
    assert scores["irrelevance_mean"] == 50
    assert scores["single_turn"] == pytest.approx((75 + 100 * 4 / 6 + 50) / 3)


def test_the_released_files_are_the_same_data_as_rows_with_their_answers(
    ask, write_lines, tmp_path
):
    keys = ("id", "question", "function")
    for question in (row("multiple", gold=GOLD), row("irrelevance")):
        name = f"BFCL_v4_{question['category']}.json"
        write_lines(tmp_path / "data" / name, {key: question[key] for key in keys})
    answer = {"id": "multiple_0", "ground_truth": GOLD}
    write_lines(tmp_path / "data/possible_answer/BFCL_v4_multiple.json", answer)
    # Another category of the folder, which is not even rows.
    (tmp_path / "data/BFCL_v4_format_sensitivity.json").write_text("{\n}")
    joined = write_lines(tmp_path / "joined.jsonl", row("multiple", gold=GOLD), row("irrelevance"))
    released = ask(SUITE, tmp_path / "data")
    assert {item.id: item for item in released.items} == {
        item.id: item for item in ask(SUITE, joined).items
    }
    assert SUITE.version(str(tmp_path / "data")) == SUITE.version(str(joined))
    assert SUITE.version(str(joined)).endswith("of no known package")
    (tmp_path / "bfcl_eval-2027.1.1.dist-info").mkdir()
    assert SUITE.version(str(tmp_path / "data")).endswith("bfcl-eval 2027.1.1")
    one = ask(SUITE, tmp_path / "data/BFCL_v4_multiple.json")
    assert [item.id for item in one.items] == ["multiple_0"]


def test_names_of_version_3_are_known(ask, write_lines, tmp_path):
    old = row("simple", gold=GOLD)
    del old["category"]
    asked = ask(SUITE, write_lines(tmp_path / "rows.jsonl", old))
    assert asked.items[0].tags["category"] == "simple_python"


@pytest.mark.parametrize(
    ("rows", "error", "says"),
    [
        ([{"noise": "clean", "index": 1}], RowError, r"rows\.jsonl:1.*no item of BFCL"),
        ([row("simple_java", gold=GOLD)], DataError, "holds 1 of 'simple_java'"),
        ([row("multi_turn_base", gold=[])], DataError, "holds 1 of 'multi_turn_base'"),
        ([row("multiple")], RowError, r"rows\.jsonl:1.*ground_truth"),
        ([row("multiple", gold=[{"weather.now": {"city": "Rome"}}])], RowError, "no list"),
        ([row("multiple", gold=GOLD, question=[[], []])], RowError, "one turn"),
        ([row("irrelevance", function=[{"name": 1}])], RowError, r"rows\.jsonl:1"),
        ([], DataError, "no rows"),
    ],
)
def test_a_wrong_file_is_refused_by_name_and_place(write_lines, tmp_path, rows, error, says):
    with pytest.raises(error, match=says):
        SUITE.read(str(write_lines(tmp_path / "rows.jsonl", *rows)))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="no file"):
        SUITE.read(str(tmp_path / "nothing.jsonl"))


@needs_data
def test_the_data_are_known_by_their_digest_however_few_categories(write_lines, tmp_path):
    with gzip.open(FILE, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    kept = [entry for entry in rows if entry["category"] == "multiple"]
    path = str(write_lines(tmp_path / "rows.jsonl", *reversed(kept)))
    assert data_version(path, CATEGORIES).endswith(f"bfcl-eval {PACKAGE}")
    kept[0]["function"][0]["description"] += "!"
    write_lines(tmp_path / "rows.jsonl", *kept)
    assert data_version(path, CATEGORIES).endswith("of no known package")


@needs_data
def test_all_golds_that_are_not_live_are_right_and_shuffled_ones_are_wrong(ask):
    asked = ask(SUITE, FILE)
    replies = asked.oracle()
    assert len(replies) == 1240
    assert asked.scores(*replies)["non_live"] == 100
    random.Random(0).shuffle(replies)
    assert asked.scores(*replies)["non_live"] < 1
