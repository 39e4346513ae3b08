"""The loader loses nothing, packs tightly, reshuffles, and resumes exactly."""

import collections
import json

import numpy as np
import pytest

from tl_jax.data.examples import shards
from tl_jax.data.examples.build import Example
from tl_jax.data.examples.record import pack_example
from tl_jax.data.loader import loader as loader_lib
from tl_jax.errors import DataError

LENGTH = 64


def write_examples(path, count=90, seed=0, longest=40):
    """Write examples whose targets are all different numbers, weight = target / 1000."""
    rng = np.random.default_rng(seed)
    start = 1
    rows = []
    for number in range(count):
        size = int(rng.integers(2, longest))
        ids = list(range(start, start + size))
        start += size
        weights = [0.0] + [i / 1000 if i % 3 else 0.0 for i in ids[1:]]
        rows.append({"id": f"e{number}", "ids": ids, "weights": weights, "tags": {}})
    write(path, rows)
    return rows


def write(path, rows):
    shards.write_examples(path, [Example(**row) for row in rows])


def loader(path, **changes):
    settings = dict(length=LENGTH, rows=4, seed=3, packing=True, packing_bins=8)
    return loader_lib.make_loader(path, **{**settings, **changes})


def take(iterator, count):
    return [next(iterator) for _ in range(count)]


def targets_of(batches):
    found = collections.Counter()
    for batch in batches:
        real = batch["visible_until"] > 0
        found.update(
            zip(batch["targets"][real].tolist(), batch["weights"][real].tolist(), strict=True)
        )
    return found


def targets_in(rows):
    return collections.Counter(
        (target, float(np.float32(weight)))
        for row in rows
        for target, weight in zip(row["ids"][1:], row["weights"][1:], strict=True)
    )


def assert_same(left, right):
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)


FORMS = [{"packing": False}, {"packing_fit": "stream"}, {"packing_fit": "sorted"}]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_one_pass_trains_exactly_the_targets_of_the_file(tmp_path, form):
    rows = write_examples(tmp_path / "x")
    batches = list(loader(tmp_path / "x", repeat=False, **form))
    assert targets_of(batches) == targets_in(rows)
    for batch in batches:
        assert {key: value.dtype.name for key, value in batch.items()} == {
            "tokens": "int32",
            "targets": "int32",
            "weights": "float32",
            "positions": "int32",
            "visible_until": "int32",
        }
        assert all(value.shape == (4, LENGTH) for value in batch.values())
        padding = batch["visible_until"] == 0
        assert not batch["weights"][padding].any() and not batch["tokens"][padding].any()


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_rows_keep_tokens_targets_and_positions_of_each_segment_together(tmp_path, form):
    rows = {row["ids"][0]: row["ids"] for row in write_examples(tmp_path / "x")}
    for batch in loader(tmp_path / "x", repeat=False, **form):
        for r in range(4):
            for end in np.unique(batch["visible_until"][r])[1:]:
                where = batch["visible_until"][r] == end
                ids = rows[int(batch["tokens"][r][where][0])]
                assert batch["tokens"][r][where].tolist() == ids[:-1]
                assert batch["targets"][r][where].tolist() == ids[1:]
                assert batch["positions"][r][where].tolist() == list(range(len(ids) - 1))


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_hosts_share_one_pass_without_loss_and_agree_on_the_batch_count(tmp_path, form):
    rows = write_examples(tmp_path / "x", count=37)
    hosts = [
        list(loader(tmp_path / "x", repeat=False, own=own, **form)) for own in ([0], [1, 2], [3])
    ]
    assert len({len(batches) for batches in hosts}) == 1
    assert targets_of(sum(hosts, [])) == targets_in(rows)


def test_endless_stream_covers_every_example_once_per_epoch_in_new_orders(tmp_path):
    rows = write_examples(tmp_path / "x", count=24)
    stream = loader(tmp_path / "x", packing=False)
    epochs = [take(stream, 6) for _ in range(3)]
    orders = [np.concatenate([batch["tokens"][:, 0] for batch in epoch]) for epoch in epochs]
    for epoch in epochs:
        assert targets_of(epoch) == targets_in(rows)
    assert not np.array_equal(orders[0], orders[1]) and not np.array_equal(orders[1], orders[2])
    other = loader(tmp_path / "x", packing=False, seed=4)
    assert not np.array_equal(
        orders[0], np.concatenate([b["tokens"][:, 0] for b in take(other, 6)])
    )
    stream.close()
    other.close()


def hosts_of(path, count, **changes):
    """Open the loaders of ``count`` hosts that share eight rows."""
    parts = np.split(np.arange(8), count)
    return [loader(path, rows=8, own=own, **changes) for own in parts]


def global_batches(hosts, count):
    """Take batches of all hosts and put their rows together."""
    parts = [take(host, count) for host in hosts]
    return [
        {key: np.concatenate([batch[key] for batch in found]) for key in found[0]}
        for found in zip(*parts, strict=True)
    ]


@pytest.mark.parametrize("streams", [1, 2, 4])
def test_training_hosts_read_disjoint_examples_of_an_epoch(tmp_path, streams):
    rows = write_examples(tmp_path / "x", count=24)
    for count in (2, 4):
        hosts = hosts_of(tmp_path / "x", count, packing=False, streams=streams)
        assert targets_of(global_batches(hosts, 3)) == targets_in(rows)


@pytest.mark.parametrize("fit", ["stream", "sorted"])
@pytest.mark.parametrize("streams", [1, 2, 4])
def test_any_number_of_hosts_makes_the_same_batches_and_goes_on_from_the_others(
    tmp_path, streams, fit
):
    write_examples(tmp_path / "x")
    settings = dict(streams=streams, packing_fit=fit, packing_bins=3, prefetch=0)
    (alone,) = hosts_of(tmp_path / "x", 1, **settings)
    begin, end = take(alone, 3), take(alone, 3)
    for before, after in ((2, 4), (4, 1), (1, 2)):
        hosts = hosts_of(tmp_path / "x", before, **settings)
        assert_same(global_batches(hosts, 3), begin)
        saved = {}
        for host in hosts:
            saved |= json.loads(json.dumps(host.get_state()))
        hosts = hosts_of(tmp_path / "x", after, **settings)
        for host in hosts:
            host.set_state(saved)
        assert_same(global_batches(hosts, 3), end)


def test_a_host_opens_only_the_streams_of_its_rows(tmp_path):
    write_examples(tmp_path / "x")
    opened = [len(h.get_state()) for h in hosts_of(tmp_path / "x", 4, streams=4)]
    assert opened == [1, 1, 1, 1]
    opened = [len(h.get_state()) for h in hosts_of(tmp_path / "x", 4, streams=2)]
    assert opened == [1, 1, 1, 1]
    opened = [len(h.get_state()) for h in hosts_of(tmp_path / "x", 2, streams=8)]
    assert opened == [4, 4]
    with pytest.raises(ValueError, match="batch_size 4 is not divisible by config.data.streams 3"):
        loader(tmp_path / "x", streams=3)


@pytest.mark.parametrize("fit", ["stream", "sorted"])
@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("taken", [0, 1, 3, 7])
def test_state_resumes_exactly_in_the_middle_of_a_packing_window(tmp_path, taken, prefetch, fit):
    # 8 bins and batches of 3 rows: batch borders never coincide with window borders.
    write_examples(tmp_path / "x")
    settings = dict(rows=3, prefetch=prefetch, packing_fit=fit)
    whole = loader(tmp_path / "x", **settings)
    take(whole, taken)
    state = json.loads(json.dumps(whole.get_state()))
    expected = take(whole, 9)
    resumed = loader(tmp_path / "x", **settings)
    next(resumed)
    resumed.set_state(state)
    assert_same(take(resumed, 9), expected)
    whole.close()
    resumed.close()


def test_state_of_another_file_or_setting_is_refused_by_name(tmp_path):
    write_examples(tmp_path / "x")
    write_examples(tmp_path / "y", seed=1)
    state = loader(tmp_path / "x").get_state()
    with pytest.raises(ValueError, match="source was"):
        loader(tmp_path / "y").set_state(state)
    with pytest.raises(ValueError, match="seed was 3 and is 4"):
        loader(tmp_path / "x", seed=4).set_state(state)
    with pytest.raises(ValueError, match="holds stream_0-of-1 and not stream_0-of-2"):
        loader(tmp_path / "x", streams=2).set_state(state)


def test_packing_fills_rows(tmp_path):
    write_examples(tmp_path / "x", count=400)
    stream = loader(tmp_path / "x", packing_bins=64, rows=64)
    batch = next(stream)
    stream.close()
    assert (batch["visible_until"] > 0).mean() > 0.95


def test_sorting_fills_rows_of_long_examples_where_the_stream_leaves_gaps(tmp_path):
    write_examples(tmp_path / "x", count=600, longest=50)
    form = dict(length=LENGTH, seed=0, packing=True, packing_bins=32)
    stream, ordered = (
        loader_lib.measure(tmp_path / "x", packing_fit=fit, **form) for fit in ("stream", "sorted")
    )
    assert ordered["fill"] > 0.96 > stream["fill"]
    assert ordered["tokens"] == stream["tokens"]


def test_sorted_windows_come_in_an_order_of_their_own_each_epoch(tmp_path):
    write_examples(tmp_path / "x", count=60)
    stream = loader(tmp_path / "x", packing_fit="sorted", packing_bins=4, rows=1)
    counts = [len(np.unique(batch["visible_until"])) for batch in take(stream, 40)]
    stream.close()
    assert counts != sorted(counts)


@pytest.mark.parametrize("packing", [True, False])
def test_the_report_counts_what_one_pass_gives(tmp_path, packing):
    rows = write_examples(tmp_path / "x")
    found = loader_lib.measure(
        tmp_path / "x", length=LENGTH, seed=0, packing=packing, packing_bins=8
    )
    assert found["tokens"] == sum(len(row["ids"]) - 1 for row in rows) and found["complete"]
    assert found["trained_tokens"] == sum(w > 0 for row in rows for w in row["weights"])
    assert found["fill"] == round(found["tokens"] / (found["rows"] * LENGTH), 4)
    assert packing or found["rows"] == len(rows)


def test_the_report_of_a_long_epoch_says_that_it_is_a_part(tmp_path):
    write_examples(tmp_path / "x")
    form = dict(length=LENGTH, seed=0, packing=True, packing_bins=8)
    whole = loader_lib.measure(tmp_path / "x", **form)
    assert loader_lib.measure(tmp_path / "x", most_rows=whole["rows"], **form) == whole
    part = loader_lib.measure(tmp_path / "x", most_rows=3, **form)
    assert part["rows"] == 3 and not part["complete"] and part["tokens"] < whole["tokens"]


@pytest.mark.parametrize("packing", [True, False])
def test_an_example_longer_than_a_row_is_named(tmp_path, packing):
    path = tmp_path / "x"
    write(path, [{"id": "big", "ids": [1] * 66, "weights": [0.0] * 66, "tags": {}}])
    with pytest.raises(ValueError, match="'big' has 65 targets but a row holds 64"):
        next(loader(path, packing=packing))


def test_a_row_of_exactly_the_length_fits(tmp_path):
    path = tmp_path / "x"
    write(path, [{"id": "full", "ids": [1] * 65, "weights": [1.0] * 65, "tags": {}}])
    assert (next(loader(path, rows=1))["visible_until"] > 0).all()


@pytest.mark.parametrize(
    "row, message",
    [
        ({"id": "c", "ids": [1], "weights": [0.0]}, "'c' needs two or more ids"),
        ({"id": "d", "ids": [1, 2], "weights": [0.0, float("nan")]}, "'d' has a weight"),
        ({"id": "e", "ids": [1, 2], "weights": [0.0, -1.0]}, "'e' has a weight"),
    ],
)
def test_malformed_examples_are_named(tmp_path, row, message):
    write(tmp_path / "x", [{**row, "tags": {}}])
    with pytest.raises(ValueError, match=message):
        next(loader(tmp_path / "x"))


def test_an_empty_or_missing_directory_says_how_to_make_it(tmp_path):
    write(tmp_path / "x", [])
    with pytest.raises(ValueError, match="holds no examples.*tl-jax prepare"):
        loader(tmp_path / "x")
    with pytest.raises(DataError, match="tl-jax prepare"):
        loader(tmp_path / "y")


def test_files_of_any_number_give_the_same_rows_and_no_json_is_parsed(tmp_path, monkeypatch):
    rows = write_examples(tmp_path / "x", count=40)
    parts = tmp_path / "parts"
    parts.mkdir()
    packed = [pack_example(Example(**row)) for row in rows]
    found = [
        shards.write_shard(parts / shards.shard_name(n), packed[n * 9 : n * 9 + 9])
        for n in range(5)
    ]
    shards.write_index(parts, found)
    whole, cut = loader(tmp_path / "x"), loader(parts)
    monkeypatch.setattr(json, "loads", None)
    assert_same(take(cut, 9), take(whole, 9))
