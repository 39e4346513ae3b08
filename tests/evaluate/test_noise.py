"""Noise changes what is asked and not what is right; it depends on seed, kind and item only."""

from dataclasses import replace

import pytest

from tl_jax.calls.call import Parameter, ToolCall, ToolSpec, tool_from_schema, tool_to_schema
from tl_jax.errors import ConfigError
from tl_jax.evaluate import results, suite_file
from tl_jax.evaluate.noise import CLEAN, KINDS, LEVELS, make_noisy
from tl_jax.evaluate.predictions import oracle_replies
from tl_jax.evaluate.reading import writer
from tl_jax.evaluate.renaming import Renaming
from tl_jax.evaluate.results import Reply
from tl_jax.evaluate.suites import SUITES
from tl_jax.evaluate.suites.choose import Chosen, read_items
from tl_jax.evaluate.suites.suite import Item

SUITE = SUITES["synthetic/seen"]


@pytest.fixture(scope="module")
def items():
    return read_items(SUITE, "3")


@pytest.mark.parametrize("kind", KINDS)
def test_the_gold_answers_stay_right_and_those_under_old_names_do_not(items, kind):
    noisy = make_noisy(items, kind, 1)
    assert noisy == make_noisy(items, kind, 1)
    changed = 0
    for one in noisy:
        suite = one.suite(SUITE)
        (gold,) = oracle_replies(suite, [one.item], writer("hermes"))
        verdict = results.judge(suite, one.item, gold, "hermes")
        assert set(verdict.scores.values()) == {True}, (one.item.id, gold)
        (old,) = oracle_replies(SUITE, [one.original], writer("hermes"))
        right = results.judge(suite, one.item, old, "hermes").scores["cf"]
        assert right == (old == gold)
        changed += one.item != one.original
        assert one.original in items and one.item.tags == one.original.tags
        line = results.record(suite, one.item, gold, verdict, "hermes", writer("hermes"))
        assert gold.text in line["gold"]
    assert changed or kind == "noisy_results"
    if kind in ("union", *LEVELS, "distractors", "reordered"):
        assert noisy != make_noisy(items, kind, 2)


@pytest.mark.parametrize("level", LEVELS)
def test_the_right_tool_is_always_among_the_changed(items, level):
    for one in make_noisy(items, f"{level}_tools", 0):
        name = one.original.gold[0][0].name
        assert one.renaming.tools[name] != name
        names = [tool.name for tool in one.item.tools]
        assert len(set(names)) == len(names) == len(one.original.tools)
        kept = sum(tool in one.item.tools for tool in one.original.tools)
        assert level == "heavy" or kept <= len(names) / 2


def test_clean_items_are_as_they_were(items):
    assert all(one.item is one.original for one in make_noisy(items, CLEAN, 0))


def test_an_unknown_noise_and_prepared_prompts_are_refused(items):
    with pytest.raises(ConfigError, match="unknown noise 'loud'; known: clean, slight"):
        make_noisy(items, "loud", 0)
    with pytest.raises(ConfigError, match="prompts of a prepared data set"):
        make_noisy([replace(items[0], ids=(1,))], "slight", 0)


def test_names_are_swapped_there_and_back():
    renaming = Renaming(
        tools={"f": "g", "g": "f"},
        parameters={"f": {"a": "b", "b": "c"}},
        added={"f": ("code", "x")},
    )
    call = ToolCall("f", {"a": 1, "b": 2})
    written = renaming.call(call)
    assert written == ToolCall("g", {"b": 1, "c": 2, "code": "x"})
    assert renaming.undone(written) == call
    tool = renaming.tool(ToolSpec("f", "", (Parameter("a"), Parameter("b"))))
    assert [p.name for p in tool.parameters] == ["b", "c", "code"] and tool.name == "g"
    for wrong in ({"b": 1, "c": 2}, {"b": 1, "c": 2, "code": "y"}, {"a": 1, "c": 2, "code": "x"}):
        assert renaming.undone(ToolCall("g", wrong)).arguments != call.arguments
    assert renaming.undone(ToolCall("h", {})).name == "h"
    gone = Renaming(tools={"f": "z"}).undone(ToolCall("f", {}))
    assert gone.name != "f"


@pytest.mark.parametrize("kind", ["slight_parameters", "medium_parameters"])
def test_no_parameter_takes_a_name_that_the_gold_call_has_undeclared(items, kind):
    tool = ToolSpec("f", "F.", (Parameter("ab", "string", "", True),))
    gold = ((ToolCall("f", dict.fromkeys(("a", "b", "ba", "c"), 1)),),)
    item = replace(items[0], tools=(tool,), gold=gold)
    for seed in range(200):
        (one,) = make_noisy([item], kind, seed)
        assert one.renaming.undone(one.item.gold[0][0]) == gold[0][0]


def test_after_a_failed_try_the_dialogue_ends_with_the_failure(items):
    one = make_noisy(items, "timeout", 0)[0]
    *_, tried, result = one.item.messages
    assert tried.calls == one.original.gold[0] and "timed out" in result.content
    reply = Reply(writer("hermes")(tried.calls))
    assert results.judge(one.suite(SUITE), one.item, reply, "hermes").scores["cf"]


def test_after_drift_what_the_tool_says_is_right_and_what_is_documented_is_not(items):
    seen = set()
    for one in make_noisy(items, "schema_drift", 3):
        if one.item is one.original:
            assert not one.original.gold[0][0].arguments
            continue
        *_, tried, result = one.item.messages
        assert "The interface has changed" in result.content and result.status == "error"
        suite, write = one.suite(SUITE), writer("hermes")
        due = results.judge(suite, one.item, Reply(write(one.original.gold[0])), "hermes")
        old = results.judge(suite, one.item, Reply(write(tried.calls)), "hermes")
        free = one.original.tags["group"] != "service"
        assert due.scores["cf"] and (free or not old.scores["cf"])
        documented = {t.name: t for t in one.item.tools}[tried.calls[0].name]
        names = [p.name for p in documented.parameters]
        assert tried.calls[0].arguments.keys() <= set(names)
        kind = "called" if "it is called" in result.content else "type"
        seen.add(kind)
        if kind == "called":
            assert set(one.original.gold[0][0].arguments) - set(names)
    assert seen == {"called", "type"}


@pytest.mark.parametrize("kind", ["unauthorized", "forbidden", "schema_drift", "timeout"])
def test_items_whose_gold_is_no_calls_stay_as_they_are(items, kind):
    for gold in (None, (), ((),), {"a": 1}):
        (one,) = make_noisy([replace(items[0], gold=gold)], kind, 0)
        assert one.item is one.original


def test_without_descriptions_no_chat_template_finds_any():
    schema = {
        "type": "object",
        "description": "SECRET",
        "properties": {"description": {"type": "string", "description": "SECRET"}},
        "items": [{"description": "SECRET"}],
    }
    tool = tool_from_schema(
        {"name": "f", "description": "SECRET", "parameters": {"properties": {"a": schema}}}
    )
    (one,) = make_noisy([Item("1", (tool,), (), ())], "no_descriptions", 0)
    written = str(tool_to_schema(one.item.tools[0]))
    assert "SECRET" not in written and "'properties': {'description'" in written


def test_noise_that_changes_nothing_of_a_suite_is_refused(items, monkeypatch):
    monkeypatch.setattr(suite_file, "read_items", lambda *_: [Item("1", (), (), None)])
    with pytest.raises(
        ConfigError, match="'timeout' changes none of the 1 items of synthetic/seen"
    ):
        suite_file.noisy_items(Chosen(SUITE), "timeout", 0, 0)
