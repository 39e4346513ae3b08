"""RoTBench: import of the items and the released evaluator's scores."""

import gzip
import json
import os
import pathlib

import pytest

from tl_jax.calls.call import Parameter, ToolCall
from tl_jax.calls.parse import parse_call
from tl_jax.calls.render import PYTHON_STYLES, render_call
from tl_jax.data.prepare.contamination import EvaluationSets
from tl_jax.errors import DataError, RowError
from tl_jax.evaluate.reading import reader
from tl_jax.evaluate.scores import MISS, TurnScore
from tl_jax.evaluate.suites.rotbench import NOISES, judge, read, read_items, score_item, version
from tl_jax.evaluate.suites.rotbench_rules import own_score, released_score, score_react

GOLDEN = os.environ.get("TL_JAX_GOLDEN")
DATA = os.environ.get("TL_JAX_DATA")
FILE = pathlib.Path(DATA or "", "eval_rotbench", "first_turn.jsonl.gz")
needs_data = pytest.mark.skipif(
    not DATA or not FILE.exists(), reason="TL_JAX_DATA is not set or holds no eval_rotbench"
)
RIGHT = TurnScore(True, True, True)


def function(name, *parameters, description="description"):
    properties = {p: {"type": "string", description: f"the {p}"} for p in parameters}
    return {
        "name": name,
        description: f"does {name}",
        "parameters": {"type": "object", "properties": properties},
        "required": list(parameters[:1]),
    }


def react(name, **arguments):
    return f"Thought:\nAction: {name}\nAction Input: {json.dumps(arguments)}"


def row(**changes):
    tools = [
        function("weather", "city", "unit"),
        function("time", description="desciption"),
        function("ask_to_user", "question"),
        function("done_x", "answer"),
    ]
    system = f"Use [the tools].\nTools:\n{json.dumps(tools)}\n\nLet's Begin!"
    return {
        "turn": "First_Turn",
        "noise": "clean",
        "index": 7,
        "id": "Turn 1: q",
        "scenario": "TG",
        "conversations": [
            {"from": "system", "value": system},
            {"from": "user", "value": "Is it [warm]? Begin!\nBegin!\n"},
            {"from": "assistant", "value": [react("weather", city="Rome", unit="None")]},
        ],
    } | changes


def write(path, rows):
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


@pytest.fixture
def item(tmp_path):
    (only,) = read_items(write(tmp_path / "a.jsonl", [row(), row(noise="heavy")]))
    return only


def test_an_item_is_read_as_structure(item):
    assert item.id == "rotbench-clean-007"
    assert [tool.name for tool in item.tools] == ["weather", "time", "ask_to_user", "done_x"]
    city, unit = item.tools[0].parameters
    assert (city.name, city.type, city.description, city.required) == (
        "city",
        "string",
        "the city",
        True,
    )
    assert isinstance(unit, Parameter) and not unit.required
    assert [(m.role, m.content) for m in item.messages] == [("user", "Is it [warm]? Begin!")]
    assert item.gold == ((ToolCall("weather", {"city": "Rome", "unit": "None"}),),)
    assert item.tags == {"noise": "clean", "scenario": "TG", "group": "clean"}


def test_a_misspelt_description_is_kept(item):
    assert item.tools[1].description == "does time"


def test_a_compressed_file_reads_the_same(item, tmp_path):
    path = tmp_path / "a.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write(json.dumps(row()))
    assert read_items(path) == [item]


@pytest.mark.parametrize(
    "bad",
    [
        row(conversations=[]),
        row(conversations=[{"from": "system", "value": "no tools"}, *row()["conversations"][1:]]),
        row(conversations=[*row()["conversations"][:2], {"from": "assistant", "value": []}]),
        row(conversations=[*row()["conversations"][:2], {"from": "assistant", "value": ["hm"]}]),
        {"noise": "clean"},
        [],
        row(noise=[]),
    ],
)
def test_a_bad_line_is_named(bad, tmp_path):
    with pytest.raises(RowError, match=r"a\.jsonl:2: no RoTBench item"):
        read_items(write(tmp_path / "a.jsonl", [row(), bad]))


def released(rows):
    """The form of RoTBench's own files: one indented list without noise and index."""
    kept = ("id", "conversations", "scenario")
    return json.dumps([{name: r[name] for name in kept} for r in rows], indent=4)


@pytest.mark.parametrize("noise", NOISES)
def test_the_released_form_has_its_noise_and_indices_from_name_and_order(noise, tmp_path):
    rows = [row(noise=noise, index=number, scenario=f"S{number}") for number in range(2)]
    found = read_items(write(tmp_path / "a.jsonl", rows), noise=noise)
    (tmp_path / f"{noise}.json").write_text(released(rows), encoding="utf-8")
    assert read_items(tmp_path / f"{noise}.json", noise=noise) == found
    with gzip.open(tmp_path / f"{noise}.json.gz", "wt", encoding="utf-8") as file:
        file.write(released(rows))
    assert read_items(tmp_path / f"{noise}.json.gz", noise=noise) == found


def test_blank_lines_a_byte_order_mark_and_line_separators_do_no_harm(tmp_path):
    rows = [row(index=1), row(index=2, scenario="a\u2028b")]
    lines = "\n\n".join(json.dumps(r, ensure_ascii=False) for r in rows)
    for name, text in (
        ("a.jsonl", f"\n{lines}\n \n"),
        ("clean.json", f"[{','.join(map(json.dumps, rows))}]"),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8-sig")
        found = read_items(tmp_path / name)
        assert [item.id for item in found] == ["rotbench-clean-001", "rotbench-clean-002"]
        assert found[1].tags["scenario"] == "a\u2028b"


@pytest.mark.parametrize(
    "name,content,message",
    [
        ("first.json", released([row()]).encode(), r"first\.json: item 0, .*call it .*clean\.json"),
        ("clean.json", json.dumps(row()).encode(), r"clean\.json: no list .*must end in \.jsonl"),
        ("clean.json", b"[\n\n}", r"clean\.json:3: not JSON .*one item a line"),
        ("clean.json", b"[1]", r"clean\.json: item 0, counted from 0: no RoTBench item"),
        ("clean.json", b'["a",\n"\xff"]', r"clean\.json:2: not UTF-8 .*save the file as UTF-8"),
        ("a.jsonl", json.dumps(row()).encode() + b'\n{"\xff"', r"a\.jsonl:2: not UTF-8"),
        ("a.jsonl", json.dumps(row()).encode() + b"\n{", r"a\.jsonl:2: not JSON"),
        ("a.jsonl", json.dumps(row()).encode() + b"\n" + b"[" * 100_000, r"a\.jsonl:2: not JSON"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_place_and_the_fix(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RowError, match=message):
        read_items(tmp_path / name)


def test_an_item_that_occurs_again_is_named(tmp_path):
    rows = [row(), row(noise="heavy"), row(scenario="other")]
    assert len(read_items(write(tmp_path / "a.jsonl", rows[:2]))) == 1
    with pytest.raises(RowError, match=r"a\.jsonl:3: noise 'clean' has an item of index 7 already"):
        read_items(write(tmp_path / "a.jsonl", rows))


@pytest.mark.parametrize(
    "rows,held", [([], "no items"), ([row(noise="heavy"), row(noise="heavy")], "2 of 'heavy'")]
)
def test_a_file_without_items_of_the_noise_is_refused(rows, held, tmp_path):
    with pytest.raises(
        DataError, match=rf"a\.jsonl: .*'clean' \(it holds {held}\); take clean\.json"
    ):
        read_items(write(tmp_path / "a.jsonl", rows))


@needs_data
@pytest.mark.parametrize("noise", NOISES)
def test_both_forms_of_the_published_items_are_the_same(noise, tmp_path):
    with gzip.open(FILE, "rt", encoding="utf-8") as lines:
        rows = [source for source in map(json.loads, lines) if source["noise"] == noise]
    (tmp_path / f"{noise}.json").write_text(released(rows), encoding="utf-8")
    assert read_items(tmp_path / f"{noise}.json", noise=noise) == read_items(FILE, noise=noise)
    queries = EvaluationSets([str(tmp_path / f"{noise}.json")]).counts
    write(tmp_path / "a.jsonl", rows)
    assert [*queries.values()] == [*EvaluationSets([str(tmp_path / "a.jsonl")]).counts.values()]


def test_a_damaged_compressed_file_is_named(tmp_path):
    path = tmp_path / "cut.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(row()).encode())[:-12])
    with pytest.raises(DataError, match=r"cut\.jsonl\.gz: damaged gzip file"):
        read_items(path)


def test_an_unknown_noise_is_named(tmp_path):
    with pytest.raises(ValueError, match="known: clean, slight"):
        read_items(write(tmp_path / "a.jsonl", [row()]), noise="loud")


def test_a_none_value_accepts_anything(item):
    assert score_item(ToolCall("weather", {"city": "Rome", "unit": 3}), item) == RIGHT
    assert not score_item(ToolCall("weather", {"city": "Oslo", "unit": "None"}), item).cf
    assert score_item(None, item) == MISS


def test_the_last_two_tools_need_names_only_and_the_last_answers_to_finish(tmp_path):
    answer = {"from": "assistant", "value": [react("done_x", answer="warm")]}
    changed = row(conversations=[*row()["conversations"][:2], answer])
    (item,) = read_items(write(tmp_path / "a.jsonl", [changed]))
    for name in ("done_x", "finish"):
        assert score_item(ToolCall(name, {"answer": "cold"}), item) == RIGHT
        assert score_item(ToolCall(name, {"text": "warm"}), item) == TurnScore(True, False, False)
    assert score_item(ToolCall("time", {"answer": "warm"}), item) == MISS


def test_a_call_without_arguments_counts_by_choice(tmp_path):
    answer = {"from": "assistant", "value": [react("time")]}
    changed = row(conversations=[*row()["conversations"][:2], answer])
    (item,) = read_items(write(tmp_path / "a.jsonl", [changed]))
    assert score_item(ToolCall("time"), item) == RIGHT
    assert score_item(ToolCall("time"), item, count_empty_arguments=False) == MISS


@pytest.mark.parametrize(
    "prediction",
    [
        "",
        "Action: f",
        "Action Input: {}",
        "Action: f\nAction Input: [1]",
        "Action: f\nAction Input: 1",
        'Action: f\nAction Input: {"a": 1} ok',
        "Action: f\nAction Input: " + "[" * 100_000,
    ],
)
def test_text_that_is_no_react_call_scores_nothing(prediction):
    assert score_react(prediction, [react("f", a=1)], ["f", "ask_to_user", "finish"]) == MISS


def test_a_gold_answer_that_cannot_be_read_is_an_error():
    with pytest.raises(ValueError, match="no ReAct call: 'hm'"):
        score_react(react("f", a=1), ["hm"], ["f", "ask_to_user", "finish"])


def golden_cases():
    if not GOLDEN:
        return []
    found = json.loads(pathlib.Path(GOLDEN, "rotbench_eval_cases.json").read_text())
    return [(case, found["tools"]) for case in found["cases"]]


@pytest.mark.skipif(not GOLDEN, reason="TL_JAX_GOLDEN is not set")
@pytest.mark.parametrize("case,tools", golden_cases(), ids=lambda x: x["id"] if "id" in x else "")
def test_golden_scores_of_the_released_evaluator(case, tools):
    found = score_react(case["prediction"], case["gold"], tools)
    assert (found.ts, found.pi, found.cf) == (case["TS"], case["PI"], case["CF"])


@needs_data
@pytest.mark.parametrize(
    "noise,items,flawed",
    [
        ("clean", 105, 92.38),
        ("slight", 210, 92.38),
        ("medium", 210, 92.38),
        ("heavy", 210, 95.24),
        ("union", 105, 92.38),
    ],
)
def test_the_gold_calls_are_right_but_for_the_empty_argument_flaw(noise, items, flawed):
    found = read_items(FILE, noise=noise)
    assert len(found) == items
    assert len({item.id for item in found}) == items
    for counted, percent in ((True, 100.0), (False, flawed)):
        for metric in ("ts", "pi", "cf"):
            right = [
                getattr(score_item(item.gold[0][0], item, count_empty_arguments=counted), metric)
                for item in found
            ]
            assert round(100 * sum(right) / len(right), 2) == percent


@needs_data
def test_the_released_evaluator_and_the_items_agree_on_the_gold_texts():
    items = iter(read_items(FILE))
    with gzip.open(FILE, "rt", encoding="utf-8") as lines:
        for line in lines:
            source = json.loads(line)
            if source["noise"] == "clean":
                item, golds = next(items), source["conversations"][-1]["value"]
                text = score_react(golds[0], golds, [tool.name for tool in item.tools])
                assert text == score_item(item.gold[0][0], item, count_empty_arguments=False)


@needs_data
@pytest.mark.parametrize("noise", NOISES)
def test_gold_calls_survive_rendering_and_parsing(noise):
    written = refused = 0
    for item in read_items(FILE, noise=noise):
        for (gold,) in item.gold:
            try:
                texts = [render_call(gold, style) for style in PYTHON_STYLES]
            except ValueError:
                refused += 1  # one heavy item has a parameter whose name holds "="
                continue
            written += 1
            assert all(parse_call(text) == gold for text in texts)
    assert refused <= (noise == "heavy") and written > 100


def third_turn():
    """A dialogue of two calls, the second after the user spoke, and the answers to the third."""
    system, query, _ = row()["conversations"]
    return row(
        turn="Third_Turn",
        noise="heavy",
        conversations=[
            system,
            query,
            {"from": "assistant", "value": react("ask_to_user", question="Where?")},
            {"from": "user", "value": "In Rome.\nBegin!"},
            {"from": "assistant", "value": react("weather", city="Roma")},
            {"from": "function", "value": "no such city"},
            {"from": "assistant", "value": [react("weather", city="Rome", unit="None")]},
        ],
    )


def test_a_third_turn_is_read_with_its_calls_and_results(tmp_path):
    path = write(tmp_path / "a.jsonl", [row(), third_turn()])
    first, third = read(str(path))
    assert (first.tags["group"], third.tags["group"]) == ("clean", "third turn heavy")
    assert third.id == "rotbench-third-heavy-007"
    assert [m.role for m in third.messages] == ["user", "assistant", "user", "assistant", "tool"]
    assert third.messages[3].calls == (ToolCall("weather", {"city": "Roma"}),)
    assert (third.messages[2].content, third.messages[4].content) == ("In Rome.", "no such city")
    single = {"from": "assistant", "value": react("weather", city="Rome", unit="None")}
    alone = row(conversations=[*row()["conversations"][:2], single])
    assert read(str(write(tmp_path / "b.jsonl", [alone]))) == [first]


@pytest.mark.parametrize("turn", [{"from": "assistant", "value": "hm"}, {"from": "x", "value": ""}])
def test_an_earlier_turn_that_is_no_call_is_named(turn, tmp_path):
    changed = third_turn()
    changed["conversations"][2] = turn
    with pytest.raises(RowError, match=r"a\.jsonl:1: no RoTBench item .*earlier turn"):
        read(str(write(tmp_path / "a.jsonl", [changed])))


def test_a_folder_has_the_items_of_all_its_levels_and_turns(tmp_path):
    (tmp_path / "First_Turn").mkdir()
    for noise in ("slight", "clean"):
        path = tmp_path / "First_Turn" / f"{noise}.json"
        path.write_text(released([row()]), encoding="utf-8")
    found = read(str(tmp_path))
    assert [item.id for item in found] == ["rotbench-clean-000", "rotbench-slight-000"]
    assert found == read(str(tmp_path / "First_Turn"))
    assert len(version(str(tmp_path)).split()) == 2
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no RoTBench items in it"):
        read(str(tmp_path / "none"))


NAMES = ["finish", "weather", "ask_to_user", "time", "done_x"]


@pytest.mark.parametrize(
    "golds,call,own,released",
    [
        # Noise has called another tool finish: its values count by our rule only.
        ([("finish", {"city": "Rome"})], ("finish", {"city": "Oslo"}), "ts pi", "ts pi cf"),
        ([("ask_to_user", {"a": "1"})], ("ask_to_user", {"a": "2"}), "ts pi", "ts pi cf"),
        # Without arguments there is no answer.
        ([("weather", {})], ("weather", {}), "ts pi cf", ""),
        # What one answer leaves open is taken from the prediction before the next is compared.
        (
            [("weather", {"a": "None", "b": "1"}), ("weather", {"a": "2", "b": "2"})],
            ("weather", {"a": "2", "b": "2"}),
            "ts pi cf",
            "ts pi",
        ),
        ([("weather", {"a": "1"})], ("weather", {"a": 1}), "ts pi", "ts pi"),
        ([("weather", {"a": 1})], ("weather", {"a": True}), "ts pi", "ts pi cf"),
        # The literal finish stands for the last tool in both.
        ([("done_x", {"a": "1"})], ("finish", {"a": "2"}), "ts pi cf", "ts pi cf"),
        ([("weather", {"a": "None"})], ("weather", {"a": "2"}), "ts pi cf", "ts pi cf"),
        ([("time", {"a": "1"})], ("time", {"a": "2"}), "ts pi cf", "ts pi cf"),
        ([("weather", {"a": "1"})], ("weather", {"b": "1"}), "ts", "ts"),
        ([("weather", {"a": "1"})], ("time", {"a": "1"}), "", ""),
    ],
)
def test_where_the_released_evaluator_differs_from_our_rule(golds, call, own, released):
    expected, made = [ToolCall(*gold) for gold in golds], ToolCall(*call)
    for rule, wanted in ((own_score, own), (released_score, released)):
        found = rule(made, expected, NAMES)
        assert " ".join(n for n in ("ts", "pi", "cf") if getattr(found, n)) == wanted


def test_all_rules_stand_in_a_verdict(tmp_path):
    answer = {"from": "assistant", "value": [react("time")]}
    changed = row(conversations=[*row()["conversations"][:2], answer])
    (item,) = read(str(write(tmp_path / "a.jsonl", [changed])))
    verdict = judge(item, react("time"), reader("react", item.tools))
    assert verdict.category == "all_right"
    assert {name for name, right in verdict.scores.items() if right} == {"ts", "pi", "cf"}
    assert len(verdict.scores) == 9
