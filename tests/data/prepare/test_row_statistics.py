"""What a source says of its rows reaches the files and the report: weights, unread keys, tools."""

import json

import pytest

from tl_jax.config import DataConfig, KeyTokenConfig, MaeConfig
from tl_jax.data.examples.jsonl import read_prompts
from tl_jax.data.examples.shards import open_shards
from tl_jax.data.importers import read
from tl_jax.data.prepare.dataset import prepare
from tl_jax.data.prepare.sources import WeightedSource
from tl_jax.errors import DataError

TOOL = {
    "name": "get [fast] weather",
    "parameters": {"properties": {"the city": {"type": "string"}}},
}


def call(city, number, **more):
    function = {"name": TOOL["name"], "arguments": {"the city": city}}
    return {"role": "assistant", "tool_calls": [{"id": number, "function": function}], **more}


def row(number, tools=(TOOL,), **more):
    return {
        "tools": list(tools),
        "messages": [
            {"role": "user", "content": f"Weather? {number}", "mood": "calm"},
            call("Paris", "1", weight=0),
            {"role": "tool", "tool_call_id": "1", "content": "3"},
            {"role": "user", "content": "I said Oslo."},
            call("Oslo", "2", weight=0.5),
            {"role": "tool", "tool_call_id": "2", "content": "4"},
            {"role": "assistant", "content": "It is 4."},
        ],
        **more,
    }


@pytest.fixture
def run(tokenizer, tmp_path):
    def prepared(rows, **changes):
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        data = DataConfig(
            template="script",
            validation_fraction=0.0,
            max_length=4096,
            samples="per_turn",
            **changes,
        )
        return prepare(
            [WeightedSource("rows", read(tmp_path / "rows.jsonl"), "test")],
            tokenizer,
            data=data,
            mae=MaeConfig(rules="structured+static"),
            key_tokens=KeyTokenConfig(mode="off"),
            seed=0,
            out_dir=tmp_path / "out",
        )

    return prepared


def test_weights_unread_keys_and_repairs_reach_files_and_report(run, tmp_path):
    last = row(2, split="a")
    last["messages"].append({"role": "system", "content": "Not here."})
    last["messages"].append({"role": "assistant", "content": "Bye."})
    report = run([row(0), row(1), last], max_bad_fraction=0.5)
    examples = list(open_shards(tmp_path / "out" / "examples"))
    assert [example.tags["turns"] for example in examples] == ["2", "3"] * 2
    assert [{w for w in example.weights if w} for example in examples] == [{0.5}, {1.0}] * 2
    prompts = list(read_prompts(tmp_path / "out" / "prompts.jsonl"))
    assert [[c.arguments for c in p.golds] for p in prompts] == [[{"the_city": "Oslo"}], []] * 2
    assert {p.tools[0].name for p in prompts} == {"get_fast_weather"}
    assert (tmp_path / "out" / "repair_pairs.jsonl").read_text() == ""
    counts = report["sources"]["rows"]
    # The row that this text form cannot write keeps its counts.
    assert counts["unread_keys"] == {"messages[].mood": 3, "split": 1} == report["unread_keys"]
    assert counts["turn_weights"] == {"0": 3, "0.5": 3} == report["turn_weights"]
    assert counts["repairs"]["renamed_tool"] == 3
    assert report["reasons"]["context: its source does not train it"] == 2
    (bad,) = map(json.loads, (tmp_path / "out" / "quarantine.jsonl").open(encoding="utf-8"))
    assert "system turn" in bad["reason"]


def test_strict_refuses_rows_with_unread_keys_by_name(run):
    with pytest.raises(DataError, match=r"(?s)2 of 2 rows .* nothing reads messages\[\]\.mood"):
        run([row(0), row(1)], strict=True)


def test_calls_without_any_tools_are_counted_by_name_and_refused_above_a_share(run):
    bare = [row(0), row(1, tools=()), row(2)]
    with pytest.raises(
        DataError, match=r"1 of 3 rows .* offer no tools.*get \[fast\] weather \(2\)"
    ):
        run(bare, max_bad_fraction=0.4)
    report = run(bare, max_without_tools=0.4, max_bad_fraction=0.4)
    assert report["calls_without_tools"] == {"get [fast] weather": 2}
