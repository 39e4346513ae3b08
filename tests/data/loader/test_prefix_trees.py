"""A tree unfolds to exactly its samples, holds nothing twice, and is cut where little is shared."""

import collections
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.data.loader.prefix_trees import cut, merge

TOKEN = st.tuples(st.integers(0, 1), st.sampled_from([0, 0, 1, 2]))
SAMPLES = st.lists(st.lists(TOKEN, min_size=2, max_size=6), min_size=1, max_size=6)


def merged(samples):
    ids = [np.array([i for i, _ in sample], np.int32) for sample in samples]
    weights = [np.array([w for _, w in sample], np.float32) for sample in samples]
    return merge(ids, weights)


def paths_of(tree):
    """The entries that each entry sees, itself last."""
    until = tree["visible_until"]
    return [[key for key in range(query + 1) if until[key] > query] for query in range(len(until))]


def unfolded(tree):
    """How many samples have which inputs, and what each prediction weighs and how often it is."""
    inputs, weights, trained = (collections.Counter() for _ in range(3))
    for entry, path in enumerate(paths_of(tree)):
        assert tree["positions"][path].tolist() == list(range(len(path)))
        before = tuple(tree["tokens"][path].tolist())
        inputs[before] += int(tree["samples"][entry])
        if path[:-1]:  # what goes on here does not end one token earlier
            inputs[before[:-1]] -= int(tree["samples"][entry])
        prediction = before, int(tree["targets"][entry])
        if tree["weights"][entry]:
            weights[prediction] += float(tree["weights"][entry])
        if tree["trained"][entry]:
            trained[prediction] += int(tree["trained"][entry])
    return {key: count for key, count in inputs.items() if count}, weights, trained


def counted(samples):
    """The same of samples that share nothing."""
    inputs, weights, trained = (collections.Counter() for _ in range(3))
    for sample in samples:
        ids = [i for i, _ in sample]
        inputs[tuple(ids[:-1])] += 1
        for at, (target, weight) in enumerate(sample):
            if at and weight:
                weights[tuple(ids[:at]), target] += weight
                trained[tuple(ids[:at]), target] += 1
    return inputs, weights, trained


def fewest_entries(samples):
    """Every beginning once, but once for each of its trained targets if these are more."""
    beginnings = {tuple(i for i, _ in s[:at]) for s in samples for at in range(1, len(s))}
    targets = collections.Counter(before for before, _ in counted(samples)[1])
    return sum(max(1, targets[before]) for before in beginnings)


@settings(max_examples=40)
@given(SAMPLES)
def test_a_tree_unfolds_to_exactly_its_samples_and_their_weights(samples):
    assert unfolded(merged(samples)) == counted(samples)
    assert unfolded(merged(sorted(samples))) == counted(samples)


@settings(max_examples=40)
@given(SAMPLES)
def test_sorted_samples_are_computed_no_more_often_than_their_predictions_need(samples):
    samples.sort(key=lambda sample: [i for i, _ in sample])
    assert len(merged(samples)["tokens"]) == fewest_entries(samples)


def test_only_a_trained_prediction_repeats_the_last_shared_token():
    shared = [(7, 0), (8, 1)]
    two = [*shared, (1, 1), (2, 1)], [*shared, (3, 2), (4, 2)]
    tree = merged(two)
    assert tree["tokens"].tolist() == [7, 8, 1, 8, 3]
    assert tree["targets"].tolist() == [8, 1, 2, 3, 4]
    assert tree["weights"].tolist() == [2, 1, 1, 2, 2]
    assert tree["positions"].tolist() == [0, 1, 2, 1, 2]
    assert tree["visible_until"].tolist() == [5, 3, 3, 5, 5]
    assert tree["samples"].tolist() == [2, 1, 1, 1, 1]
    assert tree["trained"].tolist() == [2, 1, 1, 1, 1]
    half = merged([[*shared, (1, 0), (2, 1)], two[1]])
    assert half["tokens"].tolist() == [7, 8, 1, 3]
    assert half["targets"].tolist() == [8, 3, 2, 4]
    assert half["visible_until"].tolist() == [4, 4, 3, 4]
    assert half["samples"].tolist() == [2, 2, 1, 1]


def test_whole_prefixes_equal_samples_and_single_tokens_are_trees():
    long = [(5, 0), (6, 2), (7, 1), (8, 4)]
    tree = merged([long[:2], long[:3], long, long])
    assert tree["tokens"].tolist() == [5, 6, 7]
    assert tree["weights"].tolist() == [8, 3, 8]
    assert tree["samples"].tolist() == [4, 3, 2] and tree["visible_until"].tolist() == [3, 3, 3]
    assert merged([long[:2]])["visible_until"].tolist() == [1]


SORTED = st.lists(st.tuples(st.integers(3, 9), st.integers(2, 9)), min_size=1, max_size=7)


@settings(max_examples=40)
@given(SORTED, st.integers(8, 30), st.integers(1, 5))
def test_trees_fit_rows_hold_every_sample_once_and_take_the_fewest_places(samples, capacity, most):
    lengths = np.array([length for length, _ in samples])
    shared = np.minimum([s for _, s in samples], np.minimum(lengths, np.roll(lengths, 1)))
    shared[0] = 0

    def places(starts):
        total = 0
        for start, end in itertools.pairwise(starts):
            new = np.minimum(lengths - 1, lengths - shared)[start + 1 : end]
            size = lengths[start] - 1 + new.sum()
            if size > capacity or end - start > most:
                return np.inf
            total += size if size <= capacity // 2 else capacity
        return total

    count = len(samples)
    ways = (
        (0, *cuts, count)
        for number in range(count)
        for cuts in itertools.combinations(range(1, count), number)
    )
    starts = cut(lengths, shared, capacity, most)
    assert starts[0] == 0 and starts[-1] == count
    assert places(starts) == min(map(places, ways)) < np.inf


@pytest.mark.parametrize(
    "capacity, starts",
    [(84, [0, 4, 6, 7]), (41, [0, 4, 5, 6, 7]), (30, [0, 2, 4, 6, 7]), (19, list(range(8)))],
)
def test_rows_are_cut_where_samples_have_least_in_common(capacity, starts):
    # The last one has nothing in common with others and stays alone.
    lengths, shared = np.full(7, 20), np.array([0, 15, 8, 15, 0, 15, 0])
    assert cut(lengths, shared, capacity).tolist() == starts
