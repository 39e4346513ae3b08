"""An importer of the user's own reads a format that the package does not know."""

import json
import pickle

import pytest

from tl_jax.config import DataConfig
from tl_jax.data.importers import BadRow
from tl_jax.data.prepare.sources import identities, open_sources
from tl_jax.errors import ConfigError

IMPORTER = """
from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.data.trajectory import Message, Trajectory
from tl_jax.errors import RowError

NAME = "mine"

def recognise(row):
    return "asks and does" if isinstance(row, dict) and {"asks", "does"} <= row.keys() else ""

def trajectory(row, *, source, line):
    if not row["asks"]:
        raise RowError("asks nothing")
    call = ToolCall(row["does"][0], row["does"][1])
    return Trajectory(
        id=f"mine:{line}",
        tools=(ToolSpec(call.name),),
        messages=(Message("user", row["asks"]), Message("assistant", "", (call,))),
        source=source,
        line=line,
    )
"""
ROWS = [
    {"asks": "add one and two", "does": ["add", {"a": 1, "b": 2}]},
    {"asks": "", "does": ["add", {}]},
    {"asks": "half a row", "does": ["add"]},
]
ADD = {"name": "add", "arguments": {}}
KNOWN = {"query": "add 1", "answers": [ADD], "tools": [{"name": "add"}]}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def importer(tmp_path):
    path = tmp_path / "my_format.py"
    path.write_text(IMPORTER)
    return path


@pytest.fixture
def rows(tmp_path):
    return write(tmp_path / "rows.jsonl", ROWS)


def opened(**settings):
    return open_sources(DataConfig(**settings), 0)


@pytest.mark.parametrize("form", ["auto", "mine"])
def test_rows_are_read_by_the_file(importer, rows, form):
    (source,) = opened(path=rows, importer=str(importer), format=form)
    first, second, third = source.rows
    assert source.rows.format == "mine"
    assert (first.id, first.source, first.line) == ("mine:0", "rows.jsonl", 0)
    assert first.messages[1].calls[0].arguments == {"a": 1, "b": 2}
    assert isinstance(second, BadRow) and second.reason == "asks nothing"
    assert isinstance(third, BadRow) and "not a mine row: IndexError" in third.reason


def test_in_a_mixture_each_file_has_its_format(importer, rows, tmp_path):
    known = write(tmp_path / "known.jsonl", [KNOWN])
    sources = opened(sources=(f"{rows}:mine@2", known, "synthetic"), importer=str(importer))
    assert [source.rows.format for source in sources[:2]] == ["mine", "xlam"]
    assert [source.weight for source in sources] == [2.0, 1.0, 1.0]


def test_a_file_takes_the_place_of_a_format_of_its_name(importer, tmp_path):
    importer.write_text(IMPORTER.replace('"mine"', '"xlam"').replace("asks and does", "mine"))
    known = write(tmp_path / "known.jsonl", [KNOWN])
    (source,) = opened(path=known, format="xlam", importer=str(importer))
    assert isinstance(next(iter(source.rows)), BadRow)


def test_data_are_prepared_anew_when_the_file_changes(importer, rows):
    before = identities(opened(path=rows, importer=str(importer)))
    assert identities(opened(path=rows, importer=str(importer))) == before
    importer.write_text(IMPORTER + "\n# changed\n")
    assert identities(opened(path=rows, importer=str(importer))) != before


def test_a_row_that_becomes_no_trajectory_is_a_bad_row(importer, rows):
    importer.write_text(IMPORTER.replace("return Trajectory(", "return dict("))
    (source,) = opened(path=rows, importer=str(importer))
    assert next(iter(source.rows)).reason == "the importer returned dict, not a Trajectory"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('NAME = "mine"', "", "must define NAME, .*got None"),
        ('NAME = "mine"', 'NAME = "a:b"', "must define NAME, .*got 'a:b'"),
        ("def recognise", "def recognize", "defines no function recognise; it has .*recognize"),
        ("def trajectory", "def convert", "defines no function trajectory; it has .*convert"),
        ("from tl_jax", "from tl_jacks", "cannot be loaded .ModuleNotFoundError"),
    ],
)
def test_what_a_file_lacks_is_named(importer, rows, old, new, message):
    importer.write_text(IMPORTER.replace(old, new))
    with pytest.raises(ConfigError, match=rf"config\.data\.importer: .*my_format\.py {message}"):
        opened(path=rows, importer=str(importer))


def test_a_recognise_that_raises_is_named_with_the_row(importer, rows):
    importer.write_text(IMPORTER.replace('"asks and does"', "row[0]"))
    with pytest.raises(ConfigError, match=r"my_format\.py: recognise raised for row 1 of .*KeyErr"):
        opened(path=rows, importer=str(importer))


def test_an_importer_without_a_file_to_read_is_refused(importer):
    for settings in ({}, {"sources": ("synthetic@2",)}):
        with pytest.raises(ConfigError, match="the embedded tool world needs none"):
            opened(importer=str(importer), **settings)


def test_a_source_and_its_raw_rows_travel_to_other_processes(importer, rows):
    (source,) = opened(path=rows, importer=str(importer))
    elsewhere = pickle.loads(pickle.dumps(source.rows))  # noqa: S301
    raw = pickle.loads(pickle.dumps(list(source.rows.raw())))  # noqa: S301
    assert [(row.line, type(row.value)) for row in raw] == [(0, bytes), (1, bytes), (2, bytes)]
    assert [found for row in raw for found in elsewhere.converted(row)] == list(source.rows)
