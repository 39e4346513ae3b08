"""Several accepted answers, several calls at once, and answers without a call."""

import itertools
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.calls.call import Parameter, ToolCall, ToolSpec
from tl_jax.rewards import taxonomy
from tl_jax.rewards.rules import RIGHT, Parallel, Reward, score, score_batch

CITY = Parameter("city", "string", required=True)
TOOLS = (
    ToolSpec("rain", parameters=(CITY, Parameter("days", "integer"))),
    ToolSpec("wind", parameters=(CITY,)),
    ToolSpec("now"),
)
RAIN = ToolCall("rain", {"city": "Rome", "days": 2})
WIND = ToolCall("wind", {"city": "Oslo"})
NOW = ToolCall("now")
BOTH = Parallel((RAIN, WIND))


def found(prediction, gold, **options):
    reward = score(prediction, gold, TOOLS, **options)
    return reward.value, reward.category


@pytest.mark.parametrize(
    "prediction,value",
    [
        ("wind(city = 'Oslo')", 1.0),
        ("now()", 1.0),
        ("wind(city = 'Bonn')", -0.25),
        ("rain(city = 'Rome', days = 3)", -0.25),
        ("rain()", -0.5),
        ("now(zone = 'x')", -0.8),
        ("sun()", -2.0),
    ],
)
def test_the_best_of_the_accepted_answers_counts(prediction, value):
    golds = ["rain(city = 'Rome', days = 2)", WIND, "now()"]
    assert score(prediction, golds, TOOLS).value == value
    assert score(prediction, golds[::-1], TOOLS).value == value
    assert value == max(score(prediction, gold, TOOLS).value for gold in golds)


def test_accepted_answers_may_be_of_different_kinds():
    golds = [BOTH, NOW, None]
    assert found("wind(city = 'Oslo')\nrain(days = 2, city = 'Rome')", golds)[0] == RIGHT
    assert found("now()", golds)[0] == RIGHT
    assert found("It is noon.", golds)[0] == RIGHT
    assert found("now() now()", golds) == (-2.0, taxonomy.FORMAT_ERROR)
    assert found("now()\nnow()\nnow()", golds) == (-2.0, taxonomy.EXTRA_CALL)


def test_the_published_reward_takes_the_best_answer_too_but_only_single_calls():
    golds = ["rain(city = 'Rome')", "wind(city = 'Oslo')"]
    assert found("wind(city = 'Oslo')", golds, mode="reference")[0] == RIGHT
    assert found(Parallel((WIND,)), Parallel((WIND,)), mode="reference")[0] == RIGHT
    for gold in (BOTH, None):
        with pytest.raises(ValueError, match="one call only"):
            found("wind(city = 'Oslo')", gold, mode="reference")


def test_an_empty_list_of_answers_is_refused():
    for mode in ("strict", "reference"):
        with pytest.raises(ValueError, match="say so with None"):
            score("now()", [], TOOLS, mode=mode)


def test_a_given_tool_begins_one_call_only():
    for gold in (BOTH, None):
        with pytest.raises(ValueError, match="only one call"):
            score("(city = 'Rome')", gold, TOOLS, given_tool="rain")


@pytest.mark.parametrize(
    "reply,value,category",
    [
        ("rain(city = 'Rome', days = 2)\nwind(city = 'Oslo')", 1.0, taxonomy.ALL_RIGHT),
        ("[wind(city = 'Oslo'), rain(city = 'Rome', days = 2)]", 1.0, taxonomy.ALL_RIGHT),
        ("wind(city = 'Oslo')\nrain(city = 'Rome', days = 3)", 0.375, taxonomy.CONTENT_FILLING),
        ("wind(city = 'Oslo')\nrain(city = 'Rome')", 0.25, taxonomy.PARAMETER_MISSING),
        ("wind(city = 'Oslo')\nnow()", -0.25, taxonomy.WRONG_TOOL),
        ("wind(city = 'Oslo')\nsun()", -0.5, taxonomy.TOOL_HALLUCINATION),
        ("wind(city = 'Oslo')", -0.5, taxonomy.MISSING_CALL),
        ("wind(city = 'Oslo')\nwind(city = 'Oslo')", -0.25, taxonomy.WRONG_TOOL),
        (
            "wind(city = 'Oslo')\nrain(city = 'Rome', days = 2)\nnow()",
            -2.0,
            taxonomy.EXTRA_CALL,
        ),
        ("wind(city = 'Oslo') rain(city = 'Rome', days = 2)", -2.0, taxonomy.FORMAT_ERROR),
        ("wind(city = 'Oslo')\nThat is all.", -2.0, taxonomy.FORMAT_ERROR),
        ("", -2.0, taxonomy.FORMAT_ERROR),
    ],
)
def test_calls_are_matched_with_the_gold_calls(reply, value, category):
    assert found(reply, BOTH) == (value, category)
    assert found(reply, Parallel((WIND, RAIN))) == (value, category)
    text = "rain(city = 'Rome', days = 2)\nwind(city = 'Oslo')"
    assert found(reply, text) == (value, category)


def test_findings_say_in_which_call():
    reply = "wind(town = 'Oslo')\nrain(city = 'Rome', days = 3)"
    reward = score(reply, Parallel((RAIN, WIND, NOW)), TOOLS)
    assert reward.details == (
        "missing_call: now",
        "parameter_hallucination: town (call 1)",
        "parameter_missing: city (call 1)",
        "content_filling: days (call 2)",
    )
    assert (reward.value, reward.category) == (round((-1.3 - 0.25 - 2) / 3, 6), "missing_call")


CALLS = st.builds(
    ToolCall,
    st.sampled_from(["rain", "wind", "sun"]),
    st.dictionaries(st.sampled_from(["city", "days", "x"]), st.integers(0, 1)),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(CALLS, min_size=1, max_size=3), st.lists(CALLS, min_size=1, max_size=3))
def test_the_order_of_calls_does_not_matter_and_no_matching_is_better(calls, golds):
    for mode in ("strict", "graded"):
        options = {"mode": mode}
        reward = found(Parallel(tuple(calls)), Parallel(tuple(golds)), **options)[0]
        for some in itertools.permutations(calls):
            assert found(Parallel(some), Parallel(tuple(golds)), **options)[0] == reward
        if len(calls) <= len(golds):
            sums = [
                sum(found(c, g, **options)[0] for c, g in zip(calls, some, strict=False))
                for some in itertools.permutations(golds)
            ]
            best = (max(sums) - 2 * (len(golds) - len(calls))) / len(golds)
            assert reward == pytest.approx(best, abs=1e-6)
        else:
            assert reward == -2.0
        same = Parallel(tuple(golds))
        assert found(same, same, **options)[0] == RIGHT


@pytest.mark.parametrize(
    "reply",
    [
        "Which city do you mean?",
        "I cannot handle the task (yet).",
        "It rains in Rome, (and) the wind is strong",
        "a == b",
        "f(x) is not a call with arguments",
    ],
)
def test_words_are_right_where_no_call_is(reply):
    for style in ("python", "hermes", "llama_json", "mistral"):
        assert found(reply, None, style=style) == (RIGHT, taxonomy.ALL_RIGHT)
    assert found(reply, Parallel(()))[0] == RIGHT
    assert found(reply, NOW) == (-2.0, taxonomy.FORMAT_ERROR)


@pytest.mark.parametrize(
    "reply,category",
    [
        ("", taxonomy.FORMAT_ERROR),
        (" \n", taxonomy.FORMAT_ERROR),
        ("now()", taxonomy.EXTRA_CALL),
        ("sun(x = 1)", taxonomy.EXTRA_CALL),
        ("now()\nnow()", taxonomy.EXTRA_CALL),
        ("I call now()", taxonomy.FORMAT_ERROR),
        ("now(", taxonomy.FORMAT_ERROR),
        ("now (", taxonomy.FORMAT_ERROR),
        ("Sure: sun(\n day = 'x'", taxonomy.FORMAT_ERROR),
        ("<tool_call>", taxonomy.FORMAT_ERROR),
        ('{"name": "sun"', taxonomy.FORMAT_ERROR),
        (NOW, taxonomy.EXTRA_CALL),
    ],
)
def test_a_call_or_nothing_is_wrong_where_no_call_is_right(reply, category):
    assert found(reply, None) == (-2.0, category)
    assert found(None, None)[0] == RIGHT


def test_a_name_inside_a_word_is_no_call():
    assert found("I know (a little).", None)[0] == RIGHT


@pytest.mark.parametrize("text", ["a" * 200_000, "f(" * 50_000, "now" * 50_000, "f( " * 50_000])
def test_looking_for_calls_takes_linear_time(text):
    start = time.process_time()
    score(text, None, TOOLS)
    assert time.process_time() - start < 0.5


def test_an_answer_as_data_without_a_call_misses_it():
    assert found(None, WIND) == (-2.0, taxonomy.MISSING_CALL)


def test_a_batch_scores_each_by_its_own_gold_and_tools():
    predictions = ["now()", WIND, "wind(city = 'Oslo')", "Hello."]
    golds = [NOW, [RAIN, WIND], RAIN, None]
    tables = [TOOLS, TOOLS, {"wind": ["city"], "rain": ["city", "days"]}, ()]
    rewards = score_batch(predictions, golds, tables)
    assert rewards == [score(*row) for row in zip(predictions, golds, tables, strict=True)]
    assert [reward.value for reward in rewards] == [1.0, 1.0, -1.5, 1.0]
    settings = {"mode": "graded", "free_text_tools": ["wind"], "free_text_match": "normalised"}
    assert score_batch(["wind(city = 'oslo!')"], [WIND], [TOOLS], **settings) == [
        Reward(RIGHT, taxonomy.ALL_RIGHT)
    ]
    assert score_batch([], [], []) == []
    with pytest.raises(ValueError, match="differ in number: 2, 1, 1"):
        score_batch(["now()", "now()"], [NOW], [TOOLS])
