"""The strict reward: its penalties, what it forgives, and what must not fool it."""

import functools
import json
import os
import pathlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.calls.call import Parameter, ToolCall, ToolSpec
from tl_jax.calls.render import render_call
from tl_jax.rewards import taxonomy
from tl_jax.rewards.rules import MODES, PENALTIES, RIGHT, score

GOLDEN = os.environ.get("TL_JAX_GOLDEN")

FORECAST = ToolSpec(
    "forecast",
    parameters=(
        Parameter("city", "string", required=True),
        Parameter("days", "integer", required=True),
        Parameter("scale", "number"),
        Parameter("units", "string", schema={"type": "string", "default": "metric"}),
        Parameter("tags", "array", schema={"type": "array", "items": {"type": "string"}}),
    ),
)
ALERTS = ToolSpec("alerts", parameters=(Parameter("city", "string", required=True),))
NOW = ToolSpec("now")
FINISH = ToolSpec("finish", parameters=(Parameter("answer", "string", required=True),))
TOOLS = (FORECAST, ALERTS, NOW, FINISH)
GOLD = "forecast(city = 'Paris', days = 3)"


def golden_cases():
    if not GOLDEN:
        return []
    found = json.loads(pathlib.Path(GOLDEN, "reward_cases.json").read_text())
    return [
        (case, found["default_tools"] if case["tools"] == "default" else case["tools"])
        for case in found["cases"]
    ]


# Cases of the golden file without an intended reward whose published reward is a blind spot: the
# reader skips numbers (the gold's limit is missing here), later text, repeated and quoted names.
SANE = {
    "halluc_only": -1.3,
    "halluc_and_redundant": -1.8,
    "two_halluc": -1.3,
    "value_space": -0.5,
    "two_wrong_values": -0.5,
    "halluc_and_value_wrong": -1.3,
    "trailing_text": -2.0,
    "two_calls": -2.0,
    "duplicate_key_last_wins": -2.0,
    "key_with_hyphen": -1.3,
    "key_inside_double_quoted": -0.25,
}


@pytest.mark.skipif(not GOLDEN, reason="TL_JAX_GOLDEN is not set")
@pytest.mark.parametrize("case,tools", golden_cases(), ids=lambda x: x.get("id", ""))
def test_golden_strict_rewards(case, tools):
    reward = score(
        case["prediction"],
        case["gold"],
        tools,
        mode="strict",
        given_tool=case["prompt_suffix_after_last_Assistant"],
    )
    published = case["code_reward"]
    expected = case.get("intended_reward", SANE.get(case["id"], published))
    assert reward.value == expected
    assert type(reward.value) is float


@pytest.mark.skipif(not GOLDEN, reason="TL_JAX_GOLDEN is not set")
@pytest.mark.parametrize("case,tools", golden_cases(), ids=lambda x: x.get("id", ""))
def test_tool_specs_score_as_their_names_do(case, tools):
    specs = [ToolSpec(n, parameters=tuple(Parameter(p) for p in ps)) for n, ps in tools.items()]
    for mode in MODES:
        options = {"mode": mode, "given_tool": case["prompt_suffix_after_last_Assistant"]}
        assert score(case["prediction"], case["gold"], specs, **options) == score(
            case["prediction"], case["gold"], tools, **options
        )


TABLE = [
    ("forecast(city = 'Paris', days = 3)", 1.0, taxonomy.ALL_RIGHT),
    ("forecast(city = 'Rome', days = 3)", -0.25, taxonomy.CONTENT_FILLING),
    ("forecast(city = 'Rome', days = 9)", -0.25, taxonomy.CONTENT_FILLING),
    ("forecast(city = 'Paris')", -0.5, taxonomy.PARAMETER_MISSING),
    ("forecast()", -0.5, taxonomy.PARAMETER_MISSING),
    ("forecast(city = 'Paris', days = 3, scale = 1)", -0.5, taxonomy.PARAMETER_REDUNDANCY),
    ("forecast(city = 'Paris', days = 3, year = 1)", -0.8, taxonomy.PARAMETER_HALLUCINATION),
    ("forecast(city = 'Rome', days = 3, year = 1)", -0.8, taxonomy.PARAMETER_HALLUCINATION),
    ("forecast(city = 'Paris', scale = 1)", -1.0, taxonomy.PARAMETER_REDUNDANCY),
    ("forecast(city = 'Paris', day = 3)", -1.3, taxonomy.PARAMETER_HALLUCINATION),
    (
        "forecast(city = 'Paris', days = 3, scale = 1, year = 1)",
        -1.3,
        taxonomy.PARAMETER_HALLUCINATION,
    ),
    ("forecast(city = 'Paris', scale = 1, day = 3)", -1.8, taxonomy.PARAMETER_HALLUCINATION),
    ("alerts(city = 'Paris', days = 3)", -1.5, taxonomy.WRONG_TOOL),
    ("weather(city = 'Paris', days = 3)", -2.0, taxonomy.TOOL_HALLUCINATION),
    ("forecast(city = 'Paris', days = 3", -2.0, taxonomy.FORMAT_ERROR),
]


@pytest.mark.parametrize("prediction,value,category", TABLE)
def test_the_ladder(prediction, value, category):
    reward = score(prediction, GOLD, TOOLS)
    assert (reward.value, reward.category) == (value, category)
    assert bool(reward.details) == (category != taxonomy.ALL_RIGHT)
    assert all(line.split(":")[0] in taxonomy.CATEGORIES for line in reward.details)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("prediction", [row[0] for row in TABLE])
def test_every_reward_is_a_float(prediction, mode):
    assert type(score(prediction, GOLD, TOOLS, mode=mode).value) is float


def test_details_name_what_is_wrong():
    reward = score("forecast(city = 'Paris', scale = 1, day = 3)", GOLD, TOOLS)
    assert reward.details == (
        "parameter_hallucination: day",
        "parameter_redundancy: scale",
        "parameter_missing: days",
    )


@pytest.mark.parametrize(
    "prediction",
    [
        "forecast(days=3, city='Paris')",
        'forecast(city="Paris", days=3)',
        " forecast (city = 'Paris', days = 3) \n",
        "forecast(city = 'Paris', days = +3,)",
        "forecast(city = 'Par' 'is', days = 3)",
        "forecast(city = 'Paris', days = 3, units = 'metric')",  # the declared default
        ToolCall("forecast", {"city": "Paris", "days": 3}),
    ],
)
def test_the_same_call_in_other_words_is_right(prediction):
    assert score(prediction, GOLD, TOOLS).value == RIGHT


def test_an_optional_argument_that_equals_its_default_may_be_left_out():
    gold = ToolCall("forecast", {"city": "Paris", "days": 3, "units": "metric"})
    for mode in ("strict", "graded"):
        assert score(GOLD, gold, TOOLS, mode=mode).value == RIGHT
        assert score(gold, GOLD, TOOLS, mode=mode).value == RIGHT
    imperial = ToolCall("forecast", {**gold.arguments, "units": "imperial"})
    assert score(GOLD, imperial, TOOLS).value == -0.5
    assert score(imperial, gold, TOOLS).value == -0.25
    # Only the schema knows a default, and only that of an optional parameter.
    assert score(GOLD, gold, {"forecast": ["city", "days", "units"]}).value == -0.5
    due = Parameter("units", "string", required=True, schema={"default": "metric"})
    tool = ToolSpec("forecast", parameters=(*FORECAST.parameters[:3], due))
    assert score(GOLD, gold, [tool]).value == -0.5
    assert score(gold, GOLD, [tool]).value == -0.5


def test_wrong_values_beside_wrong_parameters_are_told_but_not_counted():
    reward = score("forecast(city = 'Rome', year = 1)", GOLD, TOOLS)
    assert (reward.value, reward.details[-1]) == (-1.3, "content_filling: city")


def test_a_number_parameter_accepts_an_integral_float():
    gold = ToolCall("forecast", {"city": "Paris", "days": 3, "scale": 2})
    assert score("forecast(city='Paris', days=3, scale=2.0)", gold, TOOLS).value == RIGHT
    assert score("forecast(city='Paris', days=3.0, scale=2)", gold, TOOLS).value == -0.25


# Predictions against GOLD that look right to a careless reader.
TRICKS = [
    "",
    "forecast",
    "forecast(",
    "forecast()",
    "forecast(city = 'Paris', days = 3",
    "forecast(city = 'Paris', days = 3))",
    "forecast(city = 'Paris', days = 3) forecast(city = 'Paris', days = 3)",
    "forecast(city = 'Paris', days = 3)\nforecast(city = 'Rome', days = 9)",
    "forecast(city = 'Paris', days = 3); now()",
    "forecast(city = 'Paris', days = 3).city",
    "forecast(city = 'Paris', days = 3) # days = 9",
    "forecast(city = 'Paris', days = 3) is the call",
    "forecast(city = 'Paris', days = 3), now()",
    "[forecast(city = 'Paris', days = 3)]",
    "(forecast(city = 'Paris', days = 3))",
    "print(forecast(city = 'Paris', days = 3))",
    "now(forecast(city = 'Paris', days = 3))",
    "I call forecast(city = 'Paris', days = 3)",
    "Thought: fine\nforecast(city = 'Paris', days = 3)",
    "```\nforecast(city = 'Paris', days = 3)\n```",
    "'forecast(city = \\'Paris\\', days = 3)'",
    "finish(answer = \"forecast(city = 'Paris', days = 3)\")",
    "forecast(x = \"city = 'Paris', days = 3\")",
    "forecast(city = \"city = 'Paris'\", days = 3)",
    "forecast(city = 'Paris', days = 3, days = 9)",
    "forecast(city = 'Rome', city = 'Paris', days = 3)",
    "forecast(city = 'Paris', days = '3')",
    "forecast(city = 'Paris', days = 3.0)",
    "forecast(city = 'Paris', days = True)",
    "forecast(city = 'Paris', days = [3])",
    "forecast(city = 'Paris', days = None)",
    "forecast(city = 'Paris', days = 1 + 2)",
    "forecast(city = 'Paris', days = 03)",
    "forecast(city = 'Paris', days = 3e0)",
    "forecast(city = 'Paris', days = 99)",
    "forecast(city = ['Paris'], days = 3)",
    "forecast(city = {'city': 'Paris'}, days = 3)",
    "forecast(city = 'paris', days = 3)",
    "forecast(city = ' Paris', days = 3)",
    "forecast(city = 'Paris)', days = 9)",
    "forecast(city = 'Par', days = 3)",
    "forecast(city = 'Paris, days = 3')",
    "forecast(city = '\u0420aris', days = 3)",  # a Cyrillic letter
    "forecast(city = 'Paris\\'s', days = 3)",
    "forecast(city = 'Paris\u200b', days = 3)",
    "forecast(city = Paris, days = 3)",
    "forecast('Paris', 3)",
    "forecast('Paris', days = 3)",
    "forecast(**{'city': 'Paris', 'days': 3})",
    "forecast(City = 'Paris', Days = 3)",
    "forecast(city: 'Paris', days: 3)",
    "forecast(city = 'Paris', days = 3, units = 'imperial')",
    "forecast(city = 'Paris', days = 3, units = None)",
    "forecast(city = 'Paris', days = 3, year = None)",
    "forecast(city = 'Paris', days = 3, tags = [])",
    "Forecast(city = 'Paris', days = 3)",
    "forecast_(city = 'Paris', days = 3)",
    "tools.forecast(city = 'Paris', days = 3)",
    "\uff46orecast(city = 'Paris', days = 3)",  # a full-width letter
    '{"name": "forecast", "arguments": {"city": "Paris", "days": 3}}',
]


@pytest.mark.parametrize("prediction", TRICKS)
def test_tricks_are_not_right(prediction):
    assert score(prediction, GOLD, TOOLS).value < 0


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(GOLD) - 1), st.characters(codec="utf-8"))
def test_one_changed_character_is_not_right_unless_it_is_a_blank_or_a_sign(at, character):
    changed = GOLD[:at] + character + GOLD[at + 1 :]
    if score(changed, GOLD, TOOLS).value == RIGHT:
        assert changed.replace("+", " ").split() == GOLD.split()


@pytest.mark.parametrize(
    "answer,right",
    [
        ("The flight to Rome costs 120 euros and leaves at 9.", True),
        ("the flight to Rome costs 120 euros, and leaves at 9", True),
        ("The flight to Rome costs 120 euros and it leaves at 9.", False),
        ("The flight to Rome costs 120 euros and lands at 9.", False),
        ("The flight to Rome costs 150 euros and leaves at 9.", False),
        ("The flight to Rome costs 9 euros and leaves at 120.", False),
        ("The flight to Rome costs not 120 euros and leaves at 9.", False),
        ("A train goes to Milan.", False),
        ("", False),
    ],
)
def test_free_text_is_compared_by_its_words(answer, right):
    gold = "finish(answer = 'The flight to Rome costs 120 euros and leaves at 9.')"
    reward = score(ToolCall("finish", {"answer": answer}), gold, TOOLS)
    assert reward.value == (RIGHT if right else -0.25)


def test_free_text_settings_take_effect():
    prediction, gold = "finish(answer = 'All is done now')", "finish(answer = 'All is done.')"
    about = functools.partial(score, prediction, gold, TOOLS, free_text_match="token_f1")
    assert about().value == RIGHT
    assert about(free_text_tools=()).value == -0.25
    assert about(free_text_min_f1=0.9).value == -0.25
    for match in ("normalised", "exact"):
        assert score(prediction, gold, TOOLS, free_text_match=match).value == -0.25
    assert score("finish(answer = 'all is done')", gold, TOOLS).value == RIGHT
    assert score("finish(answer = 'all is done')", gold, TOOLS, free_text_match="exact").value < 1
    with pytest.raises(ValueError, match="known: normalised, token_f1, exact"):
        score(prediction, gold, TOOLS, free_text_match="fuzzy")


def test_single_arguments_can_be_free_text():
    tools = [ToolSpec("mail", parameters=(Parameter("to"), Parameter("body")))]
    gold = ToolCall("mail", {"to": "ann", "body": "See you soon."})
    other = ToolCall("mail", {"to": "ann", "body": "see you soon"})
    assert score(other, gold, tools).value == -0.25
    options = {"free_text_tools": ["mail.body"], "free_text_match": "normalised"}
    assert score(other, gold, tools, **options).value == RIGHT
    wrong = ToolCall("mail", {"to": "Ann", "body": "See you soon."})
    assert score(wrong, gold, tools, **options).details == ("content_filling: to",)


def test_free_text_still_needs_its_parameter():
    gold = "finish(answer = 'done')"
    assert score("finish(text = 'done')", gold, TOOLS).value == -1.3
    assert score("finish(answer = ['done'])", gold, TOOLS).value == -0.25


def test_a_given_tool_leaves_only_the_arguments():
    options = {"given_tool": "forecast"}
    gold = "(city = 'Paris', days = 3)"
    assert score(" (days = 3, city = 'Paris')", gold, TOOLS, **options).value == RIGHT
    assert score(GOLD, gold, TOOLS, **options).category == taxonomy.WRONG_TOOL
    assert score("city = 'Paris'", gold, TOOLS, **options).category == taxonomy.FORMAT_ERROR
    assert score("(days = 3, city = 'Paris')", GOLD, TOOLS, **options).value == RIGHT


def test_an_unoffered_tool_is_right_only_if_it_is_gold():
    gold = "other(x = 'y')"
    assert score(gold, gold, TOOLS).value == RIGHT
    assert score("other(x = 'y', z = 1)", gold, TOOLS).value == -0.8
    assert score("other(x = 'z')", gold, TOOLS).value == -0.25


def test_a_gold_text_that_is_no_call_is_named():
    reward = score(GOLD, "no call here", TOOLS)
    assert reward.value == -2.0
    assert "gold" in reward.details[0]


def test_every_category_but_right_has_a_penalty():
    assert set(PENALTIES) == set(taxonomy.CATEGORIES) - {taxonomy.ALL_RIGHT}


JSON_CALL = '{"name": "forecast", "%s": {"city": "Paris", "days": 3}}'
WRITTEN = {
    "python": GOLD,
    "hermes": "<tool_call>" + JSON_CALL % "arguments" + "</tool_call>",
    "llama_json": JSON_CALL % "parameters",
    "mistral": "[TOOL_CALLS][" + JSON_CALL % "arguments" + "]",
}


@pytest.mark.parametrize("style", WRITTEN)
def test_texts_are_read_in_the_call_style(style):
    for written, text in WRITTEN.items():
        expected = RIGHT if written == style else PENALTIES[taxonomy.FORMAT_ERROR]
        reward = score(text, ToolCall("forecast", {"city": "Paris", "days": 3}), TOOLS, style=style)
        assert reward.value == expected
    text = WRITTEN[style]
    assert score(text, text, TOOLS, style=style).value == RIGHT
    assert score(text.replace("3", "4"), text, TOOLS, style=style).value == -0.25
    assert (
        score(text + " ok", text, TOOLS, style=style)
        .details[0]
        .startswith("format_error: trailing_text")
    )


@pytest.mark.parametrize("option", [{"mode": "reference"}, {"given_tool": "forecast"}])
def test_what_is_defined_for_python_calls_refuses_other_styles(option):
    with pytest.raises(ValueError, match="Python calls"):
        score(GOLD, GOLD, TOOLS, style="hermes", **option)


def test_an_unknown_style_is_named():
    with pytest.raises(ValueError, match="known: python, hermes"):
        score(GOLD, GOLD, TOOLS, style="yaml")


def test_an_unknown_mode_is_named():
    with pytest.raises(ValueError, match="known: strict, reference, graded"):
        score(GOLD, GOLD, TOOLS, mode="lenient")


ARGUMENTS = st.dictionaries(
    st.sampled_from(["city", "days", "scale", "units", "year", "x"]),
    st.integers(0, 2) | st.sampled_from(["a", "it's", "(b)"]),
)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["forecast", "alerts", "none"]),
    ARGUMENTS,
    st.sampled_from(["released", "script"]),
)
def test_rewards_stay_on_the_ladder_and_text_scores_as_the_call_does(name, arguments, style):
    call = ToolCall(name, arguments)
    reward = score(call, GOLD, TOOLS)
    assert reward.value in {1.0, -0.25, -0.5, -0.8, -1.0, -1.3, -1.8, -1.5, -2.0}
    assert score(render_call(call, style), GOLD, TOOLS) == reward
    assert score(call, call, TOOLS).value == RIGHT


def test_scoring_is_fast_enough_to_be_ignored():
    count = 2000
    start = time.process_time()
    for _ in range(count):
        score(GOLD, GOLD, TOOLS)
    assert count / (time.process_time() - start) > 5_000  # tools/bench/reward.py measures
