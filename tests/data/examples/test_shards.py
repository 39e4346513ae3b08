"""Examples come back from their files as they were, and a file that is not whole is noticed."""

import dataclasses
import os
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.data.examples.build import Example
from tl_jax.data.examples.record import pack_example, unpack_arrays, unpack_example
from tl_jax.data.examples.shards import INDEX, open_shards, write_examples
from tl_jax.errors import DataError

weights = st.one_of(st.just(0), st.floats(0.001, 9))
pairs = st.lists(st.tuples(st.sampled_from([0, 1, 65_535, 65_536, 300_000]), weights), max_size=30)


@settings(deadline=None)
@given(st.text(), pairs, st.text())
def test_an_example_comes_back_from_its_record(identity, tokens, tag):
    example = Example(identity, [i for i, _ in tokens], [w for _, w in tokens], {"a": tag})
    record = pack_example(example)
    assert unpack_example(record) == example
    ids, found = unpack_arrays(record)
    assert ids.tolist() == example.ids and ids.dtype == np.int32
    assert found.tolist() == [float(np.float32(weight)) for weight in example.weights]


def test_a_record_that_is_none_or_not_whole_is_refused():
    record = pack_example(Example("a", [1, 2], [0, 1.5], {"b": "c"}))
    changed = record[:4] + b"\x09" + record[5:]
    for wrong, words in ((b"", "no example"), (record[:-1], "damaged"), (changed, "version")):
        with pytest.raises(DataError, match=f"here: .*{words}.*tl-jax prepare"):
            unpack_arrays(wrong, "here")


def test_files_give_examples_by_number_and_notice_what_is_missing(tmp_path):
    examples = [Example(str(n), [n, 2], [0, 1.0], {}) for n in range(5)]
    write_examples(tmp_path / "x", examples)
    found = open_shards(tmp_path / "x")
    assert list(found) == examples and len(found) == 5 and found.example(3) == examples[3]
    for number in (-1, 5):
        with pytest.raises(IndexError):
            found.example(number)
    write_examples(tmp_path / "y", [dataclasses.replace(examples[0], weights=[0, 2.0])])
    write_examples(tmp_path / "z", examples)
    prints = [open_shards(tmp_path / name).fingerprint for name in "xyz"]
    assert prints[0] == prints[2] != prints[1]
    (file,) = (tmp_path / "x").glob("*.array_record")
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(DataError, match="bytes and not .*tl-jax prepare"):
        open_shards(tmp_path / "x")
    file.unlink()
    with pytest.raises(DataError, match="is missing"):
        open_shards(tmp_path / "x")


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace('"sha256"', '"sha"'),
        lambda text: text.replace('"records": 1', '"records": "1"'),
        lambda text: re.sub(r'"name": "[^"]*"', '"name": [1]', text),
        lambda text: re.sub(r'"shards": .*]', '"shards": 7', text, flags=re.DOTALL),
        lambda text: re.sub(r'"shards": .*]', '"shards": [7]', text, flags=re.DOTALL),
        lambda text: "[" * 100_000,
    ],
)
def test_a_damaged_list_of_files_is_named(tmp_path, damage):
    write_examples(tmp_path, [Example("a", [0, 1], [0.0, 1.0], {})])
    damaged = damage((tmp_path / INDEX).read_text())
    assert damaged != (tmp_path / INDEX).read_text()
    (tmp_path / INDEX).write_text(damaged)
    with pytest.raises(DataError, match="tl-jax prepare"):
        open_shards(tmp_path)
