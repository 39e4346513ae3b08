"""Rows of trees: an epoch trains each target of the samples once, in any order, from any place."""

import collections
import itertools
import json

import numpy as np
import pytest

from tl_jax.data.examples.build import Example
from tl_jax.data.examples.order import write_order
from tl_jax.data.examples.shards import write_examples
from tl_jax.data.loader import loader as loader_lib
from tl_jax.errors import DataError

LENGTH = 64


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A directory of groups of examples that begin alike, and of single ones; the examples."""
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(12):
        manual = rng.integers(1, 90, 20).tolist()
        for _ in range(int(rng.integers(1, 7))):
            ids = [*manual, *rng.integers(1, 90, rng.integers(1, 12)).tolist()]
            weights = rng.choice([0.0, 0.0, 1.0, 2.5], len(ids)).tolist()
            rows.append(Example(f"e{len(rows)}", ids, [0.0, *weights[1:]], {}))
    for size in rng.integers(4, 20, 15).tolist():
        ids = rng.integers(1, 90, size).tolist()
        rows.append(Example(f"e{len(rows)}", ids, [0.0] + [1.0] * (size - 1), {}))
    rows = [rows[number] for number in rng.permutation(len(rows))]
    folder = tmp_path_factory.mktemp("trees") / "x"
    write_examples(folder, rows)
    write_order(folder)
    return folder, rows


def loader(made, **changes):
    settings = dict(
        length=LENGTH, rows=2, seed=3, packing=True, packing_bins=4, shared_prefixes=True
    )
    return loader_lib.make_loader(made[0], **{**settings, **changes})


def take(stream, count):
    found = list(itertools.islice(stream, count))
    stream.close()
    return found


def predictions(batches):
    """What is trained: how much each prediction weighs, and of how many samples it is one."""
    weights, trained = collections.Counter(), collections.Counter()
    for batch in batches:
        for row in range(len(batch["tokens"])):
            until = batch["visible_until"][row]
            for query in np.flatnonzero(batch["weights"][row]):
                path = [key for key in range(query + 1) if until[key] > query]
                assert batch["positions"][row][path].tolist() == list(range(len(path)))
                what = (*batch["tokens"][row][path].tolist(), int(batch["targets"][row][query]))
                weights[what] += float(batch["weights"][row][query])
                trained[what] += int(batch["trained"][row][query])
    return weights, trained


def in_samples(rows):
    weights, trained = collections.Counter(), collections.Counter()
    for row in rows:
        for at in np.flatnonzero(row.weights):
            weights[tuple(row.ids[: at + 1])] += row.weights[at]
            trained[tuple(row.ids[: at + 1])] += 1
    return weights, trained


def trees(made):
    return len(loader_lib.Trees(loader_lib.open_shards(made[0]), LENGTH))


def assert_same(left, right):
    for a, b in zip(left, right, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)


@pytest.mark.parametrize("fit", ["stream", "sorted"])
def test_one_pass_trains_each_target_of_the_samples_once(made, fit):
    batches = list(loader(made, repeat=False, packing_fit=fit))
    assert predictions(batches) == in_samples(made[1])
    names = ("tokens", "targets", "positions", "visible_until", "samples", "trained")
    for batch in batches:
        assert {name: batch[name].dtype.name for name in names} == dict.fromkeys(names, "int32")
        assert batch["weights"].dtype == np.float32
        assert all(values.shape == (2, LENGTH) for values in batch.values())
        padding = batch["visible_until"] == 0
        assert not batch["samples"][padding].any() and not batch["trained"][padding].any()


def test_every_epoch_trains_each_target_once_in_another_order(made):
    stream = loader(made, rows=1, packing_fit="sorted", packing_bins=2, prefetch=0)
    epoch = sum(len(row.ids) - 1 for row in made[1])
    rows, ends, samples = [], [], 0
    while samples < 4 * epoch:
        rows.append(next(stream))
        samples += int(rows[-1]["samples"].sum())
        if samples >= len(ends) * epoch:
            ends.append(len(rows))
    stream.close()
    once, often = in_samples(made[1])[1], predictions(rows)[1]
    epochs = {often[what] / count for what, count in once.items()}
    # The last window of the packer is cut off and may hold the end of an epoch and the next one's
    # beginning.
    assert epochs <= {3, 4, 5}
    first, second = (
        [row["tokens"].tobytes() for row in rows[a:b]] for a, b in itertools.pairwise(ends[:3])
    )
    assert first != second


@pytest.mark.parametrize("streams", [1, 2])
def test_hosts_train_disjoint_trees_of_an_epoch(made, streams):
    """One batch of as many rows as there are trees, each alone, is an epoch."""
    count = trees(made) // 2 * 2
    settings = dict(rows=count, streams=streams, prefetch=0)
    whole = take(loader(made, **settings), 3)
    hosts = [
        take(loader(made, own=own, **settings), 3)
        for own in (range(count // 2), range(count // 2, count))
    ]
    joined = [
        {name: np.concatenate([left[name], right[name]]) for name in left}
        for left, right in zip(*hosts, strict=True)
    ]
    assert_same(joined, whole)


@pytest.mark.parametrize("fit", ["stream", "sorted"])
def test_state_resumes_exactly_in_the_middle_of_trees(made, fit):
    settings = dict(rows=3, packing_fit=fit)
    whole = loader(made, **settings)
    for _ in range(4):
        next(whole)
    state = json.loads(json.dumps(whole.get_state()))
    expected = take(whole, 9)
    resumed = loader(made, **settings)
    next(resumed)
    resumed.set_state(state)
    assert_same(take(resumed, 9), expected)
    plain = loader(made, shared_prefixes=False, **settings)
    with pytest.raises(ValueError, match=r"shared_prefixes was \d+ and is 0"):
        plain.set_state(state)
    plain.close()


def test_the_report_counts_samples_and_what_is_computed(made):
    form = dict(length=LENGTH, seed=0, packing=True, packing_bins=8)
    plain = loader_lib.measure(made[0], **form)
    shared = loader_lib.measure(made[0], shared_prefixes=True, **form)
    for name in ("tokens", "trained_tokens", "trained_token_share"):
        assert shared[name] == plain[name]
    assert plain["computed_tokens"] == plain["tokens"] > 1.5 * shared["computed_tokens"]
    assert shared["fill"] == round(shared["computed_tokens"] / (shared["rows"] * LENGTH), 4)
    assert shared["rows"] < plain["rows"]


def test_without_packing_every_sample_has_a_row_of_its_own(made):
    found = loader_lib.measure(
        made[0], length=LENGTH, seed=0, packing=False, packing_bins=8, shared_prefixes=True
    )
    assert found["rows"] == len(made[1]) and found["computed_tokens"] == found["tokens"]


def test_a_sample_longer_than_a_row_is_named(made):
    longest = max(made[1], key=lambda row: len(row.ids))
    with pytest.raises(DataError, match=f"has {len(longest.ids) - 1} targets but a row holds 9"):
        loader(made, length=9)


def test_a_directory_without_its_order_says_what_to_do(tmp_path):
    write_examples(tmp_path / "x", [Example("a", [1, 2], [0.0, 1.0], {})])
    with pytest.raises(DataError, match="tl-jax prepare.*data.shared_prefixes"):
        loader((tmp_path / "x", []))
