"""The order of examples is that of their ids, whatever files and memory there are."""

import numpy as np
import pytest

from tl_jax.data.examples import shards
from tl_jax.data.examples.build import Example
from tl_jax.data.examples.order import ORDER, read_order, write_order
from tl_jax.data.examples.record import pack_example
from tl_jax.errors import DataError


def make_examples(count=60, seed=0):
    """Examples of few different ids, some beyond 16 bits, among them equal ones and prefixes."""
    rng = np.random.default_rng(seed)
    known = np.array([0, 1, 255, 256, 65536, 70000])
    rows = [known[rng.integers(0, 6, rng.integers(2, 9))].tolist() for _ in range(count)]
    rows += [rows[3], rows[5][:2]]
    return [Example(str(n), ids, [0.0] * len(ids), {}) for n, ids in enumerate(rows)]


def write(folder, examples, per_file=1000):
    folder.mkdir()
    packed = [pack_example(example) for example in examples]
    parts = [packed[at : at + per_file] for at in range(0, len(packed), per_file)]
    found = [
        shards.write_shard(folder / shards.shard_name(number), part)
        for number, part in enumerate(parts)
    ]
    shards.write_index(folder, found)
    return folder


def test_examples_that_begin_alike_are_neighbours_with_what_they_share(tmp_path):
    examples = make_examples()
    folder = write(tmp_path / "x", examples)
    write_order(folder)
    order = read_order(shards.open_shards(folder))
    expected = sorted(range(len(examples)), key=lambda n: (examples[n].ids, n))
    assert order.examples.tolist() == expected
    assert order.lengths.tolist() == [len(examples[n].ids) for n in expected]
    for place, number in enumerate(expected):
        before = examples[expected[place - 1]].ids if place else []
        same = [a == b for a, b in zip(before, examples[number].ids, strict=False)]
        assert order.shared[place] == (same + [False]).index(False)


def test_files_and_memory_change_nothing(tmp_path):
    examples = make_examples()
    found = []
    for name, per_file, run_ids in (("a", 1000, 1 << 20), ("b", 9, 40), ("c", 1, 1)):
        folder = write(tmp_path / name, examples, per_file)
        write_order(folder, run_ids=run_ids)
        found.append(read_order(shards.open_shards(folder)))
    for other in found[1:]:
        for name in ("examples", "lengths", "shared"):
            np.testing.assert_array_equal(getattr(found[0], name), getattr(other, name))


def test_an_order_that_is_missing_damaged_or_of_other_examples_is_refused(tmp_path):
    folder = write(tmp_path / "x", make_examples())
    with pytest.raises(DataError, match="order.npz cannot be read .* data.shared_prefixes"):
        read_order(shards.open_shards(folder))
    write_order(folder)
    whole = (folder / ORDER).read_bytes()
    for bytes_left in (whole[:-30], whole[:40], b""):
        (folder / ORDER).write_bytes(bytes_left)
        with pytest.raises(DataError, match="tl-jax prepare"):
            read_order(shards.open_shards(folder))
    (folder / ORDER).write_bytes(whole)
    other = write(tmp_path / "y", make_examples(seed=1))
    (other / ORDER).write_bytes(whole)
    with pytest.raises(DataError, match="of other files"):
        read_order(shards.open_shards(other))


def test_no_examples_have_an_order(tmp_path):
    folder = write(tmp_path / "x", [])
    write_order(folder)
    assert not len(read_order(shards.open_shards(folder)).examples)
