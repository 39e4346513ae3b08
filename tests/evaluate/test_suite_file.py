"""A data file is scored without a model; two results are compared item by item."""

import gzip
import json
import subprocess
import sys

import pytest

from tl_jax.errors import ConfigError, DataError
from tl_jax.evaluate.compare_results import compare_results
from tl_jax.evaluate.suite_file import requested, result_paths, score_file
from tl_jax.evaluate.suites import SUITES
from tl_jax.evaluate.suites.choose import Chosen, read_items

SEEN = Chosen(SUITES["synthetic/seen"], "4")


def lines_of(path):
    return [json.loads(line) for line in path.with_suffix(".items.jsonl").open(encoding="utf-8")]


@pytest.fixture(scope="module")
def oracle(tmp_path_factory):
    path = tmp_path_factory.mktemp("results") / "oracle.json"
    return path, score_file(SEEN, path, style="hermes")


def write_replies(path, replies):
    path.write_text("".join(json.dumps(reply) + "\n" for reply in replies))
    return str(path)


def test_the_command_scores_gold_answers_without_jax(oracle, tmp_path):
    out = tmp_path / "found.json"
    words = ["evaluate", "--suite=synthetic/seen", "--data=4", f"--out={out}", "--oracle"]
    program = (
        "import sys; from rich.console import Console; from tl_jax.cli.main import main\n"
        f"main({words!r}, Console(width=200))\nassert 'jax' not in sys.modules, 'jax is imported'"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "100.00 / 100.00 / 100.00" in done.stdout
    assert json.loads(out.read_text()) == oracle[1]


def test_a_result_says_what_its_scores_shift_with(oracle):
    path, result = oracle
    assert json.loads(path.read_text()) == result
    facts = {"suite": "synthetic/seen", "replies": "oracle", "style": "hermes", "noise": "clean"}
    assert {name: result[name] for name in facts} == facts and result["seed"] == 0
    assert result["items"] == len(lines_of(path)) == result["counts"]["ts"][1]
    low, high = result["intervals"]["cf"]
    assert low < result["scores"]["cf"] == high == 100


def test_the_lines_of_a_result_are_predictions_of_the_same_result(oracle, tmp_path):
    path, result = oracle
    found = score_file(
        SEEN,
        tmp_path / "again.json",
        predictions=str(path.with_suffix(".items.jsonl")),
        style="hermes",
    )
    assert found | {"replies": "oracle"} == result


def test_an_item_without_a_reply_is_wrong_and_counted(oracle, tmp_path):
    lines = lines_of(oracle[0])
    some = write_replies(tmp_path / "some.jsonl", lines[1:])
    found = score_file(SEEN, tmp_path / "some.json", predictions=some, style="hermes")
    assert found["counts"]["cf"] == [len(lines) - 1, len(lines)]
    assert found["problems"] == {"no reply to it": 1}
    assert found["categories"] == {"all_right": len(lines) - 1, "format_error": 1}


def test_predictions_may_be_compressed_and_hold_half_a_character(oracle, tmp_path):
    first, *rest = lines_of(oracle[0])
    lines = [{**first, "reply": "half \ud83d"}, *rest]
    packed = tmp_path / "replies.jsonl.gz"
    packed.write_bytes(gzip.compress("".join(json.dumps(x) + "\n" for x in lines).encode()))
    found = score_file(SEEN, tmp_path / "x.json", predictions=str(packed), style="hermes")
    assert found["counts"]["cf"] == [len(rest), len(rest) + 1]
    assert lines_of(tmp_path / "x.json")[0]["reply"] == "half \ud83d"


@pytest.mark.parametrize(
    "text,message",
    [
        ('{"id": "no such", "reply": ""}\n', "1 of 1 replies are to no item .* 'no such'; its ids"),
        ('{"id": "a", "reply": ""}\n\n{"id": "a", "reply": ""}\n', ":3: a second reply to 'a'"),
        ('{"id": "a"}\n', r":1: expected .*reply"),
        ('{"id": "a", "reply": ""}\n[1\n', ":2: not JSON"),
        ("\ufeff7\n", ":1: expected"),
        ("\n \n", "it holds no reply"),
        (None, "no file"),
    ],
)
def test_predictions_that_cannot_be_scored_are_named(text, message, tmp_path):
    path = tmp_path / "replies.jsonl"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        score_file(SEEN, tmp_path / "x.json", predictions=str(path))


@pytest.mark.parametrize(
    "row,suite,message",
    [
        ({"id": 1, "question": "x"}, "rotbench", "no file of the suite rotbench: .*has no noise"),
        ({"id": 1}, "toolalpaca", "no file of the suite toolalpaca: .* it has no Name"),
        ([1, 2], "rotbench/clean", "The suites are synthetic/seen, .*rotbench, toolalpaca"),
        (
            {"tools": [], "messages": [{"role": "user", "content": "x"}]},
            "own",
            "no file of the suite own|has no items",
        ),
    ],
)
def test_a_wrong_file_is_refused_with_the_suites_there_are(row, suite, message, tmp_path):
    path = tmp_path / "wrong.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=message):
        read_items(SUITES[suite], str(path))


def test_a_file_of_another_suite_is_told_to_be_of_that(tmp_path):
    api = {
        "Name": "x",
        "Documentation": json.dumps({"paths": {"/f": {"get": {"description": "F."}}}}),
        "Function_Projection": {"f": ["/f", "get"]},
        "Instructions": ["Do it."],
        "Golden_Answers": [[{"Action": "f", "Action_Input": "{}"}]],
    }
    path = tmp_path / "api.jsonl"
    path.write_text(json.dumps(api) + "\n")
    with pytest.raises(DataError, match="no file of the suite rotbench, but one of toolalpaca"):
        read_items(SUITES["rotbench"], str(path))
    with pytest.raises(DataError, match="rotbench: no file .*nowhere.json"):
        read_items(SUITES["rotbench"], str(tmp_path / "nowhere.json"))


@pytest.mark.parametrize(
    "names,paths,out,message",
    [
        (["rotbnch"], ["a"], "o", "--suite: unknown suite 'rotbnch'; did you mean 'rotbench'"),
        (["rotbench"], [], "o", "--suite=rotbench needs --data=FILE"),
        (["rotbench", "own"], ["a"], "o", "--data names 1 files for 2 suites"),
        (["rotbench"], ["a"], "", "--suite needs --out"),
        (["rotbench", "own"], ["a", "b"], "o.json", "of several suites give a directory"),
    ],
)
def test_flags_that_do_not_fit_are_named(names, paths, out, message):
    with pytest.raises(ConfigError, match=message):
        result_paths(requested(names, paths), out)


def test_several_suites_have_a_file_each_in_a_directory():
    chosen = requested(["synthetic/seen", "own"], ["2", "b"])
    found = [str(path) for path in result_paths(chosen, "o")]
    assert found == ["o/synthetic-seen.json", "o/own.json"]


@pytest.fixture(scope="module")
def systems(oracle, tmp_path_factory):
    """Results in which a number of items are wrong, by their name."""
    folder = tmp_path_factory.mktemp("systems")
    lines = lines_of(oracle[0])

    def make(name, wrong):
        path = folder / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        replies = [
            {**line, "reply": "nothing" if at in wrong else line["reply"]}
            for at, line in enumerate(lines)
        ]
        file = write_replies(folder / "replies.jsonl", replies)
        score_file(SEEN, path, predictions=file, style="hermes")
        return str(path)

    return make


def test_two_results_are_compared_item_by_item(systems):
    worse, better = systems("worse", {0, 1, 2, 3, 4}), systems("better", {0, 5})
    found = compare_results([worse, better])
    row = found["scores"]["cf"]
    count = row["items"]
    assert (row["better"], row["worse"]) == (4, 1)
    assert row["p"] == pytest.approx(0.375)
    assert row["gain"] == pytest.approx(100 * 3 / count)
    assert row["low"] < row["gain"] < row["high"] and found["differ"] == []
    assert compare_results([worse, worse])["scores"]["cf"]["p"] == 1


def test_scores_that_not_every_item_has_are_compared_over_those_that_have_them(tmp_path):
    first = [{"id": "a", "one": True, "parsed": True}, {"id": "b", "two": True, "part": True}]
    last = [{"id": "a", "one": False, "parsed": True}, {"id": "b", "two": True, "part": False}]
    last.append({"id": "c", "two": False, "part": True})
    first.append({"id": "c", "two": True, "other": True})
    for name, lines in (("first", first), ("last", last)):
        (tmp_path / f"{name}.json").write_text('{"suite": "x"}')
        write_replies(tmp_path / f"{name}.items.jsonl", lines)
    found = compare_results([str(tmp_path / "first.json"), str(tmp_path / "last.json")])["scores"]
    counts = {name: (row["items"], row["better"], row["worse"]) for name, row in found.items()}
    assert counts == {"one": (1, 0, 1), "two": (2, 0, 1), "part": (1, 0, 1)}


def test_several_seeds_have_an_interval_over_seeds_and_items(systems):
    for seed, wrong in enumerate(({0, 1, 2}, {0, 1, 3}, {0, 1, 2, 3, 4})):
        systems(f"first/{seed}", wrong)
        file = systems(f"second/{seed}", wrong - {0})
    folders = [file.replace("second/2.json", name) for name in ("first", "second")]
    found = compare_results(folders)
    row = found["scores"]["cf"]
    assert found["runs"] == [3, 3] and "p" not in row
    assert (row["better"], row["worse"]) == (1, 0)
    single = compare_results([f"{folder}/0.json" for folder in folders])["scores"]["cf"]
    assert row["gain"] == pytest.approx(single["gain"])
    assert row["high"] - row["low"] > single["high"] - single["low"]


@pytest.mark.parametrize(
    "paths,message",
    [
        (["a.json"], "takes two results"),
        (["a.json", "b.json"], "a.json with a.items.jsonl beside it is no result"),
    ],
)
def test_what_cannot_be_compared_is_named(paths, message):
    with pytest.raises(ConfigError, match=message):
        compare_results(paths)


def test_results_on_other_items_are_not_compared(oracle, tmp_path):
    other = tmp_path / "other.json"
    score_file(Chosen(SUITES["synthetic/seen"], "1"), other, style="hermes")
    with pytest.raises(ConfigError, match="not of the same items"):
        compare_results([str(oracle[0]), str(other)])
