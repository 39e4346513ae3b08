"""Prepared data sets: complete, counted, atomic, repeated only when something changed."""

import copy
import dataclasses
import itertools
import json
import os
import re

import pytest

from tl_jax.calls.call import tool_to_schema
from tl_jax.config import DataConfig, KeyTokenConfig, MaeConfig
from tl_jax.data import synthetic
from tl_jax.data.examples.jsonl import read_prompts
from tl_jax.data.examples.shards import open_shards
from tl_jax.data.importers import BadRow, read
from tl_jax.data.prepare import dataset
from tl_jax.data.prepare.dataset import prepare
from tl_jax.data.prepare.files import source_hash
from tl_jax.data.prepare.sources import WeightedSource, open_sources
from tl_jax.data.tokenize import word_cache
from tl_jax.data.tokenize.prefix_cache import TextStarts
from tl_jax.data.tokenize.tokenizer import from_fast, train_byte_bpe
from tl_jax.data.trajectory import Message, to_json
from tl_jax.errors import ConfigError, DataError

FORM = {"max_length": 4096, "validation_fraction": 0.3, "samples": "per_turn"}


def run(rows, tokenizer, out, **changes):
    settings = dict(
        data=DataConfig(**FORM),
        mae=MaeConfig(),
        key_tokens=KeyTokenConfig(),
        seed=0,
    )
    source = WeightedSource("made", rows, changes.pop("identity", "test"))
    return prepare([source], tokenizer, out_dir=out, **{**settings, **changes})


def examples_in(path):
    if path.is_dir():
        return [dataclasses.asdict(example) for example in open_shards(path)]
    return list(map(json.loads, path.open(encoding="utf-8")))


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def many(trajectory, count):
    """Copies with different queries; every query occurs twice."""
    return [
        dataclasses.replace(
            trajectory,
            id=f"t{number}",
            line=number,
            messages=(Message("user", f"query {number // 2}"), *trajectory.messages[1:]),
        )
        for number in range(count)
    ]


def test_files_and_report_agree(trajectory, tokenizer, tmp_path):
    report = run(many(trajectory, 40), tokenizer, tmp_path / "out")
    out = tmp_path / "out"
    train, held = examples_in(out / "examples"), examples_in(out / "validation")
    prompts = list(read_prompts(out / "prompts.jsonl"))
    assert report == json.loads((out / "mae_report.json").read_text())
    assert (report["turns"], report["kept"], report["rows"]) == (120, 80, 40)
    assert report["examples"] == {"train": len(train), "validation": len(held)}
    assert len(train) + len(held) == 80 and held
    assert len(prompts) == len(train)
    assert report["tokens"]["train"] == sum(len(example["ids"]) for example in train)
    assert report["trained_tokens"]["validation"] == sum(w > 0 for e in held for w in e["weights"])
    assert report["key_tokens_per_reply"] == {"1": 40, "2": 40}
    sides = [{e["tags"]["trajectory"] for e in side} for side in (train, held)]
    assert not sides[0] & sides[1]


def test_turns_without_words_are_counted_and_cost_no_row(trajectory, tokenizer, tmp_path):
    nothing = (Message("assistant", " "), Message("user", "Go on."))
    rows = [
        dataclasses.replace(
            row, messages=(nothing[0], row.messages[0], *nothing, *row.messages[1:])
        )
        for row in many(trajectory, 10)
    ]
    report = run(rows, tokenizer, tmp_path / "out")
    plain = run(many(trajectory, 10), tokenizer, tmp_path / "plain")
    assert report["bad_rows"] == 0 and report["examples"] == plain["examples"]
    assert report["verdicts"] == {**plain["verdicts"], "context": 10, "empty": 10}
    assert report["reasons"]["empty: neither text nor a call"] == 10
    assert report["reasons"]["context: opens the dialogue"] == 10


def test_equal_inputs_are_not_prepared_again(trajectory, tokenizer, tmp_path):
    out = tmp_path / "out"
    report = run(many(trajectory, 4), tokenizer, out)

    def untouchable():
        raise AssertionError("rows were read")
        yield

    stamp = (out / "examples").stat().st_mtime_ns
    assert run(untouchable(), tokenizer, out) == report
    batching = DataConfig(**FORM, batch_size=99)
    assert run(untouchable(), tokenizer, out, data=batching) == report
    assert (out / "examples").stat().st_mtime_ns == stamp


def test_files_that_were_cut_are_written_again(trajectory, tokenizer, tmp_path):
    out = tmp_path / "out"
    report = run(many(trajectory, 4), tokenizer, out)
    before = contents(out)
    (shard,) = (out / "examples").glob("*.array_record")
    os.truncate(shard, shard.stat().st_size // 2)
    (out / "prompts.jsonl").unlink()
    assert run(many(trajectory, 4), tokenizer, out) == report
    assert contents(out) == before


def test_damage_that_keeps_the_size_is_mended_also_where_data_must_stay(
    trajectory, tokenizer, tmp_path
):
    out = tmp_path / "out"
    report = run(many(trajectory, 4), tokenizer, out)
    before = contents(out)
    (shard,) = (out / "examples").glob("*.array_record")
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(bytes(content))
    assert run(many(trajectory, 4), tokenizer, out, keep=True) == report
    assert contents(out) == before
    with pytest.raises(DataError, match="since it was prepared has changed: made"):
        run(many(trajectory, 4), tokenizer, out, identity="other", keep=True)
    assert contents(out) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"identity": "other"},
        {"seed": 1},
        {"data": DataConfig(**FORM | {"samples": "per_trajectory"})},
        {"key_tokens": KeyTokenConfig(w_max=3.0)},
        {"data": DataConfig(**FORM, template="script")},
    ],
)
def test_any_change_of_the_inputs_prepares_again(trajectory, tokenizer, tmp_path, changes):
    out = tmp_path / "out"
    run(many(trajectory, 4), tokenizer, out)
    before = (out / "fingerprint.json").read_text()
    run(many(trajectory, 4), tokenizer, out, **changes)
    assert (out / "fingerprint.json").read_text() != before


def test_an_interrupted_run_leaves_the_old_files_alone(trajectory, tokenizer, tmp_path):
    out = tmp_path / "out"
    run(many(trajectory, 4), tokenizer, out)
    before = contents(out)

    def broken():
        yield from many(trajectory, 2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(broken(), tokenizer, out, identity="new")
    assert contents(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_directory_with_other_files_is_not_replaced(trajectory, tokenizer, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(DataError, match=r"thesis\.txt"):
        run(many(trajectory, 2), tokenizer, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_bad_rows_go_to_quarantine(trajectory, tokenizer, tmp_path):
    rows = [*many(trajectory, 60), BadRow("a.jsonl", 60, "not JSON", "{")]
    report = run(rows, tokenizer, tmp_path / "out")
    assert report["bad_rows"] == 1 and report["rows"] == 61
    (entry,) = map(json.loads, (tmp_path / "out" / "quarantine.jsonl").open())
    assert entry == {"file": "a.jsonl", "line": 61, "reason": "not JSON", "row": "{"}


def test_too_many_bad_rows_stop_with_a_summary(trajectory, tokenizer, tmp_path):
    rows = many(trajectory, 10) + [BadRow("a.jsonl", 10 + i, "not JSON", "{") for i in range(2)]
    out = tmp_path / "out"
    with pytest.raises(
        DataError,
        match=r"2 of 12 rows of made.*\n  2 x not JSON \(first at line 11 of a\.jsonl\)"
        rf"\nEvery row that cannot be used is in {out}/quarantine\.jsonl",
    ):
        run(rows, tokenizer, out)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "quarantine.jsonl"]
    assert [entry["line"] for entry in examples_in(out / "quarantine.jsonl")] == [11, 12]
    # The rows are mended; then the file gives way to the data set.
    run(many(trajectory, 10), tokenizer, out)
    assert not examples_in(out / "quarantine.jsonl")
    whole = contents(out)
    with pytest.raises(DataError, match=rf"in {out}_quarantine\.jsonl, with its reason"):
        run(rows, tokenizer, out, identity="new")
    assert contents(out) == whole and len(examples_in(tmp_path / "out_quarantine.jsonl")) == 2


def test_where_all_rows_are_bad_it_says_so(tokenizer, tmp_path):
    rows = [BadRow("a.jsonl", line, f"reason {line % 2}", "{") for line in range(3)]
    data = DataConfig(**FORM, max_bad_fraction=1.0)
    with pytest.raises(DataError, match=r"none of the 3 rows can be used:\n  2 x reason 0 \(first"):
        run(rows, tokenizer, tmp_path / "out", data=data)
    assert len(examples_in(tmp_path / "out" / "quarantine.jsonl")) == 3


def test_a_bad_entry_of_a_list_is_a_row_not_a_line(trajectory, tokenizer, tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([to_json(trajectory), 5, to_json(trajectory)], indent=1))
    sources = open_sources(DataConfig(path=str(path)), 0)
    with pytest.raises(DataError, match=r"\(first at row 2\)"):
        prepared(sources, tokenizer, tmp_path / "out")


def test_a_trajectory_without_text_form_is_quarantined(trajectory, tokenizer, tmp_path):
    bad = trajectory.messages[1].calls[0]
    turn = Message("assistant", "", (dataclasses.replace(bad, name="two words("),))
    messages = (trajectory.messages[0], turn, *trajectory.messages[2:])
    rows = [*many(trajectory, 60), dataclasses.replace(trajectory, messages=messages)]
    report = run(rows, tokenizer, tmp_path / "out")
    assert report["bad_rows"] == 1
    assert "cannot be written as text" in (tmp_path / "out" / "quarantine.jsonl").read_text()


def test_tokens_that_the_model_lacks_are_refused_and_named(trajectory, tokenizer, tmp_path):
    rows = many(trajectory, 4)
    run(rows, tokenizer, tmp_path / "out", vocab_size=tokenizer.vocab_size)
    names = ("examples", "validation", "prompts.jsonl", "validation_prompts.jsonl")
    ids = [e["ids"] for name in names for e in examples_in(tmp_path / "out" / name)]
    size = max(map(max, ids))
    text = re.escape(repr(tokenizer.backend.id_to_token(size)))
    whole = tokenizer.vocab_size
    reason = f"token {text} has the id {size}, .* {size} ids and its tokenizer {whole}: resize"
    with pytest.raises(ConfigError, match=reason):
        run(rows, tokenizer, tmp_path / "small", vocab_size=size)
    assert not (tmp_path / "small").exists()


def test_a_tokenizer_may_have_more_ids_than_the_model_if_none_is_written(
    trajectory, tokenizer, tmp_path
):
    report = run(many(trajectory, 4), tokenizer, tmp_path / "out")
    fast = copy.deepcopy(tokenizer.fast)
    fast.add_tokens(["⁂unused⁂"])
    larger = from_fast(fast)
    assert larger.vocab_size > tokenizer.vocab_size
    again = run(many(trajectory, 4), larger, tmp_path / "new", vocab_size=tokenizer.vocab_size)
    assert again == report


def test_nothing_to_train_on_is_said(trajectory, tokenizer, tmp_path):
    with pytest.raises(DataError, match="nothing to train on"):
        run(many(trajectory, 3), tokenizer, tmp_path / "out", data=DataConfig(max_length=16))


def test_limits_take_a_seeded_sample(trajectory, tokenizer, tmp_path):
    def ids(name, seed):
        data = DataConfig(
            max_length=4096, validation_fraction=0.0, max_trajectories=20, max_prompts=5
        )
        report = run(many(trajectory, 50), tokenizer, tmp_path / name, data=data, seed=seed)
        assert report["trajectories"]["train"] == 20 and report["prompts"]["train"] == 5
        examples = examples_in(tmp_path / name / "examples")
        prompts = read_prompts(tmp_path / name / "prompts.jsonl")
        return [e["id"] for e in examples], [p.id for p in prompts]

    assert ids("a", 0) == ids("b", 0) != ids("c", 1)


def test_every_data_field_in_the_hash_exists():
    names = {field.name for field in dataclasses.fields(DataConfig)}
    assert set(dataset._DATA_FIELDS) <= names


def test_real_trajectories_become_examples(rotllama, tmp_path):
    rows = list(read(rotllama))[::40]
    texts = [message.content[:400] for row in rows for message in row.messages]
    tokenizer = train_byte_bpe(texts, 3000, tmp_path / "tokenizer")
    data = DataConfig(max_length=8192, validation_fraction=0.1, samples="per_turn")
    report = run(iter(rows), tokenizer, tmp_path / "out", data=data)
    assert report["bad_rows"] == 0
    assert sum(report["trajectories"].values()) == len(rows)
    skipped = sum(report["turns_skipped"].values())
    assert sum(report["examples"].values()) + skipped == report["kept"]
    assert skipped < 0.02 * report["kept"]
    assert sum(report["examples"].values()) > 2 * len(rows)
    assert report["key_tokens_per_reply"]["1"] > report["key_tokens_per_reply"]["2"] > 0


def test_pairs_of_wrong_and_right_calls_are_written_with_their_side(
    trajectory, tokenizer, tmp_path
):
    report = run(many(trajectory, 40), tokenizer, tmp_path / "out")
    pairs = examples_in(tmp_path / "out" / "repair_pairs.jsonl")
    assert report["repair_pairs"] == {"parameter_hallucination": 40} and len(pairs) == 40
    held = [e["tags"]["trajectory"] for e in examples_in(tmp_path / "out" / "validation")]
    assert {p["trajectory"] for p in pairs if p["split"] == "validation"} == set(held)
    assert all(p["chosen"] != p["rejected"] and p["prompt"] for p in pairs)
    run(many(trajectory, 4), tokenizer, tmp_path / "none", mae=MaeConfig(repair_turns=0))
    assert examples_in(tmp_path / "none" / "repair_pairs.jsonl") == []


def test_dropped_calls_are_in_no_text_but_in_the_counts_and_pairs(trajectory, tokenizer, tmp_path):
    mae = MaeConfig(category_actions=("parameter_hallucination=drop",))
    report = run(many(trajectory, 4), tokenizer, tmp_path / "out", mae=mae)
    assert report["categories"] == {"parameter_hallucination": 4}
    assert report["actions"] == {"drop": 4}
    out = tmp_path / "out"
    for example in examples_in(out / "examples") + examples_in(out / "validation"):
        assert "unexpected keyword" not in tokenizer.decode(example["ids"])
    assert len(examples_in(out / "repair_pairs.jsonl")) == 4


def test_a_dialogue_of_dropped_turns_only_is_counted(trajectory, tokenizer, tmp_path):
    wrong = dataclasses.replace(trajectory, messages=trajectory.messages[:3])
    mae = MaeConfig(category_actions=("parameter_hallucination=drop",))
    rows = [*many(trajectory, 4), dataclasses.replace(wrong, id="x")]
    report = run(rows, tokenizer, tmp_path / "out", mae=mae)
    assert report["turns_skipped"] == {"nothing left in the dialogue": 1}


def weighted(trajectory, weight, count=60, name="b", start=1000):
    rows = [dataclasses.replace(row, line=row.line + start) for row in many(trajectory, count)]
    rows = [dataclasses.replace(row, id=f"{name}{row.line}") for row in rows]
    return WeightedSource(name, rows, name, weight)


def prepared(sources, tokenizer, out, **changes):
    data = DataConfig(**FORM | changes)
    return prepare(
        sources,
        tokenizer,
        data=data,
        mae=MaeConfig(),
        key_tokens=KeyTokenConfig(),
        seed=0,
        out_dir=out,
    )


def test_weights_draw_and_repeat_trajectories_of_each_source(trajectory, tokenizer, tmp_path):
    sources = [weighted(trajectory, w, name=n) for n, w in (("a", 1.0), ("b", 0.5), ("c", 2.0))]
    report = prepared(sources, tokenizer, tmp_path / "out")
    counts = report["sources"]
    assert counts["a"]["examples"]["train"] == 2 * counts["a"]["trajectories"]["train"]
    assert counts["c"]["examples"]["train"] == 4 * counts["c"]["trajectories"]["train"]
    assert counts["c"]["examples"]["validation"] == counts["a"]["examples"]["validation"] > 0
    assert 15 < counts["b"]["not_drawn"] < 45
    assert sum(counts["b"]["trajectories"].values()) == 60 - counts["b"]["not_drawn"]
    lines = examples_in(tmp_path / "out" / "examples")
    assert len(lines) == report["examples"]["train"]
    by_name = {
        name: sum(c["tokens"]["train"] for n, c in counts.items() if n == name) for name in "abc"
    }
    assert sum(by_name.values()) == report["tokens"]["train"] == sum(len(e["ids"]) for e in lines)


def test_copies_are_in_every_count_and_prompts_are_written_once(trajectory, tokenizer, tmp_path):
    result = trajectory.messages[2]
    long = dataclasses.replace(result, content=result.content + " and so on" * 300)
    messages = (*trajectory.messages[:2], long, *trajectory.messages[3:])
    shortened = dataclasses.replace(trajectory, messages=messages)
    reports = [
        prepared(
            [weighted(shortened, weight, 6)],
            tokenizer,
            tmp_path / str(weight),
            max_length=700,
            validation_fraction=0.0,
        )
        for weight in (1.0, 3.0)
    ]
    names = ("samples_shortened", "feedbacks_elided", "messages_dropped")
    for name in names:
        assert reports[1][name] == 3 * reports[0][name]
    assert reports[0]["samples_shortened"] > 0
    assert reports[1]["examples"]["train"] == 3 * reports[0]["examples"]["train"]
    once, thrice = (report["key_tokens_per_reply"] for report in reports)
    assert thrice == {keys: 3 * count for keys, count in once.items()}
    assert reports[1]["prompts"] == reports[0]["prompts"]
    prompts = [prompt.id for prompt in read_prompts(tmp_path / "3.0" / "prompts.jsonl")]
    assert len(set(prompts)) == len(prompts) == reports[1]["prompts"]["train"] > 0


def test_a_task_is_on_one_side_whichever_source_it_comes_from(trajectory, tokenizer, tmp_path):
    sources = [weighted(trajectory, 1.0, name=name) for name in "ab"]
    prepared(sources, tokenizer, tmp_path / "out")
    names = ("examples", "validation")
    train, held = ([e["tags"] for e in examples_in(tmp_path / "out" / n)] for n in names)
    queries = [{int(tags["trajectory"][1:]) // 2 for tags in side} for side in (train, held)]
    assert queries[1] and not queries[0] & queries[1]


def test_one_bad_source_stops_even_if_it_is_small(trajectory, tokenizer, tmp_path):
    bad = [BadRow("b.jsonl", line, "not JSON", "{") for line in (3, 8)]
    sources = [weighted(trajectory, 1.0, 400, "a"), WeightedSource("b.jsonl", bad)]
    with pytest.raises(DataError, match=r"2 of 2 rows of b\.jsonl .*\n  2 x not JSON .*line 4"):
        prepared(sources, tokenizer, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["quarantine.jsonl"]


def test_duplicates_are_removed_counted_and_paired(trajectory, tokenizer, tmp_path):
    sources = [weighted(trajectory, 1.0, 10, name=name) for name in "ab"]
    kept = prepared(sources, tokenizer, tmp_path / "kept")
    assert "removed" not in kept and sum(kept["trajectories"].values()) == 20
    report = prepared(sources, tokenizer, tmp_path / "exact", duplicates="exact")
    assert report["removed"] == {"exact duplicate": 15}
    assert report["sources"]["b"]["removed"] == {"exact duplicate": 10}
    assert sum(report["trajectories"].values()) == 5
    pairs = examples_in(tmp_path / "exact" / "removed.jsonl")
    assert len(pairs) == 15
    assert pairs[0] == {
        "file": "a",
        "line": 2,
        "id": "a1001",
        "removed": True,
        "check": "exact duplicate",
        "of": {"file": "a", "line": 1, "id": "a1000"},
        "similarity": 1.0,
    }


def test_rows_left_out_are_named_by_the_file_they_were_read_from(trajectory, tokenizer, tmp_path):
    row = to_json(trajectory)
    unwritable = json.loads(json.dumps(row).replace("search_advice", "search user"))
    assert (row["source"], row["line"]) == ("made.jsonl", 7)
    path = tmp_path / "mine.jsonl"
    path.write_text("\n\n".join(map(json.dumps, [row, unwritable, row])))
    (tmp_path / "set.jsonl").write_text(json.dumps({"query": trajectory.messages[0].content}))
    for name, changes in (
        ("same", {"duplicates": "exact"}),
        ("overlap", {"contamination_paths": (str(tmp_path / "set.jsonl"),)}),
    ):
        action = {"contamination_action": "report", "max_bad_fraction": 0.5, **changes}
        (source,) = open_sources(DataConfig(path=str(path)), 0)
        prepared([source], tokenizer, tmp_path / name, validation_fraction=0.0, **action)
        (refused,) = examples_in(tmp_path / name / "quarantine.jsonl")
        assert (refused["file"], refused["line"]) == (str(path), 3)
        places = [(r["file"], r["line"]) for r in examples_in(tmp_path / name / "removed.jsonl")]
        lines = [5] if name == "same" else [1, 3, 5]
        assert places == [(str(path), line) for line in lines]
    (same,) = examples_in(tmp_path / "same" / "removed.jsonl")
    assert same["of"] == {"file": str(path), "line": 1, "id": "t1"}


def test_tags_of_the_data_are_not_taken_for_counts(trajectory, tokenizer, tmp_path):
    tags = {"elided": "yes", "dropped_messages": "5", "key_tokens": "x", "domain": "advice"}
    rows = [dataclasses.replace(row, tags=tags) for row in many(trajectory, 4)]
    report = run(rows, tokenizer, tmp_path / "out")
    assert (report["samples_shortened"], report["messages_dropped"]) == (0, 0)
    (example, *_) = examples_in(tmp_path / "out" / "examples")
    assert example["tags"]["domain"] == "advice"
    assert not {"elided", "dropped_messages"} & example["tags"].keys()


@pytest.mark.parametrize("action", ["remove", "report"])
def test_overlaps_with_evaluation_sets_are_listed(trajectory, tokenizer, tmp_path, action):
    path = tmp_path / "set.jsonl"
    path.write_text('{"query": "Query 3?"}\n{"query": "query 4"}\n')
    report = prepared(
        [weighted(trajectory, 1.0, 20)],
        tokenizer,
        tmp_path / "out",
        contamination_paths=(str(path),),
        contamination_action=action,
    )
    assert report["contamination"] == {f"query: {path}": 4}
    (checked,) = report["checked_against"]
    assert checked == {
        "path": str(path),
        "sha256": source_hash(path),
        "queries": 2,
        "tool_sets": 0,
        "checks": ["query", "ngrams"],
        "action": action,
    }
    assert sum(report["trajectories"].values()) == (16 if action == "remove" else 20)
    hits = examples_in(tmp_path / "out" / "removed.jsonl")
    assert [(hit["id"], hit["row"], hit["what"]) for hit in hits] == [
        ("b1006", 1, "query 3"),
        ("b1007", 1, "query 3"),
        ("b1008", 2, "query 4"),
        ("b1009", 2, "query 4"),
    ]
    assert all(hit["removed"] == (action == "remove") for hit in hits)


def test_the_same_tools_are_an_overlap_only_if_asked_for(trajectory, tokenizer, tmp_path):
    path = tmp_path / "set.jsonl"
    tools = [tool_to_schema(tool) for tool in trajectory.tools]
    path.write_text(json.dumps({"query": "query 3", "tools": tools}))
    for checks, left in (({}, 18), ({"contamination_checks": ()}, 20)):
        source = weighted(trajectory, 1.0, 20)
        paths = (str(path),)
        report = prepared(
            [source], tokenizer, tmp_path / "out", contamination_paths=paths, **checks
        )
        assert sum(report["trajectories"].values()) == left
    assert report["checked_against"] == []


def test_a_changed_evaluation_set_prepares_again(trajectory, tokenizer, tmp_path):
    path = tmp_path / "set.jsonl"
    counts = []
    for query in ("query 3", "query 300"):
        path.write_text(json.dumps({"query": query}))
        source = weighted(trajectory, 1.0, 20)
        report = prepared([source], tokenizer, tmp_path / "out", contamination_paths=(str(path),))
        counts.append(sum(report["trajectories"].values()))
    assert counts == [18, 20]


def test_a_missing_evaluation_set_is_refused_by_its_setting(trajectory, tokenizer, tmp_path):
    paths = (str(tmp_path / "nowhere.jsonl"),)
    with pytest.raises(ConfigError, match=r"config\.data\.contamination_paths: no file .*nowhere"):
        prepared(
            [weighted(trajectory, 1.0, 4)], tokenizer, tmp_path / "out", contamination_paths=paths
        )


def test_what_removes_everything_is_named(trajectory, tokenizer, tmp_path):
    path = tmp_path / "set.jsonl"
    path.write_text(json.dumps({"tools": [tool_to_schema(tool) for tool in trajectory.tools]}))
    with pytest.raises(
        DataError, match=r"overlaps .*tools: .*set\.jsonl.* 4.*contamination_checks"
    ):
        prepared(
            [weighted(trajectory, 1.0, 4)],
            tokenizer,
            tmp_path / "out",
            contamination_paths=(str(path),),
            contamination_checks=("tools",),
        )


def test_remembered_tool_lists_change_no_byte(tokenizer, tmp_path, monkeypatch):
    def files(name, **changes):
        rows = synthetic.trajectories(40, seed=0, split="train")
        rows = [row for row in rows for _ in range(3)]  # so that every tool list comes again
        prepared([WeightedSource("world", rows)], tokenizer, tmp_path / name, **changes)
        return contents(tmp_path / name)

    for template in ("released", "script"):
        fast = files(f"fast {template}", template=template)
        with monkeypatch.context() as patch:
            whole = lambda self, text, shared: self._whole(text)[0]  # noqa: E731
            patch.setattr(TextStarts, "encode", whole)
            assert files(f"slow {template}", template=template) == fast


def test_real_trajectories_are_the_same_with_remembered_tokens(rotllama, tmp_path, monkeypatch):
    rows = list(itertools.islice(read(rotllama), 0, 240, 3))
    texts = [message.content[:400] for row in rows for message in row.messages]
    real = train_byte_bpe(texts, 2000, tmp_path / "tokenizer")
    used = []
    continued = TextStarts._continued
    monkeypatch.setattr(
        TextStarts, "_continued", lambda *arguments: used.append(1) or continued(*arguments)
    )
    prepared([WeightedSource("real", rows)], real, tmp_path / "fast")
    whole = lambda self, text, shared: self._whole(text)[0]  # noqa: E731
    monkeypatch.setattr(TextStarts, "encode", whole)
    monkeypatch.setattr(word_cache, "_pieces_are_independent", lambda backend: False)
    forgetful = dataclasses.replace(real)
    prepared([WeightedSource("real", rows)], forgetful, tmp_path / "slow")
    assert real._pieces._usable and not forgetful._pieces._usable
    assert len(used) > len(rows) / 2
    assert contents(tmp_path / "fast") == contents(tmp_path / "slow")
