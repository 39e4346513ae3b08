"""Overlaps with evaluation sets are found in whatever form the sets have."""

import dataclasses
import gzip
import json
import os
from pathlib import Path

import pytest

from tl_jax.calls.call import tool_to_schema
from tl_jax.data.prepare.contamination import EvaluationSets
from tl_jax.data.trajectory import Message
from tl_jax.errors import DataError

LONG = "please find one piece of good advice about love and friendship for my dear old aunt"


def asking(trajectory, *queries):
    turns = [Message("user", query) for query in queries]
    return dataclasses.replace(trajectory, messages=(*turns, trajectory.messages[-1]))


@pytest.fixture
def write(tmp_path):
    def write(*rows, name="set.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return write


def found(sets, trajectory):
    return [(hit.check, hit.row) for hit in sets.hits(trajectory)]


@pytest.mark.parametrize(
    "row",
    [
        {"query": "Is it warm in Rome?"},
        {"Instructions": ["other", "Is it warm in Rome?"]},
        {"question": [[{"role": "user", "content": "Is it warm in Rome?"}]]},
        {"conversations": [{"from": "user", "value": "Is it warm in Rome?\nBegin!"}]},
        {"zero_shot": {"messages": [{"role": "user", "content": "is it WARM in rome"}]}},
    ],
)
def test_a_query_is_found_in_every_form_of_set(trajectory, write, row):
    sets = EvaluationSets([write({"query": "x"}, row)])
    assert found(sets, asking(trajectory, "is it warm, in Rome")) == [("query", 1)]
    assert not found(sets, asking(trajectory, "is it cold in Rome"))


def test_short_later_messages_are_no_queries(trajectory, write):
    sets = EvaluationSets([write({"query": "yes please"}, {"query": "find it in the old town"})])
    assert not found(sets, asking(trajectory, "hello", "Yes, please!"))
    assert found(sets, asking(trajectory, "yes please")) == [("query", 0)]
    assert found(sets, asking(trajectory, "hi", "Find it in the old town.")) == [("query", 1)]


def test_thirteen_words_in_a_row_are_an_overlap_twelve_are_not(trajectory, write):
    sets = EvaluationSets([write({"query": LONG})])
    words = LONG.split()
    inside = " ".join(["well", *words[1:14], "and so on"])
    (hit,) = sets.hits(asking(trajectory, inside))
    assert hit.check == "ngrams" and hit.detail == " ".join(words[1:14])
    assert not sets.hits(asking(trajectory, " ".join(["well", *words[1:13], "and so on"])))


def test_what_most_queries_begin_with_is_no_overlap(trajectory, write):
    common = write(*({"query": f"{LONG} number {n}"} for n in range(11)))
    assert not found(EvaluationSets([common]), asking(trajectory, f"{LONG} again"))
    rare = write(*({"query": f"{LONG} number {n}"} for n in range(10)), name="rare.jsonl")
    assert found(EvaluationSets([rare]), asking(trajectory, f"{LONG} again")) == [("ngrams", 0)]


def test_the_same_tools_are_found_in_any_order_and_place(trajectory, write):
    tools = [tool_to_schema(tool) for tool in reversed(trajectory.tools)]
    system = {"from": "system", "value": f"Tools: {json.dumps(tools)} Begin"}
    for row in ({"tools": tools}, {"function": tools}, {"conversations": [system]}):
        sets = EvaluationSets([write(row)])
        assert found(sets, trajectory) == [("tools", 0)]
        fewer = dataclasses.replace(trajectory, tools=trajectory.tools[1:])
        assert not found(sets, fewer)


def test_only_the_checks_asked_for_are_made(trajectory, write):
    row = {
        "query": trajectory.messages[0].content,
        "tools": [*map(tool_to_schema, trajectory.tools)],
    }
    for checks in (("query",), ("tools",), ("query", "tools"), ()):
        assert [c for c, _ in found(EvaluationSets([write(row)], checks), trajectory)] == [*checks]
    with pytest.raises(ValueError, match="unknown check 'qeury'"):
        EvaluationSets([], ("qeury",))


def test_a_set_that_cannot_be_compared_with_is_refused(tmp_path, write):
    with pytest.raises(DataError, match="no queries"):
        EvaluationSets([write({"a": 1})])
    (tmp_path / "bad.jsonl").write_text("{")
    with pytest.raises(DataError, match="cannot be read as an evaluation set"):
        EvaluationSets([str(tmp_path / "bad.jsonl")])


def test_a_damaged_compressed_set_is_named(tmp_path):
    path = tmp_path / "cut.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"query": "is it cold"}\n')[:-12])
    with pytest.raises(DataError, match=r"cut\.jsonl\.gz: damaged gzip file"):
        EvaluationSets([str(path)])


def test_sets_may_hold_the_same_queries(trajectory, write):
    first = write({"query": "is it warm"}, {"query": "is it cold"})
    second = write({"query": "Is it cold?"}, {"query": "is it cold"}, name="again.jsonl")
    sets = EvaluationSets([first, second, first])
    assert [entry["queries"] for entry in sets.counts.values()] == [2, 1]
    (hit,) = sets.hits(asking(trajectory, "is it cold"))
    assert (hit.path, hit.row) == (first, 1)


def test_json_and_compressed_sets_are_read(trajectory, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([{"query": "is it warm"}]))
    with gzip.open(tmp_path / "b.jsonl.gz", "wt") as stream:
        stream.write('{"query": "is it cold"}\n')
    sets = EvaluationSets([str(tmp_path / "a.json"), str(tmp_path / "b.jsonl.gz")])
    assert {path: count["queries"] for path, count in sets.counts.items()} == {
        str(tmp_path / "a.json"): 1,
        str(tmp_path / "b.jsonl.gz"): 1,
    }
    assert found(sets, asking(trajectory, "Is it cold?")) == [("query", 0)]


def test_the_published_evaluation_sets_are_read():
    folder = os.environ.get("TL_JAX_DATA")
    if not folder:
        pytest.skip("TL_JAX_DATA is not set")
    names = {
        "eval_rotbench/first_turn.jsonl.gz": (105, 105),
        "eval_tooleyes/queries.jsonl.gz": (375, 0),
        "eval_toolalpaca/eval_simulated.jsonl.gz": (100, 0),
        "eval_bfcl/single_turn_non_live.jsonl.gz": (1000, 800),
    }
    for name, (queries, tool_sets) in names.items():
        path = str(Path(folder) / name)
        counts = EvaluationSets([path]).counts[path]
        assert counts["queries"] >= queries and counts["tool_sets"] >= tool_sets, (name, counts)
