"""Rows of the benchmark sets that were damaged: read, or refused with a reason, never worse."""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from set_samples import (
    ALPACA,
    API_BANK,
    API_BANK_TABLE,
    INTERCODE,
    LIVE,
    LV3,
    NESTFUL,
    NESTFUL_TOOLS,
    REACT,
    SEAL,
    SEAL_TOOLS,
    STAR_FORMS,
    TOOLRL,
    TOOLTALK,
    TOOLTALK_TOOLS,
    VENDORS,
    star_row,
)

from tl_jax.data.importers import BadRow, Source, read
from tl_jax.data.importers.read import FORMATS
from tl_jax.data.trajectory import Trajectory, from_json, to_json

STAR = star_row({"Day": '"Friday"'}, {"Price": "api.is_at_least(3)"}, Item={"Message": "m"})
# Format, rows, tools file and its content.
SETS = {
    "api_bank": ([API_BANK], "all_apis.json", API_BANK_TABLE),
    "api_bank_lv3": ([LV3], "", None),
    "intercode": ([INTERCODE, REACT], "", None),
    "livemcpbench": ([LIVE], "", None),
    "nestful": ([NESTFUL], "rows-spec.json", NESTFUL_TOOLS),
    "seal_tools": ([SEAL], "tools.json", SEAL_TOOLS),
    "star": ([STAR], "apis.json", STAR_FORMS),
    "toolalpaca": ([ALPACA], "", None),
    "toolrl": ([TOOLRL], "", None),
    "tooltalk": ([TOOLTALK], "tools.json", TOOLTALK_TOOLS),
    **{name: ([row], "", None) for name, row in VENDORS.items()},
}
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.sampled_from(["", '"\\ud800"', "api.is_at_least([{", "{'a': ", "<user> x", "[f(a=("])
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


def change_somewhere(row, data):
    """Replace, remove, repeat or cut a random part of a nested row."""
    node, path = row, []
    while isinstance(node, (dict, list)) and node and (not path or data.draw(st.integers(0, 3))):
        key = data.draw(st.sampled_from(list(node) if isinstance(node, dict) else range(len(node))))
        path.append((node, key))
        node = node[key]
    parent, key = path[-1]
    how = data.draw(st.sampled_from(["replace", "remove", "repeat", "cut"]))
    if how == "remove":
        del parent[key]
    elif how == "repeat" and isinstance(parent, list):
        parent.insert(key, copy.deepcopy(parent[key]))
    elif how == "cut" and isinstance(parent[key], str):
        parent[key] = parent[key][: data.draw(st.integers(0, len(parent[key])))]
    else:
        parent[key] = data.draw(JUNK)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A whole file of every format with its tools beside it, opened with ``auto``."""
    found = {}
    for name, (rows, tools_file, tools) in SETS.items():
        folder = tmp_path_factory.mktemp(name)
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        if tools_file:
            (folder / tools_file).write_text(json.dumps(tools), encoding="utf-8")
        if name == "seal_tools":  # a list of tools may also be one JSON value
            found[name] = read(folder / "rows.jsonl", tools_path=folder / tools_file)
        else:
            found[name] = read(folder / "rows.jsonl")
    return found


@pytest.mark.parametrize("name", sorted(SETS))
def test_every_format_is_recognised_and_its_rows_are_read(sources, name):
    assert sources[name].format == name
    assert sources[name].reason.startswith("row 1: ")
    rows = [row for row in sources[name] if isinstance(row, Trajectory)]
    assert len(rows) == len(SETS[name][0])


@settings(max_examples=500, deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(SETS)))
def test_a_damaged_row_is_read_or_refused_and_what_is_read_can_be_written(
    sources, tmp_path_factory, data, name
):
    row = copy.deepcopy(data.draw(st.sampled_from(SETS[name][0])))
    for _ in range(data.draw(st.integers(1, 3))):
        if row:
            change_somewhere(row, data)
    assert isinstance(FORMATS[name].recognise(row), str)
    path = tmp_path_factory.getbasetemp() / "damaged.jsonl"
    path.write_text(json.dumps(row) + "\n")
    found = list(Source(str(path), name, "test", tools=sources[name].tools))
    assert found
    for one in found:
        if isinstance(one, BadRow):
            assert one.reason
            continue
        text = json.dumps(to_json(one), ensure_ascii=False)
        text.encode()
        assert from_json(json.loads(text)) == one


@settings(max_examples=100, deadline=None)
@given(row=JUNK, name=st.sampled_from(sorted(SETS)))
def test_junk_is_not_recognised(row, name):
    assert FORMATS[name].recognise(row) == ""


@pytest.mark.parametrize("name", sorted(n for n in SETS if SETS[n][1]))
def test_without_the_file_of_tools_every_row_says_so(tmp_path, name):
    rows = SETS[name][0]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    reasons = {row.reason for row in read(tmp_path / "rows.jsonl")}
    assert len(reasons) == 1 and "beside the data" in reasons.pop()
