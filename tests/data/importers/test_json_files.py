"""JSON files are read in whatever shape they come, or refused for the true reason."""

import gzip
import json
import re

import pytest

from tl_jax.data.importers import BadRow, read
from tl_jax.errors import DataError


def chat(text, **more):
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": "b\u2028\n["}]
    return {"messages": messages, **more}


ROWS = [chat("ø"), chat("1"), chat("2")]
LINES = [json.dumps(row, ensure_ascii=False) for row in ROWS]
PRETTY = [json.dumps(row, indent=1) for row in ROWS]
COLUMNS = {"messages": [row["messages"] for row in ROWS], "id": ["a", "b", "c"]}
PANDAS = {key: {str(n): cell for n, cell in enumerate(column)} for key, column in COLUMNS.items()}
SHAPES = {
    "lines": "\n".join(LINES),
    "lines with blank ones, carriage returns and marks": "\r\n\r\n".join(
        "\ufeff" + line for line in LINES
    ),
    "rows over several lines": "\n".join(PRETTY),
    "rows behind each other": "".join(LINES),
    "rows between carriage returns": "\r".join(LINES),
    "a list": json.dumps(ROWS),
    "a list of a line each": "[\n" + ",\n".join(LINES) + "\n]\n",
    "a list of indented rows": json.dumps(ROWS, indent=2),
    "a list that begins in its first line": "[" + ",\n".join(LINES) + "]",
    "lines of a list": ",\n".join(LINES) + ",\n",
    "text columns": "\n".join(
        json.dumps({**row, "messages": json.dumps(row["messages"])}) for row in ROWS
    ),
    "literals": "\n".join(json.dumps({**row, "messages": str(row["messages"])}) for row in ROWS),
    "wrapped": json.dumps({"version": 1, "data": ROWS}),
    "wrapped and indented": json.dumps({"version": [1], "anything": ROWS}, indent=1),
    "a split": json.dumps({"train": ROWS, "test": ROWS[:1]}),
    "a split in lines": '{"train": [\n' + ",\n".join(LINES) + '\n], "test": []}',
    "columns": json.dumps(COLUMNS),
    "columns of pandas": json.dumps(PANDAS, indent=1),
}


def texts(path, **settings):
    rows = list(read(path, **settings))
    assert not any(isinstance(row, BadRow) for row in rows), rows
    return [row.messages[0].content for row in rows]


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_are_read_whatever_the_ending_says(tmp_path, shape):
    raw = SHAPES[shape].encode()
    packed = gzip.compress(raw)
    for name, content in {
        "a.json": raw,
        "A.NDJSON": raw,
        "a.JSONL.GZ": packed,
        "b.jsonl": packed,
    }.items():
        (tmp_path / name).write_bytes(content)
        assert texts(tmp_path / name) == ["ø", "1", "2"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize("shape", ["lines", "rows over several lines", "a list", "wrapped"])
def test_text_says_by_its_first_bytes_how_it_is_encoded(tmp_path, encoding, shape):
    (tmp_path / "a.jsonl").write_bytes(SHAPES[shape].encode(encoding))
    assert texts(tmp_path / "a.jsonl") == ["ø", "1", "2"]


def test_a_long_file_is_read_in_parts(tmp_path):
    rows = [chat(str(n), pad="x" * 50_000) for n in range(60)]
    for name, text in {
        "list.json": json.dumps(rows),
        "values.json": "".join(map(json.dumps, rows)),
    }.items():
        (tmp_path / name).write_text(text)
        assert texts(tmp_path / name) == [str(n) for n in range(60)]


def test_one_row_is_a_row_and_no_object_of_columns_or_splits(tmp_path):
    row = chat("a", tools=[{"type": "function", "function": {"name": "f"}}] * 2)
    (tmp_path / "a.json").write_text(json.dumps(row, indent=1))
    source = read(tmp_path / "a.json")
    assert texts(tmp_path / "a.json") == ["a"] and source.reason.startswith("row 1: messages")


def test_the_part_that_is_taken_is_told_and_can_be_asked_for(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"train": ROWS[:1], "dev": ROWS[1:2], "test": ROWS[2:]}))
    assert read(path).reason.endswith("the split train, without dev, test")
    assert texts(f"{path}:dev") == ["1"] and texts(f"{path}:test", format="openai") == ["2"]
    with pytest.raises(DataError, match="no split 'valid'; there are: train, dev, test"):
        read(f"{path}:valid")
    path.write_text(json.dumps({"easy": ROWS, "hard": ROWS}))
    with pytest.raises(
        DataError, match=r"several splits \(easy, hard\); say which, such as .*:easy"
    ):
        read(path)
    path.write_text("\n".join(LINES))
    with pytest.raises(DataError, match="no split 'dev'; its rows are in no splits at all"):
        read(f"{path}:dev")


def test_what_was_mended_is_counted(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        '{"tools": NaN, "messages": [{"role": "assistant", "content": "NaN", "name": NaN}]},\n'
        + LINES[1]
    )
    first, second = read(tmp_path / "a.jsonl")
    assert first.repairs == {"nan": 2, "row_comma": 1}
    assert first.messages[0].content == "NaN" and not second.repairs


REFUSED = {
    "nothing": ("", "a.jsonl: the file is empty"),
    "blanks": ("\n \n", "a.jsonl: the file is empty"),
    "no rows": ("[ ]", "a.jsonl: it holds no rows"),
    "zeros": ("\0" * 100, "begins with zero bytes; the file is damaged"),
    "a pointer": ("version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
    "a page": ("<!DOCTYPE html>\n<html>\n", "none of its first 2 rows .* line 1: not JSON"),
    "Latin-1": (
        "\n".join(LINES[:1]).encode("latin-1", "replace"),
        r"line 1: not UTF-8 text: byte 0xf8 \('ø' in Latin-1\); .*iconv -f",
    ),
    "a list cut off": (json.dumps(ROWS)[:-1], "cut off after row 3"),
    "a row cut off": ("\n".join(PRETTY)[:-30], r"line \d+: not JSON"),
    "a list that goes on": (json.dumps(ROWS) + "x", "more text after the end of the list"),
    "a comma in a list": ("[" + LINES[0] + ",]", "line 1: not JSON: a comma before the closing"),
    "a comma in a row": (LINES[0][:-1] + ",}", "line 1: not JSON: a comma before the closing"),
    "a comma in an indented row": (PRETTY[0][:-2] + ",\n}", r"line \d\d: not JSON: a comma before"),
    "no comma": ("[" + LINES[0] + LINES[1] + "]", "',' or ']' must follow row 1"),
    "Infinity": ('{"messages": Infinity}', "line 1: not JSON: Infinity is no JSON number"),
    "lists": ("[1]\n[2]\n", "format not recognised .rows of list."),
    "a literal of numpy": (
        json.dumps({"messages": "[{'role': 'user'}\n {'role': 'tool'}]"}),
        "'messages' is not JSON: .*write the column with json.dumps",
    ),
    "other keys": ('{"a": 1, "b": 2}', "format not recognised .its rows have the keys a, b.; set"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_refusal_says_the_true_reason(tmp_path, kind):
    text, reason = REFUSED[kind]
    (tmp_path / "a.jsonl").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=reason) as caught:
        list(read(tmp_path / "a.jsonl"))
    assert str(tmp_path / "a.jsonl") in str(caught.value)
    assert "recognised" in reason or "recognised" not in str(caught.value)


def test_one_broken_line_is_one_bad_row(tmp_path):
    broken = [b'{"messages": [1', '{"a": "ø"}'.encode("latin-1"), b'{"a": 1,}', b"[]", b'"\\ud800"']
    lines = [LINES[0].encode(), *broken, LINES[1].encode()]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    found = list(read(tmp_path / "a.jsonl"))
    assert [row.line for row in found if isinstance(row, BadRow)] == [1, 2, 3, 4, 5]
    reasons = ["not JSON", "byte 0xf8", "a comma before", "not list", "surrogates not allowed"]
    for row, reason in zip(found[1:6], reasons, strict=True):
        assert reason in row.reason
    # The first may be broken, too, and so may it be of a file whose rows are lines.
    (tmp_path / "b.jsonl").write_bytes(b"\n".join([broken[0], *lines]))
    assert isinstance(next(iter(read(tmp_path / "b.jsonl"))), BadRow)


def test_every_case_file_is_read_or_refused_for_its_reason(import_cases):
    read_whole = "ok.jsonl.gz bom.jsonl upper.JSONL ok.ndjson text_columns.jsonl wrapped.json "
    read_whole += "columns.json table.csv list_in.jsonl pretty.jsonl lines_in.json "
    read_whole += "trailing_comma.jsonl nan.jsonl utf16.jsonl"
    for name in read_whole.split():
        rows = list(read(import_cases / "files" / name))
        asked = [row.messages[0].content for row in rows]
        assert asked == [f"Weather in Bodø {n}? \u2028 line" for n in range(3)], name
        assert [row.messages[1].calls[0].arguments for row in rows] == [{"city": "Bodø"}] * 3
    assert len(texts(import_cases / "files" / "splits.json")) == 2
    with pytest.raises(DataError, match=re.escape("latin1.jsonl: none of its first 3 rows")):
        read(import_cases / "files" / "latin1.jsonl")
