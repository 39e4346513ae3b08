"""What a suite does not score stands in its result."""

import pytest

from tl_jax.evaluate.results import scored
from tl_jax.evaluate.suites import SUITES

UNSCORED = {
    "bfcl": ("Java", "web search", "4 of the 2,351"),
    "bfcl/executable": ("nothing is executed",),
    "bfcl/multi_turn": ("gold calls of the turns before", "not comparable"),
    "acebench": ("50 agent items", "no numbers"),
    "tooleyes": ("CE and VA",),
}


@pytest.mark.parametrize("name", UNSCORED)
def test_a_result_says_what_is_not_scored(name):
    note = scored(SUITES[name], [], [], [])["note"]
    assert [part for part in UNSCORED[name] if part not in note] == []


def test_a_suite_that_scores_all_says_nothing():
    assert "note" not in scored(SUITES["rotbench"], [], [], [])
