"""Importers: what each format becomes, and that a bad row never stops the reading."""

import copy
import gzip
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.data.importers import BadRow, Source, read
from tl_jax.data.importers.read import FORMATS
from tl_jax.data.importers.side_files import read_json
from tl_jax.data.trajectory import Trajectory, to_json
from tl_jax.errors import DataError, RowError

TOOLS = [
    {
        "name": "search",
        "description": "Find.",
        "parameters": {
            "type": "object",
            "properties": {"query": {"type": "string", "desciption": "What."}},
        },
        "required": ["query"],
    }
]
REACT = {
    "id": "Turn 2: find tea",
    "conversations": [
        {"from": "system", "value": f"Use tools:\n{json.dumps(TOOLS)}\n\nLet's Begin!\n"},
        {"from": "user", "value": "find tea\nBegin!\n"},
        {
            "from": "assistant",
            "value": 'Thought: I look.\nAction: search\nAction Input: {"query": "tea"}',
        },
        {"from": "function", "value": "[]"},
        {"from": "assistant", "value": 'Thought: x\nAction: finish\nAction Input: {"answer": "a}'},
    ],
    "tool_folder": "Food/Tea",
}
RAW = {
    "id": "r1",
    "conversations": [
        {
            "role": "system",
            "content": json.dumps(
                [
                    {
                        "type": "function",
                        "function": {
                            "name": "f",
                            "description": "F.",
                            "parameters": {
                                "properties": {
                                    "a": {"type": "string", "description": "A."},
                                    "b": {"type": "integer", "description": "B."},
                                },
                                "required": ["b"],
                            },
                        },
                    }
                ]
            ),
        },
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": 'f\n{"b": 1}'},
        {"role": "function", "content": "ok"},
        {"role": "assistant", "content": "no call here"},
    ],
}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_react_text_becomes_structured(tmp_path):
    (found,) = read(write(tmp_path / "a.jsonl", [REACT]))
    assert found.tools[0].parameters[0].description == "What."
    assert found.tools[0].parameters[0].required
    user, first, feedback, last = found.messages
    assert user.content == "find tea"
    assert (first.content, first.calls[0].name) == ("I look.", "search")
    assert first.calls[0].arguments == {"query": "tea"}
    assert feedback.role == "tool"
    assert last.calls == () and last.status == "error" and "Action Input" in last.content


def test_raw_format_becomes_structured_with_required_parameters_first(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([RAW]))
    (found,) = read(path)
    assert found.id == "r1"
    assert [p.name for p in found.tools[0].parameters] == ["b", "a"]
    assert found.messages[1].calls[0].arguments == {"b": 1}
    assert found.messages[3].status == "error"


def test_what_was_written_is_read_back_with_its_first_source(tmp_path, trajectory):
    path = tmp_path / "a.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as stream:
        stream.write(json.dumps(to_json(trajectory)) + "\n")
    assert [to_json(found) for found in read(path)] == [to_json(trajectory)]


@pytest.mark.parametrize(
    ("row", "name"), [(REACT, "rotllama"), (RAW, "tl_training"), ("made", "canonical")]
)
def test_the_format_is_recognised_and_the_reason_told(tmp_path, trajectory, row, name):
    row = to_json(trajectory) if row == "made" else row
    found = read(write(tmp_path / "a.jsonl", [{"x": 1}, row]))
    assert found.format == name
    assert found.reason.startswith("row 2: ")


def test_an_unknown_format_names_the_keys_and_the_setting(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"foo": 1, "bar": 2}])
    with pytest.raises(ValueError, match=r"keys foo, bar.*data\.format"):
        read(path)


def test_bad_rows_are_reported_with_line_and_reason(tmp_path):
    path = write(tmp_path / "a.jsonl", [REACT])
    with open(path, "ab") as stream:
        stream.write(b'{"id": \n\n\xff\xfe\n[1]\n{"id": "x"}\n')
        stream.write(json.dumps(REACT).replace("find tea", "\\ud800").encode() + b"\n")
    good, *bad = read(path)
    assert isinstance(good, Trajectory)
    assert [row.line for row in bad] == [1, 3, 4, 5, 6]
    assert all(isinstance(row, BadRow) and row.path == str(path) for row in bad)
    assert [row.reason.split(":")[0] for row in bad[:2]] == ["not JSON", "not UTF-8 text"]
    assert "object" in bad[2].reason and "conversations" in bad[3].reason
    assert bad[3].row == {"id": "x"}


@pytest.mark.parametrize("lone", ["\\ud800", "\\udbff", "\\udc00", "\\uDFFF", "\\udc00\\ud800"])
def test_rows_with_a_lone_surrogate_anywhere_are_refused(tmp_path, lone):
    pair = json.dumps(REACT).replace("find tea", "\\ud83d\\ude00")
    system, *turns = RAW["conversations"]
    system = {**system, "content": system["content"].replace("F.", lone)}
    raw = json.dumps({**RAW, "conversations": [system, *turns]})
    bad = json.dumps(REACT).replace("find tea", f"hi {lone}")
    (tmp_path / "a.jsonl").write_text(f"{pair}\n{bad}\n")
    (tmp_path / "a.json").write_text(f"[{pair}, {bad}]")
    (tmp_path / "raw.jsonl").write_text(f"{json.dumps(RAW)}\n{raw}\n")
    for name in ("a.jsonl", "a.json", "raw.jsonl"):
        good, refused = read(tmp_path / name)
        assert isinstance(good, Trajectory) and isinstance(refused, BadRow), name
        assert "surrogates not allowed" in refused.reason and refused.line == 1
        json.dumps(refused.row, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("turn", "change", "reason"),
    [
        (0, {"content": [{"type": "text", "text": "hi"}]}, "content of a user turn .* not list"),
        (2, {"content": {"temp": 20}}, "content of a tool turn .* not dict"),
        (2, {"content": 5}, "content of a tool turn .* not int"),
        (2, {"content": False}, "content of a tool turn .* not bool"),
        (2, {"status": None}, "status of a tool turn .* not NoneType"),
        (1, {"calls": [{"name": None, "arguments": {}}]}, "name of a call .* not None"),
        (1, {"calls": [{"name": "", "arguments": {}}]}, "name of a call .* not ''"),
        (1, {"calls": [{"name": "f", "arguments": [["a", 1]]}]}, "arguments of a call .* not list"),
        (1, {"calls": [{"name": "f", "arguments": None}]}, "arguments of a call .* not NoneType"),
    ],
)
def test_a_canonical_turn_of_other_types_is_a_bad_row(tmp_path, trajectory, turn, change, reason):
    good, bad = to_json(trajectory), to_json(trajectory)
    bad["messages"][turn].update(change)
    found, refused = read(write(tmp_path / "a.jsonl", [good, bad]))
    assert isinstance(found, Trajectory) and isinstance(refused, BadRow)
    assert re.search(reason, refused.reason) and refused.row == bad


def test_a_canonical_turn_may_have_no_content(tmp_path, trajectory):
    row = to_json(trajectory)
    row["messages"][1]["content"] = None
    assert [to_json(found) for found in read(write(tmp_path / "a.jsonl", [row]))] == [
        to_json(trajectory)
    ]


def test_a_missing_file_and_a_wrong_ending_are_refused(tmp_path):
    with pytest.raises(DataError, match="data.path"):
        read(tmp_path / "none.jsonl")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match=r"a\.txt: no data file by its name; known .*\.jsonl"):
        read(tmp_path / "a.txt")


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


def replace_somewhere(row, data):
    """Put junk at a random place of a nested row."""
    node, path = row, []
    while isinstance(node, (dict, list)) and node and (not path or data.draw(st.booleans())):
        key = data.draw(st.sampled_from(list(node) if isinstance(node, dict) else range(len(node))))
        path.append((node, key))
        node = node[key]
    parent, key = path[-1]
    parent[key] = data.draw(JUNK)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), start=st.sampled_from([REACT, RAW]), name=st.sampled_from(sorted(FORMATS)))
def test_mutated_rows_never_crash_an_importer(data, start, name, tmp_path_factory):
    row = copy.deepcopy(start)
    replace_somewhere(row, data)
    path = write(tmp_path_factory.mktemp("rows") / "a.jsonl", [row])
    for found in Source(str(path), name, "test"):
        assert isinstance(found, (Trajectory, BadRow))
    assert isinstance(FORMATS[name].recognise(row), str)


def test_row_errors_are_value_errors():
    assert issubclass(RowError, ValueError)


def test_every_real_row_is_imported(rotllama):
    source = read(rotllama)
    assert source.format == "rotllama"
    rows = list(source)
    assert len(rows) == 3311 and all(isinstance(row, Trajectory) for row in rows)
    assert len({row.id for row in rows}) == len(rows)
    messages = [message for row in rows for message in row.messages]
    turns = [message for message in messages if message.role == "assistant"]
    results = [message.content for message in messages if message.role == "tool"]
    assert len(turns) == 9875
    assert len(results) == 6020
    assert sum("error" in text.lower() for text in results) == 990
    assert sum(not turn.calls for turn in turns) == 58
    assert all(tool.name for row in rows for tool in row.tools)
    described = [p for row in rows for tool in row.tools for p in tool.parameters]
    assert all("desciption" not in p.schema for p in described)
    assert all(row.tools[-1].parameters[0].required for row in rows)


def cut(packed):
    return packed[: len(packed) // 2]


def changed(packed):
    middle = len(packed) // 2
    return packed[:middle] + bytes(b ^ 255 for b in packed[middle : middle + 9]) + packed[middle:]


@pytest.mark.parametrize("damage", [cut, changed, lambda packed: packed[:-4] + b"0000"])
@pytest.mark.parametrize("ending", [".json.gz", ".jsonl.gz"])
def test_a_damaged_compressed_file_is_named(tmp_path, damage, ending):
    rows = [{"messages": [{"role": "user", "content": str(n * n)}]} for n in range(9_000)]
    text = json.dumps(rows) if ending == ".json.gz" else "\n".join(map(json.dumps, rows))
    path = tmp_path / f"rows{ending}"
    path.write_bytes(damage(gzip.compress(text.encode())))
    with pytest.raises(DataError, match=rf"rows{ending}: damaged gzip file .*fetch it again"):
        list(read(path, "openai"))
    # The text before the damage may be broken already.
    with pytest.raises(ValueError, match=rf"rows{ending}: (damaged gzip file|not JSON)"):
        read_json(path)


def test_text_that_is_not_compressed_is_no_gzip_file(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    path.write_text("{}")
    with pytest.raises(DataError, match="rows.jsonl.gz: damaged gzip file .*drop the .gz"):
        read(path)


ODD_TOOLS = ["[]", "{}", "null", "3", '"x"', "[1]", '["a"]', "[[]]", "[null]", "{", "\xff"]
ODD_TOOLS += ['[{"a": 1}]', '{"a": 1}', '{"a": [1]}', '{"a": {"b": 1}}', '[{"name": 1}]', "[[[1]]]"]
ODD_TOOLS += ['[{"name": "f", "parameters": 1}]', '{"a": [{"name": []}]}', '{"apis": [1]}']
ODD_TOOLS += ['[{"name": "f", "parameters": {"properties": [1]}}]', '{"a": {"b": {"c": [2]}}}']


@pytest.mark.parametrize("name", [n for n, f in FORMATS.items() if hasattr(f, "load_tools")])
def test_a_tools_file_of_another_shape_is_read_or_refused_by_name(tmp_path, name):
    (tmp_path / "rows.jsonl").write_text('{"id": "a"}\n')
    file = tmp_path / "tools.json"
    for content in ODD_TOOLS:
        file.write_bytes(content.encode("latin-1"))
        try:
            source = read(tmp_path / "rows.jsonl", name, file)
            assert all(isinstance(row, BadRow) for row in source)
        except ValueError as error:
            assert str(file) in str(error), content
