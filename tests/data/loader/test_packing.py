"""Packing loses no item, overfills no row, and needs few rows."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tl_jax.data.loader.packing import make_row, sorted_fit


@given(st.lists(st.integers(1, 50), max_size=80))
def test_every_item_is_in_one_row_and_no_row_overflows(lengths):
    rows = sorted_fit(lengths, 50)
    assert sorted(item for row in rows for item in row) == list(range(len(lengths)))
    assert all(sum(lengths[item] for item in row) <= 50 for row in rows)
    # Two rows that are half empty would be one.
    assert sum(sum(lengths[item] for item in row) <= 25 for row in rows) <= 1


def test_long_items_are_completed_by_those_that_fit_best():
    assert sorted_fit([3, 9, 7, 1], 10) == [[1, 3], [2, 0]]


def test_a_row_restarts_positions_and_hides_each_example_from_the_next():
    parts = [
        {name: np.array(values, np.int32) for name in ("tokens", "targets", "weights")}
        for values in ([5, 6, 7], [8])
    ]
    row = make_row(parts, 6)
    assert row["tokens"].tolist() == [5, 6, 7, 8, 0, 0]
    assert row["positions"].tolist() == [0, 1, 2, 0, 0, 0]
    assert row["visible_until"].tolist() == [3, 3, 3, 4, 0, 0]
