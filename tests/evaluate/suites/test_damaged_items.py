"""Items that no rule can judge are refused by name when their file is read; files are found."""

import json

import pytest

from tl_jax.calls.call import ToolCall
from tl_jax.data.trajectory import Message
from tl_jax.errors import ConfigError, DataError
from tl_jax.evaluate import results, suite_file
from tl_jax.evaluate.results import Reply
from tl_jax.evaluate.suites import SUITES
from tl_jax.evaluate.suites.choose import read_items
from tl_jax.evaluate.suites.found import found_in
from tl_jax.evaluate.suites.suite import Item, Verdict, answers

ROW = {
    "category": "simple_python",
    "id": "simple_python_0",
    "question": [[{"role": "user", "content": "Area of base 10?"}]],
    "function": [
        {
            "name": "area",
            "description": "Area.",
            "parameters": {
                "type": "dict",
                "properties": {"base": {"type": "array", "items": {"type": "integer"}}},
                "required": ["base"],
            },
        }
    ],
    "ground_truth": [{"area": {"base": [[10]]}}],
}


def changed(value, *path):
    """The row with another value at a path; None takes the key away."""
    row = json.loads(json.dumps(ROW))
    place = row
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return row


BASE = ("function", 0, "parameters", "properties", "base")
DAMAGED = {
    "an unknown type": changed("tensor", *BASE, "type"),
    "no items": changed(None, *BASE, "items"),
    "items that are a word": changed("integer", *BASE, "items"),
    "no properties": changed(None, "function", 0, "parameters", "properties"),
    "a gold tool that is not offered": changed([{"volume": {}}], "ground_truth"),
    "a turn that is no text": changed(7, "question", 0, 0, "content"),
    "a required key that is no word": changed([{}], "function", 0, "parameters", "required"),
}


def write(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("row", DAMAGED.values(), ids=DAMAGED)
def test_what_cannot_be_judged_is_refused_when_it_is_read(tmp_path, row):
    path = write(tmp_path / "bfcl.jsonl", row)
    with pytest.raises(DataError, match="bfcl"):
        read_items(SUITES["bfcl"], path)


def test_what_can_be_judged_is_read(tmp_path):
    (item,) = read_items(SUITES["bfcl"], write(tmp_path / "bfcl.jsonl", ROW))
    assert item.id == "simple_python_0"


def test_all_sets_of_a_folder_are_found_each_with_a_result_of_its_own(tmp_path):
    for part in ("one", "two"):
        write(tmp_path / part / "data.jsonl", {**ROW, "id": part})
    write(tmp_path / "one" / "other.jsonl", {"a": 1})
    (tmp_path / "notes.json").write_text("[")
    found = suite_file.requested(["all"], [str(tmp_path)])
    assert [(one.name, one.path[len(str(tmp_path)) :]) for one in found] == [
        ("bfcl", "/one/data.jsonl"),
        ("bfcl", "/two/data.jsonl"),
    ]
    names = [path.name for path in suite_file.result_paths(found, "scores")]
    assert names == ["bfcl-one-data.json", "bfcl-two-data.json"]
    # A folder of links is as good as one of copies, also where one leads in a circle.
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "two").symlink_to(tmp_path / "two")
    (linked / "two" / "again").symlink_to(tmp_path / "two")
    assert [one.path for one in found_in(str(linked))] == [str(linked / "two" / "data.jsonl")]


@pytest.mark.parametrize("paths", [[], ["a", "b"], ["no such folder"]])
def test_all_sets_need_one_folder(paths):
    with pytest.raises(ConfigError, match="--suite=all"):
        suite_file.requested(["all"], paths)
    with pytest.raises(ConfigError, match="stands alone"):
        suite_file.requested(["all", "bfcl"], paths)


def test_a_folder_without_any_set_is_refused_with_the_suites_there_are(tmp_path):
    with pytest.raises(ConfigError, match="of an evaluation suite; there are .*toolalpaca"):
        found_in(str(tmp_path))


def test_a_level_that_an_item_cannot_be_asked_is_wrong_in_the_results_of_a_run():
    suite, gold = SUITES["toolalpaca"], answers(*[])
    items = [Item(str(n), (), (), gold, {"path": "p", "step": "0"}) for n in range(2)]
    verdicts = [Verdict({"ts": True}), Verdict({"ts": True, "pi": True, "cf": True})]
    entry = results.score_sets(suite, items, verdicts)["toolalpaca"]
    assert [entry[name]["percent"] for name in ("ts", "pi", "cf")] == [100.0, 50.0, 50.0]


def test_scores_by_tool_are_of_the_right_tools_and_lines_say_what_was_asked(tmp_path):
    suite = SUITES["own"]
    turns = (
        Message("system", "SECRET"),
        Message("user", "Weather " + "x" * 3000 + " in Oslo?"),
        Message("tool", "rain"),
    )
    f, g = ToolCall("f", {"a": 1}), ToolCall("g", {})
    golds = (((f, g),), answers(f), ((),), None)
    items = [Item(str(n), (), turns, gold) for n, gold in enumerate(golds)]
    right, wrong = (Verdict(dict.fromkeys(("ts", "pi", "cf"), v)) for v in (True, False))
    found = results.by_tool(items, [right, wrong, Verdict({"no_call": True}), right])
    assert {name: (e["items"], e["cf"]["percent"]) for name, e in found.items()} == {
        "f": (2, 50.0),
        "g": (1, 100.0),
    }
    line = results.record(suite, items[1], Reply("x"), wrong, "hermes", lambda calls: "f")
    assert line["request"].startswith("Weather xx") and line["request"].endswith(
        "Oslo?\ntool: rain"
    )
    assert len(line["request"]) < 1300 and "SECRET" not in line["request"]
    prepared = Item("p", (), (), (), prompt="…User: hi\nAssistant:")
    assert results.request(prepared) == "…User: hi\nAssistant:"
