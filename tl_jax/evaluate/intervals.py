"""Intervals of shares, and the exact test whether two systems differ on the same items."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy import special

_Z = 1.959963984540054
"""The normal quantile of a two-sided 95 % interval."""


@dataclasses.dataclass(frozen=True)
class Share:
    """How many of a number of things are so.

    Attributes:
      hits: Those that are.
      count: All.
    """

    hits: int
    count: int

    @property
    def percent(self) -> float:
        """The share in percent; NaN of nothing."""
        return 100 * self.hits / self.count if self.count else math.nan


def wilson(share: Share) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a share, in percent; NaN of nothing.

    At shares near 0 or 1 a percentile bootstrap is far too narrow: of 0 in 105 it says 0 to 0.

    Source: E. B. Wilson, Probable inference and statistical inference, 1927.
    """
    n = share.count
    if not n:
        return math.nan, math.nan
    p, z2 = share.hits / n, _Z * _Z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    reach = _Z * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # At 0 and 1 the bound itself is exact; rounding must not leave it.
    low = 0.0 if share.hits == 0 else centre - reach
    high = 1.0 if share.hits == n else centre + reach
    return 100 * low, 100 * high


def mcnemar(better: int, worse: int) -> float:
    """Return the two-sided p of the exact McNemar test.

    Args:
      better: Items that only the second system has right.
      worse: Items that only the first has right.

    Source: the binomial form of Q. McNemar, 1947; with 4 better and 0 worse p is 0.125.
    """
    pairs = better + worse
    if not pairs:
        return 1.0
    tail = float(special.bdtr(min(better, worse), pairs, 0.5))
    return min(1.0, 2 * tail)


def t_reach(values: Sequence[float]) -> float:
    """Return half the width of the 95 % t interval of a mean of two or more values."""
    count = len(values)
    quantile = float(special.stdtrit(count - 1, 0.975))
    return quantile * float(np.std(values, ddof=1)) / math.sqrt(count)
