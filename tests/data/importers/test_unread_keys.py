"""Keys of a row that nothing reads are found, whatever importer reads it."""

import copy
import json
import types

import pytest
from set_samples import VENDORS
from test_formats import ROWS, TOOLS, write_side_files
from test_importers import RAW, REACT
from test_mutated_sets import SETS

from tl_jax.data.importers import BadRow, Source, read
from tl_jax.data.importers.unread import (
    Watched,
    changed,
    decoded,
    kept,
    renamed,
    unread_keys,
    watched,
)
from tl_jax.data.trajectory import Trajectory, to_json

UNKNOWN, VALUE = "other_key", "other value"
ROW = {"a": {"b": 1, "c": [{"d": 2}, {"d": None}]}, "e": 3, "id": 4, "empty": {"x": [None, ""]}}


def unread_after(read_some):
    row = watched(copy.deepcopy(ROW))
    read_some(row)
    return dict(unread_keys(row))


def with_match(row):
    match row:
        case {"e": found}:
            return found


WHOLE = {"e": 1}
READINGS = {
    "nothing": (lambda row: None, {"a": 1, "e": 1}),
    "one key": (lambda row: row["a"], {"a.b": 1, "a.c": 1, "e": 1}),
    "a list": (lambda row: row["a"]["c"], {"a.b": 1, "a.c[].d": 1, "e": 1}),
    "membership": (lambda row: "e" in row and len(row), {"a": 1, "e": 1}),
    "json": (lambda row: json.dumps(row["a"]), WHOLE),
    "sorted json": (lambda row: json.dumps(row["a"], sort_keys=True, indent=1), WHOLE),
    "text": (lambda row: f"{row['a']}", WHOLE),
    "deep copy": (lambda row: copy.deepcopy(row["a"]), WHOLE),
    "items": (lambda row: dict(row["a"].items()), {"a.c[].d": 1, "e": 1}),
    "dict": (lambda row: dict(row["a"]), {"a.c[].d": 1, "e": 1}),
    "unpacked": (lambda row: {**row["a"]}, {"a.c[].d": 1, "e": 1}),
    "arguments": (lambda row: types.SimpleNamespace(**row["a"]), {"a.c[].d": 1, "e": 1}),
    "joined": (lambda row: {} | row["a"], {"a.c[].d": 1, "e": 1}),
    "updated": (lambda row: {}.update(row["a"]), {"a.c[].d": 1, "e": 1}),
    "a loop": (lambda row: sorted(row["a"]), {"a.c[].d": 1, "e": 1}),
    "a match": (with_match, {"a": 1}),
    "popped": (lambda row: row.pop("e"), {"a": 1}),
}


@pytest.mark.parametrize("how", READINGS)
def test_what_is_not_read_is_counted_by_its_path(how):
    read_some, left = READINGS[how]
    assert unread_after(read_some) == left


def test_copies_with_other_values_or_names_read_the_row():
    row = watched({"from": "user", "value": '{"x": 1, "y": 2}', "weight": 0, "other": 5})
    entry = changed(renamed(row, {"from": "role", "value": "content"}), extra=1)
    assert entry["role"] == "user" and entry["weight"] == 0
    assert decoded(entry, "content", json.loads)["x"] == 1
    assert dict(unread_keys(row)) == {"value.y": 1, "other": 1}
    assert changed({"a": 1}, b=2) == {"a": 1, "b": 2}
    assert renamed({"from": 1, "role": 2}, {"from": "role"}) == {"role": 1}


def test_many_unread_keys_of_one_object_are_one_number():
    assert dict(unread_keys(watched({str(n): n for n in range(21)}))) == {"*": 21}


def test_what_is_kept_is_read_and_no_watched_object():
    row = watched(ROW)
    found = kept([row["a"]])
    assert "Watched" not in repr(type(found[0])) and type(found[0]["c"][0]) is dict
    assert dict(unread_keys(row)) == {"e": 1}
    same = {"a": [1, {"b": (2,)}]}
    assert kept(same) is same
    assert type(watched(ROW)) is Watched and watched(ROW) == ROW


def objects(value, path=()):
    if isinstance(value, dict):
        yield path
        for key, inner in value.items():
            yield from objects(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from objects(inner, (*path, number))


def with_key(row, path):
    row = copy.deepcopy(row)
    node = row
    for step in path:
        node = node[step]
    node[UNKNOWN] = VALUE
    return row


@pytest.fixture(scope="module")
def samples(tmp_path_factory, trajectory):
    """For every format its rows, and what a source needs beside them."""
    found = {"canonical": ([to_json(trajectory)], None)}
    found |= {"rotllama": ([REACT], None), "tl_training": ([RAW], None)}
    found |= {name: ([row], None) for name, row in VENDORS.items()}
    side = write_side_files(tmp_path_factory.mktemp("side")) / "tools.json"
    assert TOOLS
    for name, row in ROWS.items():
        module = read(_written(tmp_path_factory, [row]), name, side if _has_side(name) else "")
        found[name] = ([row], module.tools)
    for name, (rows, tools_file, tools) in SETS.items():
        path = _written(tmp_path_factory, rows)
        if tools_file:
            (path.parent / tools_file).write_text(json.dumps(tools), encoding="utf-8")
        found[name] = (rows, read(path, name, path.parent / tools_file if tools_file else "").tools)
    return found


def _has_side(name):
    return name in ("agentdojo", "tau_bench", "tau2_bench")


def _written(factory, rows):
    path = factory.mktemp("rows") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


NAMES = sorted({"canonical", "rotllama", "tl_training", *VENDORS, *ROWS, *SETS})


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_key_at_any_level_is_counted_or_kept(samples, name, tmp_path):
    rows, tools = samples[name]
    paths = [(row, path) for row in rows for path in objects(row)]
    texts = [json.dumps(with_key(row, path)) + "\n" for row, path in paths]
    (tmp_path / "rows.jsonl").write_text("".join(texts), encoding="utf-8")
    found = {}
    for line, one in Source(str(tmp_path / "rows.jsonl"), name, "test", tools=tools).numbered():
        found.setdefault(line, []).append(one)
    lost = []
    for line, (_, path) in enumerate(paths):
        if all(isinstance(one, BadRow) for one in found[line]):
            continue
        whole = json.dumps([to_json(o) for o in found[line] if isinstance(o, Trajectory)])
        unread = [key for o in found[line] for key in o.unread]
        if VALUE not in whole and not any(key.endswith(UNKNOWN) for key in unread):
            if not any(key.endswith("*") or covers(key, path) for key in unread):
                lost.append(path)
    assert not lost


def covers(key, path):
    """Whether a counted key is above the place of the unknown one."""
    shown = ""
    for step in path:
        shown = f"{shown}[]" if isinstance(step, int) else f"{shown}.{step}".removeprefix(".")
        if shown == key:
            return True
    return False


def test_what_was_written_by_this_package_is_read_whole(import_cases, tmp_path):
    for name in ("schemas", "table_padding", "thought_keys", "untrained_turn_flags_openai"):
        rows = list(read(import_cases / f"{name}.jsonl"))
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(to_json(row)) + "\n" for row in rows))
        again = list(read(path))
        assert again == rows and not any(row.unread for row in again)
