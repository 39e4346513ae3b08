"""BFCL, several turns: the history of a turn, the tools of a turn, and what counts as right."""

import json
import os
import pathlib

import pytest

from tl_jax.calls.call import ToolCall
from tl_jax.errors import DataError, RowError
from tl_jax.evaluate.suites.bfcl_multi_turn import (
    DONE,
    MORE_TOOLS,
    NOT_YET,
    RESULT,
    SERVICES,
    SUITE,
)

FILE = pathlib.Path(os.environ.get("TL_JAX_DATA", ""), "eval_bfcl/multi_turn.jsonl.gz")


def function(name, *parameters):
    properties = {key: {"type": "string", "description": "d"} for key in parameters}
    schema = {"type": "dict", "properties": properties, "required": list(parameters)}
    return {"name": name, "description": "d", "parameters": schema}


FILES = [function("cd", "folder"), function("sort", "file"), function("cp", "source")]


def said(text):
    return [{"role": "user", "content": text}]


def row(**changes):
    return {
        "id": "multi_turn_miss_func_0",
        "category": "multi_turn_miss_func",
        "question": [said("Go to docs and sort a."), said("Sort b."), [], said("Go home.")],
        "ground_truth": [["cd(folder='docs')", "cd('docs')"], [], ["sort('b')"], ["cd('..')"]],
        "missed_function": {"2": ["sort"]},
        "excluded_function": ["cp"],
        "involved_classes": ["GorillaFileSystem"],
    } | changes


@pytest.fixture
def written(write_lines, tmp_path):
    def write(*rows):
        named = dict.fromkeys(SERVICES.values(), []) | {"gorilla_file_system": FILES}
        write_lines(tmp_path / "multi_turn_func_doc.json", named)
        return str(write_lines(tmp_path / "rows.jsonl", *rows))

    return write


@pytest.fixture
def asked(ask, written):
    return ask(SUITE, written(row()))


def test_each_turn_comes_after_the_gold_calls_before_it(asked):
    first, second, third, last = asked.items
    assert [m.content for m in first.messages] == ["Go to docs and sort a."]
    assert first.gold == ((ToolCall("cd", {"folder": "docs"}),) * 2,)
    assert [(m.role, m.content) for m in second.messages[1:]] == [
        ("assistant", ""),
        ("tool", RESULT),
        ("tool", RESULT),
        ("assistant", DONE),
        ("user", "Sort b."),
    ]
    assert second.messages[1].calls == first.gold[0]
    assert [m.content for m in third.messages[-2:]] == [NOT_YET, MORE_TOOLS]
    assert third.gold == ((ToolCall("sort", {"file": "b"}),),)
    assert last.id == "multi_turn_miss_func_0/3"


def test_a_missed_tool_is_offered_from_its_turn_on_and_an_excluded_one_never(asked):
    names = [[tool.name for tool in item.tools] for item in asked.items]
    assert names == [["cd"], ["cd"], ["cd", "sort"], ["cd", "sort"]]


def test_a_dialogue_is_right_if_all_its_turns_are(asked):
    gold = asked.oracle()
    scores = asked.scores(*gold)
    assert set(scores.values()) == {100.0}
    for number, wrong in enumerate(
        ["cd(folder='docs')", "cd(folder='b')", "No.", "sort(file='b')"]
    ):
        replies = [*gold[:number], wrong, *gold[number + 1 :]]
        scores = asked.scores(*replies)
        assert scores["dialogues"] == scores["multi_turn_miss_func/dialogues"] == 0
        assert scores["no_call"] == (0 if number == 1 else 100)
        assert scores["in_order"] == pytest.approx(100 if number == 1 else 200 / 3)


def test_the_order_of_calls_is_told_apart_from_their_content(ask, written):
    gold = [["cd(folder='docs')", "cd(folder='old')"]]
    asked = ask(SUITE, written(row(question=[said("Go.")], ground_truth=gold)))
    (verdict,) = asked.judge("[cd(folder='old'), cd(folder='docs')]")
    assert verdict.scores == {"ts": True, "pi": True, "cf": True, "in_order": False}
    (verdict,) = asked.judge("cd(folder='docs')")
    assert not any(verdict.scores.values())
    assert verdict.category == "missing_call"


def test_the_version_knows_questions_answers_and_functions(written, tmp_path):
    path = written(row())
    version = SUITE.version(path)
    assert "of no known package" in version
    assert SUITE.version(written(row(question=[said("Stay.")] * 4))) != version
    written(row())
    documents = json.loads((tmp_path / "multi_turn_func_doc.json").read_text())
    folder = tmp_path / "multi_turn_func_doc"
    folder.mkdir()
    (tmp_path / "multi_turn_func_doc.json").unlink()
    for name, functions in documents.items():
        (folder / f"{name}.json").write_text("\n".join(map(json.dumps, functions)))
    assert SUITE.version(path) == version
    (folder / "gorilla_file_system.json").write_text(json.dumps(FILES[0]))
    assert SUITE.version(path) != version


@pytest.mark.parametrize(
    ("rows", "error", "says"),
    [
        ([row(ground_truth=[["cd('docs', 'more')"], [], [], []])], RowError, "gold call"),
        ([row(ground_truth=[[]])], RowError, r"rows\.jsonl:1.*no BFCL dialogue"),
        ([row(involved_classes=["Unknown"])], RowError, "Unknown"),
        ([row(category="multiple")], DataError, "holds 1 of 'multiple'"),
    ],
)
def test_a_wrong_file_is_refused_by_name_and_place(written, rows, error, says):
    with pytest.raises(error, match=says):
        SUITE.read(written(*rows))


def test_missing_functions_are_named(write_lines, tmp_path):
    path = str(write_lines(tmp_path / "rows.jsonl", row()))
    with pytest.raises(DataError, match="multi_turn_func_doc"):
        SUITE.read(path)
    write_lines(tmp_path / "multi_turn_func_doc.json", {"math_api": []})
    with pytest.raises(DataError, match="no functions of the services"):
        SUITE.read(path)


@pytest.mark.slow
@pytest.mark.skipif(not FILE.is_file(), reason="TL_JAX_DATA holds no eval_bfcl")
def test_all_dialogues_of_the_data_are_read_and_all_golds_right(ask):
    asked = ask(SUITE, FILE)
    assert len(asked.items) == 3336
    scores = asked.scores(*asked.oracle())
    assert set(scores.values()) == {100.0}
    assert "bfcl-eval 2026.3.23" in SUITE.version(str(FILE))
