"""Intervals hold the truth as often as they say; the paired test is exact."""

import math

import pytest
from scipy import stats

from tl_jax.evaluate.intervals import Share, mcnemar, wilson


@pytest.mark.parametrize("hits,count", [(0, 105), (1, 105), (97, 105), (105, 105), (3, 7)])
def test_a_share_has_the_score_interval(hits, count):
    known = stats.binomtest(hits, count).proportion_ci(0.95, "wilson")
    low, high = wilson(Share(hits, count))
    assert (low, high) == pytest.approx((100 * known.low, 100 * known.high), abs=1e-9)
    assert 0 <= low <= Share(hits, count).percent <= high <= 100 and low < high


def test_nothing_has_no_share():
    assert all(map(math.isnan, (Share(0, 0).percent, *wilson(Share(0, 0)))))


@pytest.mark.parametrize("p", [0.005, 0.01, 0.02, 0.5])
def test_the_interval_covers_rare_shares(p):
    covered = 0.0
    for hits in range(106):
        low, high = wilson(Share(hits, 105))
        if low <= 100 * p <= high:
            covered += stats.binom.pmf(hits, 105, p)
    assert covered >= 0.9  # the percentile bootstrap comes to 0.41 at 0.005


def test_the_paired_test_is_that_of_the_binomial_distribution():
    assert mcnemar(4, 0) == mcnemar(0, 4) == 0.125
    assert mcnemar(0, 0) == mcnemar(3, 3) == 1
    for better, worse in ((9, 1), (2, 7), (30, 12)):
        known = stats.binomtest(better, better + worse).pvalue
        assert mcnemar(better, worse) == pytest.approx(known)
