"""CSV, Parquet and Arrow files are read row by row, with types that JSON has."""

import csv
import datetime
import decimal
import json
import sys
from collections import Counter

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from tl_jax.data.importers import BadRow, read, tables
from tl_jax.data.importers.rows import parsed
from tl_jax.errors import DataError

MESSAGES = [
    [{"role": "user", "content": f"ø{n}"}, {"role": "assistant", "content": "b"}]
    for n in range(700)
]
TABLE = pa.table({"messages": MESSAGES, "id": [f"r{n}" for n in range(700)]})


def stream(table, path):
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=300)


def file(table, path):
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=300)


WRITERS = {
    "a.parquet": lambda table, path: pq.write_table(table, path, row_group_size=300),
    "a.arrow": stream,
    "b.Arrow": file,
    "a.feather": lambda table, path: pa.feather.write_feather(table, path, compression="zstd"),
}


def write_csv(path, rows, delimiter=",", encoding="utf-8", names=("messages", "id")):
    with open(path, "w", newline="", encoding=encoding) as out:
        csv.writer(out, delimiter=delimiter).writerows([names, *rows])
    return path


@pytest.mark.parametrize("name", WRITERS)
def test_rows_of_a_table_are_those_of_its_lines(tmp_path, name):
    WRITERS[name](TABLE, str(tmp_path / name))
    source = read(tmp_path / name)
    rows = list(source)
    assert source.format == "openai" and [row.line for row in rows] == list(range(700))
    assert [row.id for row in rows] == [f"r{n}" for n in range(700)]
    assert rows[699].messages[0].content == "ø699"
    assert all(row.table for row in source.raw())


def test_types_that_json_has_not_become_text_and_are_counted_where_they_lose(tmp_path):
    values = {
        "messages": [MESSAGES[0]],
        "day": [datetime.date(2024, 5, 1)],
        "price": [decimal.Decimal("1.50")],
        "share": [float("nan")],
        "text": [b"ok"],
        "image": [b"\xff\xd8"],
        "map": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
    }
    pq.write_table(pa.table(values), tmp_path / "a.parquet")
    source = read(tmp_path / "a.parquet")
    (row,) = source
    assert row.repairs == {"nan": 1, "bytes": 1}
    (raw,) = source.raw()
    assert json.loads(json.dumps(parsed(raw, Counter()))) == {
        "messages": MESSAGES[0], "day": "2024-05-01", "price": "1.50", "share": None, "text": "ok",
        "image": "[2 bytes]", "map": {"a": 1},
    }  # fmt: skip


def test_the_nulls_that_fill_up_a_table_are_left_out_and_counted(tmp_path):
    def row(name, parameter, value):
        schema = {"type": "object", "properties": {parameter: {"type": "string"}}, "required": []}
        call = {"id": "1", "function": {"name": name, "arguments": {parameter: value}}}
        return {
            "tools": [{"type": "function", "function": {"name": name, "parameters": schema}}],
            "messages": [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "content": "b", "tool_call_id": "1"},
            ],
        }

    rows = [row("weather", "city", "Oslo"), row("news", "topic", "sports")]
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for found, expected in zip(
        read(tmp_path / "a.parquet"), read(tmp_path / "a.jsonl"), strict=True
    ):
        assert (found.tools, found.messages) == (expected.tools, expected.messages)
        assert found.repairs == {"table_null": 7} and not expected.repairs
        assert not found.unread


def json_column(values):
    texts = [None if value is None else json.dumps(value) for value in values]
    return pa.ExtensionArray.from_storage(pa.json_(), pa.array(texts, pa.string()))


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_columns_declared_to_be_json_are_read_with_the_nulls_of_their_rows(tmp_path, name):
    call = {"function": {"name": "weather", "arguments": {"city": "Oslo", "day": None}}}
    turns = [MESSAGES[0][0], {"role": "assistant", "content": None, "tool_calls": [call]}]
    schema = {"type": "object", "properties": {"city": {"type": "string"}, "day": {}}}
    tool = pa.StructArray.from_arrays(
        [pa.array(["weather"]), *(json_column([value]) for value in (schema, None, {}))],
        ["name", "parameters", "absent", "empty"],
    )
    columns = {
        "messages": pa.ListArray.from_arrays([0, 2], json_column(turns)),
        "tools": pa.ListArray.from_arrays([0, 1], tool),
        "map": pa.MapArray.from_arrays([0, 2], ["a", "b"], json_column([[1.0], None])),
    }
    WRITERS[name](pa.table(columns), str(tmp_path / name))
    source = read(tmp_path / name)
    (raw,) = source.raw()
    assert parsed(raw, Counter()) == {
        "messages": turns,
        "tools": [{"name": "weather", "parameters": schema, "empty": {}}],
        "map": {"a": [1.0]},
    }
    (row,) = source
    assert row.messages[1].calls[0].arguments == {"city": "Oslo", "day": None}


def test_a_text_that_is_not_the_json_its_column_declares_is_a_bad_row(tmp_path):
    damaged = pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a"']))
    pq.write_table(pa.table({"messages": [MESSAGES[0]], "a": damaged}), tmp_path / "a.parquet")
    (row,) = read(tmp_path / "a.parquet", format="openai")
    assert isinstance(row, BadRow) and "a column of JSON is not JSON" in row.reason


@pytest.mark.parametrize(
    ("delimiter", "encoding"),
    [(",", "utf-8"), (";", "utf-8-sig"), ("\t", "utf-16"), (",", "utf-8")],
)
def test_csv_cells_hold_lists_as_text(tmp_path, delimiter, encoding):
    rows = [(json.dumps(MESSAGES[0]), "a,;\t\n"), (str(MESSAGES[1]), "")]
    path = write_csv(tmp_path / "a.csv", rows, delimiter, encoding)
    first, second = read(path)
    assert (first.id, first.messages[0].content) == ("a,;\t\n", "ø0")
    assert (second.id, second.messages[0].content) == ("a.csv:1", "ø1")
    assert second.repairs == {"python_literal": 1}


def test_a_csv_row_that_cannot_be_read_is_a_bad_row_with_its_reason(tmp_path):
    good = json.dumps(MESSAGES[0])
    path = write_csv(tmp_path / "a.csv", [(good, "1"), (good,), ("[{", "1"), (good, "Bodø")])
    path.write_bytes(path.read_bytes().replace("Bodø".encode(), b"Bod\xf8"))
    first, *bad = read(path)
    assert not isinstance(first, BadRow)
    assert [row.line for row in bad] == [1, 2, 3]
    for row, reason in zip(
        bad, ["1 cells, but", "'messages' is not JSON", "byte 0xf8"], strict=True
    ):
        assert reason in row.reason
        json.dumps(row.row).encode()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", b"", "the file is empty"),
        ("a.csv", b"messages,id,messages\n", "names the column 'messages' twice"),
        ("a.csv", b"messages\n", "it holds no rows"),
        ("a.csv", b'messages\n"[{""role""', "not CSV: unexpected end of data"),
        ("a.parquet", b"no", "it cannot be read: "),
        ("a.arrow", b"ARROW1 and no more", "it cannot be read: "),
        ("a.feather", b"FEA1" + b"\0" * 20, "Feather in its old version 1; write it again"),
        ("a.parquet.gz", b"", "no data file by its name"),
    ],
)
def test_a_damaged_table_is_named(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: .*{reason}"):
        read(tmp_path / name)


def test_without_pyarrow_it_is_said_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(
        DataError, match=r"pyarrow, which is not installed: pip install 'tl_jax\[data"
    ):
        list(tables.parquet_rows(str(tmp_path / "a.parquet")))
