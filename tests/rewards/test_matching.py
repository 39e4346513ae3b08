"""The best matching is the best of all matchings."""

import itertools
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.rewards.matching import best_assignment

TABLES = st.integers(0, 5).flatmap(
    lambda columns: st.lists(
        st.lists(
            st.sampled_from([1.0, -0.25, -0.5, -2.0]) | st.floats(-2, 1),
            min_size=columns,
            max_size=columns,
        ),
        max_size=columns,
    )
)


@settings(max_examples=300, deadline=None)
@given(TABLES)
def test_no_other_assignment_has_a_greater_sum(values):
    columns = best_assignment(values)
    assert len(columns) == len(set(columns)) == len(values)
    total = sum(row[column] for row, column in zip(values, columns, strict=True))
    width = len(values[0]) if values else 0
    every = itertools.permutations(range(width), len(values))
    best = max(sum(row[c] for row, c in zip(values, some, strict=True)) for some in every)
    assert total == pytest.approx(best, abs=1e-9)


def test_more_rows_than_columns_are_refused():
    with pytest.raises(ValueError, match="2 rows cannot each have one of 1 columns"):
        best_assignment([[1.0], [1.0]])


def test_many_rows_take_little_time():
    values = [[float((row * column) % 7) for column in range(64)] for row in range(64)]
    start = time.process_time()
    assert sorted(best_assignment(values)) == list(range(64))
    assert time.process_time() - start < 2
