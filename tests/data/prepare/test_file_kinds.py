"""Data sets of every kind of file become the same token files."""

import dataclasses
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from template_cases import make_tokenizer

from tl_jax.config import DataConfig, KeyTokenConfig, MaeConfig
from tl_jax.data.examples.shards import open_shards
from tl_jax.data.importers import read
from tl_jax.data.prepare.dataset import prepare
from tl_jax.data.prepare.sources import open_sources
from tl_jax.errors import DataError

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@pytest.fixture(scope="module")
def chatml():
    return make_tokenizer("chatml")


def chat(number, *more):
    messages = [{"role": "user", "content": f"q{number}"}, *more]
    return {"tools": [TOOL], "messages": [*messages, {"role": "assistant", "content": "a"}]}


def prepared(path, out, tokenizer, **settings):
    data = DataConfig(path=str(path), validation_fraction=0, workers=1, **settings)
    report = prepare(
        open_sources(data, 0),
        tokenizer,
        data=data,
        mae=MaeConfig(),
        key_tokens=KeyTokenConfig(),
        seed=0,
        out_dir=out,
    )
    return report, [tuple(example.ids) for example in open_shards(out / "examples")]


def test_rows_in_shards_are_prepared_as_those_of_one_file(tmp_path, chatml):
    rows = [chat(number) for number in range(6)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shards = tmp_path / "shards"
    shards.mkdir()
    for number in range(3):
        table = pa.Table.from_pylist(rows[2 * number : 2 * number + 2])
        pq.write_table(table, shards / f"train-{number:05d}-of-00003.parquet")
    _, alone = prepared(tmp_path / "rows.jsonl", tmp_path / "one", chatml)
    report, together = prepared(shards, tmp_path / "three", chatml)
    assert together == alone and len(alone) == 6
    assert report["rows"] == 6 and not report["bad_rows"]
    read_as = report["sources"][str(shards)]["read_as"]
    assert read_as == "openai (row 1: messages of role/content and tools)"
    (shards / "train-00001-of-00003.parquet").unlink()
    assert prepared(shards, tmp_path / "three", chatml)[1] == alone[:2] + alone[4:]


def test_a_bad_row_of_a_shard_is_named_with_its_file(tmp_path, chatml):
    (tmp_path / "rows").mkdir()
    for name, rows in {"a": [chat(0)], "b": [chat(1), {"messages": 3}]}.items():
        (tmp_path / "rows" / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match=rf"first at line 2 of {tmp_path}/rows/b\.jsonl"):
        prepared(tmp_path / "rows", tmp_path / "out", chatml)
    (entry,) = map(json.loads, (tmp_path / "out" / "quarantine.jsonl").open())
    assert entry["file"] == f"{tmp_path}/rows/b.jsonl" and entry["row"] == {"messages": 3}
    assert entry["line"] == 2


def test_a_system_turn_in_the_middle_is_kept_where_the_template_takes_it(tmp_path, chatml):
    now = {"role": "developer", "content": "The time is 12:00."}
    rows = [chat(0), chat(1, {"role": "assistant", "content": "b"}, now)]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    last = list(read(path))[1]
    assert [message.role[0] for message in last.messages] == ["u", "a", "s", "a"]
    _, samples = prepared(path, tmp_path / "own", chatml)
    texts = [chatml.backend.decode(list(ids), skip_special_tokens=False) for ids in samples]
    assert "<|im_start|>system\nThe time is 12:00.<|im_end|>" in "".join(texts)
    bad = {"template": "released", "max_bad_fraction": 0.5}
    report, _ = prepared(path, tmp_path / "paper", chatml, **bad)
    assert report["bad_rows"] == 1
    (entry,) = map(json.loads, (tmp_path / "paper" / "quarantine.jsonl").open())
    assert "only the first message may be a system turn" in entry["reason"]


def test_cases_with_a_system_turn_in_the_middle_are_read(import_cases):
    rows = list(read(import_cases / "system_in_the_middle.jsonl"))
    assert all(dataclasses.is_dataclass(row) and hasattr(row, "messages") for row in rows)
    assert [message.role for message in rows[-1].messages][-2:] == ["system", "assistant"]


def session(number):
    """The events of a session of Claude Code, a line for each."""
    said = [
        ("user", "1", None, f"Which files? {number}"),
        ("assistant", "2", "1", [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]),
        ("user", "3", "2", [{"type": "tool_result", "tool_use_id": "t", "content": "a.txt"}]),
        ("assistant", "4", "3", [{"type": "text", "text": "One."}]),
    ]
    return "".join(
        json.dumps(
            {
                "type": role,
                "uuid": name,
                "parentUuid": parent,
                "sessionId": str(number),
                "message": {"role": role, "content": content, "id": f"m{name}"},
            }
        )
        + "\n"
        for role, name, parent, content in said
    )


def test_a_folder_of_sessions_is_prepared_with_the_tools_of_a_file(tmp_path, chatml):
    folder = tmp_path / "sessions"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.jsonl").write_text(session(number))
    with pytest.raises(DataError, match="tools"):
        prepared(folder, tmp_path / "bare", chatml)
    (tmp_path / "tools.json").write_text(json.dumps([TOOL]))
    tools_path = str(tmp_path / "tools.json")
    report, found = prepared(folder, tmp_path / "out", chatml, tools_path=tools_path)
    assert report["rows"] == 3 and not report["bad_rows"] and len(found) == 3
    (source,) = report["sources"].values()
    assert source["read_as"].startswith("claude_code (row 1: a session of 4 events")
