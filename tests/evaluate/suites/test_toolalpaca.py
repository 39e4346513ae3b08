"""ToolAlpaca: steps and paths, and golds that cannot be right as they stand."""

import json
import os
import pathlib

import pytest

from tl_jax.calls.call import ToolCall
from tl_jax.errors import RowError
from tl_jax.evaluate import results
from tl_jax.evaluate.predictions import oracle_replies
from tl_jax.evaluate.reading import writer
from tl_jax.evaluate.results import Reply
from tl_jax.evaluate.suites.choose import read_items
from tl_jax.evaluate.suites.toolalpaca import SUITES, read

(SUITE,) = SUITES
OPERATION = {
    "description": "Find.",
    "parameters": [{"name": "q", "in": "query", "schema": {"type": "string"}}],
}
API = {
    "Name": "Search",
    "Documentation": json.dumps({"paths": {"/find": {"get": OPERATION}}}),
    "Function_Projection": {"find": ["/find", "get"]},
}


def gold(text, action="find"):
    return {"Action": action, "Action_Input": text}


def write(path, *paths, form="list"):
    api = {**API, "Instructions": ["Do it."] * len(paths), "Golden_Answers": list(paths)}
    path.write_text(json.dumps([api]) if form == "list" else json.dumps(api) + "\n")
    return str(path)


def judged(items, replies):
    verdicts = [
        results.judge(SUITE, item, Reply(reply), "hermes")
        for item, reply in zip(items, replies, strict=True)
    ]
    return SUITE.summary(items, verdicts)


def test_every_step_is_an_item_after_the_gold_calls_before_it(tmp_path):
    steps = [gold('{"q": "a"}'), gold('{"q": "b"}')]
    items = list(read(write(tmp_path / "eval.json", steps)))
    assert [item.id for item in items] == ["Search-00-0", "Search-00-1"]
    assert [tool.name for tool in items[0].tools] == ["getDetails", "find"]
    assert [m.role for m in items[1].messages] == ["user", "assistant"]
    assert items[1].messages[1].calls == (ToolCall("find", {"q": "a"}),)
    assert list(read(write(tmp_path / "eval.jsonl", steps, form="lines"))) == items
    wrong = writer("hermes")([ToolCall("find", {"q": "c"})])
    right = [writer("hermes")(item.gold[0]) for item in items]
    found = judged(items, [right[0], wrong])
    assert (found["cf"].hits, found["cf"].count) == (1, 1)
    assert (found["path/cf"].hits, found["path/pi"].hits, found["path/cf"].count) == (0, 1, 1)
    assert (found["step/cf"].hits, found["step/cf"].count) == (1, 2)


def test_the_levels_of_a_run_are_those_of_first_steps_whatever_step_comes_first(tmp_path):
    steps = [gold('{"q": "a"}'), gold('{"q": "b"}')]
    items = list(read(write(tmp_path / "eval.json", steps)))[::-1]
    right = [writer("hermes")(item.gold[0]) for item in items]
    verdicts = [
        results.judge(SUITE, item, Reply(reply), "hermes")
        for item, reply in zip(items, ["nothing", right[1]], strict=True)
    ]
    sets = results.score_sets(SUITE, items, verdicts)
    found = [(name, entry["items"], entry["cf"]["percent"]) for name, entry in sets.items()]
    assert found == [("toolalpaca", 1, 100), ("toolalpaca (step rule)", 2, 50)]


@pytest.mark.parametrize(
    "text,value,fault",
    [
        ('{"q": ${id from find}}', "None", "gold has a placeholder"),
        ('{"q": "${id from find}"}', "None", "gold has a placeholder"),
        ('{"q": "{start date}"}', "None", "gold has a placeholder"),
        ('{"q": ${a certain year}"}', "None", "gold has a placeholder"),
        ('{"q": [${some id}]}', "None", "gold has a placeholder"),
        ('{"q": "a {b} c"}', "a {b} c", ""),
        ('{"q": "q": "x"}', None, "gold is no JSON"),
        ("[1]", None, "gold is no JSON"),
    ],
)
def test_golds_that_are_no_calls_are_told_apart(text, value, fault, tmp_path):
    (item,) = read(write(tmp_path / "eval.json", [gold(text)]))
    assert item.tags.get("group", "") == fault
    assert item.gold[0][0].arguments == ({} if value is None else {"q": value})
    any_value = writer("hermes")([ToolCall("find", {"q": "anything"})])
    found = judged([item], [any_value])
    assert found["ts"].hits == 1
    assert found["cf"].hits == (fault == "gold has a placeholder")
    assert found["sound/cf"].count == (fault != "gold is no JSON")
    if fault:
        assert f"{fault}/ts" in found and (f"{fault}/cf" in found) == (value is not None)


def test_a_gold_that_names_no_tool_is_counted_apart(tmp_path):
    items = list(
        read(write(tmp_path / "e.json", [gold("{}", "lost")], [gold("{}", "[Optional]find")]))
    )
    assert [item.tags.get("group") for item in items] == ["gold names no tool", None]
    assert items[1].gold[0][0].name == "find"


@pytest.mark.parametrize("row", [{}, [], 7, {**API, "Instructions": ["x"]}])
def test_what_is_no_api_is_named(row, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n" + json.dumps(row) + "\n")
    if row == []:
        path.write_text("{\n")
    with pytest.raises(RowError, match=r"rows\.jsonl: (API 0|not JSON)"):
        list(read(str(path)))


@pytest.mark.skipif(not os.environ.get("TL_JAX_DATA"), reason="TL_JAX_DATA is not set")
def test_the_gold_answers_of_the_simulated_apis_are_right():
    path = pathlib.Path(os.environ["TL_JAX_DATA"], "eval_toolalpaca", "eval_simulated.jsonl.gz")
    items = read_items(SUITE, str(path))
    replies = [reply.text for reply in oracle_replies(SUITE, items, writer("hermes"))]
    found = judged(items, replies)
    assert {
        (name, share.hits) for name, share in found.items() if share.hits < share.count
    } == set()
    assert (found["ts"].count, found["step/ts"].count, found["path/ts"].count) == (100, 154, 100)
    assert found["gold has a placeholder/cf"].count == 33
