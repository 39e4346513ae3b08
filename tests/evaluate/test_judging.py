"""The evaluator's own truth: gold answers, shuffled ones, and each kind of error put in."""

import pytest

from tl_jax.calls.call import Parameter, ToolCall, ToolSpec
from tl_jax.evaluate import results
from tl_jax.evaluate.predictions import oracle_replies
from tl_jax.evaluate.reading import STYLES, writer
from tl_jax.evaluate.results import Reply
from tl_jax.evaluate.suites import SUITES
from tl_jax.evaluate.suites.choose import read_items
from tl_jax.evaluate.suites.suite import Item, Suite, answers
from tl_jax.rewards import taxonomy

SEEN = SUITES["synthetic/seen"]
TOOLS = (
    ToolSpec("book", "", (Parameter("to", required=True), Parameter("on"), Parameter("seat"))),
    ToolSpec("cancel", "", (Parameter("to", required=True),)),
)
GOLD = ToolCall("book", {"to": "Oslo", "on": "Monday"})
ONE = Item("one", TOOLS, (), answers(GOLD))
PAIR = Item("pair", TOOLS, (), ((GOLD, ToolCall("cancel", {"to": "Rome"})),))
WORDS = Item("words", TOOLS, (), ((),))
PLAIN = Suite("plain", lambda path: ())


@pytest.fixture(scope="module")
def items():
    return read_items(SEEN, "4")


def levels(verdict):
    return tuple(verdict.scores[name] for name in ("ts", "pi", "cf"))


@pytest.mark.parametrize("style", ["python", "hermes", "react", "pythonic"])
def test_the_gold_answers_of_a_suite_are_right_in_any_style(items, style):
    replies = oracle_replies(SEEN, items, writer(style))
    verdicts = [results.judge(SEEN, i, r, style) for i, r in zip(items, replies, strict=True)]
    found = results.scored(SEEN, items, replies, verdicts)
    assert set(found["scores"].values()) == {100.0}
    assert found["categories"] == {taxonomy.ALL_RIGHT: len(items)}


def test_shuffled_answers_are_right_as_often_as_by_chance(items):
    replies = oracle_replies(SEEN, items, writer("hermes"))
    names = [item.gold[0][0].name for item in items]
    right = expected = count = 0
    for turn in range(1, len(items)):
        rolled = [*replies[turn:], *replies[:turn]]
        right += sum(
            results.judge(SEEN, item, reply, "hermes").scores["ts"]
            for item, reply in zip(items, rolled, strict=True)
        )
        expected += sum(a == b for a, b in zip(names, [*names[turn:], *names[:turn]], strict=True))
        count += len(items)
    assert right == expected and right < 0.7 * count
    service = [item for item in items if item.tags["group"] == "service"]
    wrong = [
        results.judge(SEEN, item, replies[items.index(other)], "hermes").scores["cf"]
        for item in service
        for other in service
        if item.gold != other.gold
    ]
    assert sum(wrong) <= 0.02 * len(wrong)


def call(name="book", **arguments):
    return writer("hermes")([ToolCall(name, arguments)])


RIGHT = call(to="Oslo", on="Monday")
ERRORS = {
    "": (taxonomy.FORMAT_ERROR, 0),
    "The train leaves on Monday.": (taxonomy.FORMAT_ERROR, 0),
    RIGHT[:-14]: (taxonomy.FORMAT_ERROR, 0),
    f"{RIGHT} and more": (taxonomy.FORMAT_ERROR, 0),
    f"{RIGHT}\n{RIGHT}": (taxonomy.EXTRA_CALL, 0),
    call("fly", to="Oslo", on="Monday"): (taxonomy.TOOL_HALLUCINATION, 0),
    call("cancel", to="Oslo"): (taxonomy.WRONG_TOOL, 0),
    call(to="Oslo", on="Monday", via="Rome"): (taxonomy.PARAMETER_HALLUCINATION, 1),
    call(to="Oslo", on="Monday", seat="1A"): (taxonomy.PARAMETER_REDUNDANCY, 1),
    call(to="Oslo"): (taxonomy.PARAMETER_MISSING, 1),
    call(to="Oslo", on="Sunday"): (taxonomy.CONTENT_FILLING, 2),
    RIGHT: (taxonomy.ALL_RIGHT, 3),
    f"I look it up.\n{RIGHT}": (taxonomy.ALL_RIGHT, 3),
}


@pytest.mark.parametrize("reply", ERRORS, ids=[f"{c}-{n}" for c, n in ERRORS.values()])
def test_each_error_gives_exactly_its_verdict(reply):
    category, reached = ERRORS[reply]
    verdict = results.judge(PLAIN, ONE, Reply(reply), "hermes")
    assert (verdict.category, levels(verdict)) == (category, tuple(n < reached for n in range(3)))


def test_an_argument_with_its_default_is_as_wrong_by_its_category_as_by_its_scores():
    seats = Parameter("seats", "integer", "", False, {"type": "integer", "default": 1})
    tool = ToolSpec("book", "Book.", (Parameter("to", "string", "", True), seats))
    short, full = ToolCall("book", {"to": "Oslo"}), ToolCall("book", {"to": "Oslo", "seats": 1})
    for gold, given, category in (
        (short, full, taxonomy.PARAMETER_REDUNDANCY),
        (full, short, taxonomy.PARAMETER_MISSING),
    ):
        item = Item("default", (tool,), (), answers(gold))
        reply = Reply(writer("hermes")([given]))
        verdict = results.judge(PLAIN, item, reply, "hermes")
        assert (verdict.category, levels(verdict)) == (category, (True, False, False))


def test_every_category_is_among_the_errors():
    # A missing call takes several that are due; a custom reward is no error.
    rest = {taxonomy.MISSING_CALL, taxonomy.CUSTOM}
    assert {category for category, _ in ERRORS.values()} | rest == {*taxonomy.CATEGORIES} | rest


def test_calls_of_one_turn_count_together():
    first, second = PAIR.gold[0]
    write = writer("hermes")
    both = results.judge(PLAIN, PAIR, Reply(write([second, first])), "hermes")
    assert (both.category, levels(both)) == (taxonomy.ALL_RIGHT, (True, True, True))
    half = results.judge(PLAIN, PAIR, Reply(write([first])), "hermes")
    assert (half.category, levels(half)) == (taxonomy.MISSING_CALL, (False, False, False))


@pytest.mark.parametrize(
    "reply,right", [("It is warm.", True), (RIGHT, False), ("", False), ("<tool_call>", False)]
)
def test_where_no_call_is_right_words_are(reply, right):
    verdict = results.judge(PLAIN, WORDS, Reply(reply), "hermes")
    assert verdict.scores == {"no_call": right}
    assert (verdict.category == taxonomy.ALL_RIGHT) == right


def test_a_reply_that_did_not_end_is_wrong_whatever_it_says():
    verdict = results.judge(PLAIN, ONE, Reply(RIGHT, results.NOT_ENDED), "hermes")
    assert verdict.category == taxonomy.FORMAT_ERROR and not any(levels(verdict))


def test_react_text_is_a_style_of_replies():
    assert "react" in STYLES
    text = 'Thought: so\nAction: book\nAction Input: {"to": "Oslo", "on": "Monday"}'
    assert levels(results.judge(PLAIN, ONE, Reply(text), "react")) == (True, True, True)
    assert not any(levels(results.judge(PLAIN, ONE, Reply(text + "!"), "react")))
