"""ACEBench: its files, its categories, what its words must hold, and its means."""

import pytest

from tl_jax.calls.call import ToolCall
from tl_jax.errors import DataError, RowError
from tl_jax.evaluate.suites.acebench import CATEGORIES, INSTRUCTIONS, MULTI_TURN, SPECIAL, SUITE

FUNCTION = {
    "name": "meals.plan",
    "description": "Plans meals.",
    "parameters": {
        "type": "dict",
        "properties": {
            "kind": {"type": "string", "description": "d"},
            "count": {"type": "integer", "description": "d"},
        },
        "required": ["kind"],
    },
}
# Tools that are never right may have another key.
OTHER = {"name": "other", "description": "d", "arguments": {"type": "object", "properties": {}}}
QUESTION = "user: Plan meals.\nPlease: soon.\nsystem: Which kind?\nuser: Asian.\n"
ANSWERS = {
    "special_incomplete": {"meals.plan": ["kind", "count"]},
    "special_error_param": {"count": ["minus two"]},
    "special_irrelevant": "Due to the limitations of the function, I cannot solve this problem.",
}
NORMAL_ANSWER = {"meals.plan": {"kind": "Asian", "count": 3}}


def question(identity, text=QUESTION, **more):
    return {"id": identity, "question": text, "function": [OTHER, FUNCTION], **more}


@pytest.fixture
def written(write_lines, tmp_path):
    """Write the files of some categories, each of some ids, and return their folder."""

    def write(**ids):
        folder = tmp_path / "data_all/data_en"
        for category, numbers in ids.items():
            name = f"data_{category}.json"
            rows = [question(f"{category}_{number}", time="It is June.") for number in numbers]
            answers = [
                {"id": row["id"], "ground_truth": ANSWERS.get(category, NORMAL_ANSWER)}
                for row in rows
            ]
            write_lines(folder / name, *rows)
            write_lines(folder / "possible_answer" / name, *answers)
        return tmp_path

    return write


@pytest.fixture
def asked(ask, written):
    """One item of every category; of the first of several turns, a dialogue of two."""
    ids = {name: ["0_0"] if name in MULTI_TURN else ["0"] for name in CATEGORIES}
    return ask(SUITE, written(**ids | {MULTI_TURN[0]: ["0_0", "0_1", "1_0"]}))


def judged(asked, category, reply):
    found = {item.tags["category"]: item for item in asked.items}
    places = [item is found[category] for item in asked.items]
    verdicts = asked.judge(*[reply] * len(asked.items))
    return verdicts[places.index(True)]


def test_gold_replies_are_right_in_every_category(asked):
    scores = asked.scores(*asked.oracle())
    assert scores == pytest.approx(dict.fromkeys(scores, 100))
    assert {*CATEGORIES, "normal", "special", "offline", "cf"} <= scores.keys()


def test_a_question_becomes_the_turns_of_a_dialogue(asked):
    normal = next(item for item in asked.items if item.tags["category"] == "normal_atom_bool")
    assert [(m.role, m.content) for m in normal.messages] == [
        ("system", "It is June."),
        ("user", "Plan meals.\nPlease: soon."),
        ("assistant", "Which kind?"),
        ("user", "Asian."),
    ]
    assert normal.gold.calls == ((ToolCall("meals.plan", NORMAL_ANSWER["meals.plan"]),),)
    assert [tool.name for tool in normal.tools] == ["other", "meals.plan"]
    special = next(item for item in asked.items if item.tags["category"] in SPECIAL)
    assert special.messages[0].content == f"It is June.\n\n{INSTRUCTIONS}"


@pytest.mark.parametrize(
    ("reply", "right", "levels", "category"),
    [
        ("[meals.plan(kind='Asian', count=3)]", True, 3, "all_right"),
        ("Here: [meals.plan(kind='Asian', count=3)] as asked [1].", True, 3, "all_right"),
        # Numbers are not compared there, nor is what is not required missed.
        ("[meals.plan(kind='Asian', count=9)]", True, 2, "content_filling"),
        ("[meals.plan(kind='asian food')]", True, 1, "parameter_missing"),
        ("[meals.plan(kind='Greek', count=3)]", False, 2, "content_filling"),
        ("[meals.plan(count=3)]", False, 1, "parameter_missing"),
        ("[other()]", False, 0, "wrong_tool"),
        ("Which kind?", False, 0, "format_error"),
    ],
)
def test_the_released_rule_and_the_comparison_of_all_values(asked, reply, right, levels, category):
    verdict = judged(asked, "normal_atom_bool", reply)
    assert verdict.scores["normal_atom_bool"] is right
    assert [verdict.scores[name] for name in ("ts", "pi", "cf")] == [
        level < levels for level in range(3)
    ]
    assert verdict.category == category


@pytest.mark.parametrize("category", MULTI_TURN)
def test_in_several_turns_no_words_may_stand_round_the_calls(asked, category):
    call = "[meals.plan(kind='Asian', count=3)]"
    assert judged(asked, category, call).scores[category]
    assert not judged(asked, category, f"Here: {call}").scores[category]


@pytest.mark.parametrize(
    ("category", "reply", "fault"),
    [
        ("special_incomplete", "Which kind?", "not_detected"),
        ("special_incomplete", "Missing necessary parameters (kind)", "not_named"),
        (
            "special_incomplete",
            "Missing necessary parameters (kind, count) for the api (meals.plan)",
            "all_right",
        ),
        ("special_error_param", "minus two is wrong", "not_detected"),
        ("special_error_param", "There is incorrect value (2)", "not_named"),
        ("special_error_param", "There is incorrect value (minus two)", "all_right"),
        ("special_irrelevant", "I cannot.", "not_detected"),
        ("special_irrelevant", "Sorry, the limitations of the function.", "all_right"),
    ],
)
def test_special_items_are_judged_by_their_words(asked, category, reply, fault):
    verdict = judged(asked, category, reply)
    assert verdict.category == fault
    assert verdict.scores == {category: fault == "all_right"}


def test_a_dialogue_is_right_if_all_its_turns_are_and_weights_are_those_of_the_set(asked):
    replies = asked.oracle()
    wrong = {f"{MULTI_TURN[0]}_0_0", "special_irrelevant_0"}
    for number, item in enumerate(asked.items):
        if item.id in wrong:
            replies[number] = "no"
    scores = asked.scores(*replies)
    assert scores[MULTI_TURN[0]] == 50
    assert scores[f"{MULTI_TURN[0]}/turns"] == pytest.approx(200 / 3)
    normal, special = (11 * 100 + 50) / 12, 200 / 3
    assert scores["normal"] == pytest.approx(normal)
    assert scores["special"] == pytest.approx(special)
    weighed = (0.578 * normal + 0.2676 * special) / (0.578 + 0.2676)
    assert scores["offline"] == pytest.approx(weighed)


def test_one_of_several_answers_is_enough(ask, write_lines, tmp_path):
    truth = [{"meals.plan": {"kind": kind}} for kind in ("Asian", "Thai")]
    row = question("normal_similar_api_0", ground_truth=truth)
    asked = ask(SUITE, write_lines(tmp_path / "rows.jsonl", row))
    for reply, right in (("[meals.plan(kind='Thai')]", True), ("[meals.plan(kind='x')]", False)):
        (verdict,) = asked.judge(reply)
        assert verdict.scores["normal_similar_api"] is verdict.scores["cf"] is right


def test_the_version_knows_questions_and_answers(written, write_lines):
    folder = written(normal_atom_bool=["0"])
    version = SUITE.version(str(folder))
    file = folder / "data_all/data_en/data_normal_atom_bool.json"
    assert SUITE.version(str(file)) == version
    answer = {"id": "normal_atom_bool_0", "ground_truth": {"meals.plan": {"kind": "Thai"}}}
    write_lines(file.parent / "possible_answer" / file.name, answer)
    assert SUITE.version(str(folder)) != version


@pytest.mark.parametrize(
    ("rows", "error", "says"),
    [
        ([question("normal_similar_api_0")], RowError, r"rows\.jsonl:1.*no answer"),
        ([question("agent_multi_turn_0")], DataError, "no ACEBench items"),
        ([{"noise": "clean"}], DataError, "no ACEBench items"),
        (
            [question("special_irrelevant_0", text="Plan.", ground_truth="no")],
            RowError,
            "no dialogue",
        ),
        ([question("normal_similar_api_0", ground_truth=3)], RowError, r"rows\.jsonl:1"),
    ],
)
def test_a_wrong_file_is_refused_by_name_and_place(write_lines, tmp_path, rows, error, says):
    with pytest.raises(error, match=says):
        SUITE.read(str(write_lines(tmp_path / "rows.jsonl", *rows)))
