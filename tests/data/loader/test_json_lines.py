"""Rows of a JSON-lines file come by their number."""

import json
import pickle

import pytest

from tl_jax.data.loader import json_lines
from tl_jax.data.loader.json_lines import JsonlSource
from tl_jax.errors import DataError


def test_source_reads_rows_by_index_skips_blank_lines_and_pickles(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n\n{"a": "\xc3\xa9"}\n  \n{"a": 3}')
    source = JsonlSource(path)
    assert [source[i]["a"] for i in (2, 0, 1)] == [3, 1, "é"]
    copy = pickle.loads(pickle.dumps(source))  # noqa: S301
    assert len(copy) == 3 and copy[1] == source[1]


def test_lines_across_scan_blocks_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(json_lines, "_SCAN_BYTES", 7)
    rows = [{"id": number, "text": "x" * number} for number in range(20)]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = JsonlSource(tmp_path / "x.jsonl")
    assert [source[i] for i in range(len(source))] == rows


def test_a_missing_file_says_how_to_make_it(tmp_path):
    with pytest.raises(DataError, match="tl-jax prepare"):
        JsonlSource(tmp_path / "x.jsonl")
