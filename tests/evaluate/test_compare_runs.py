"""Gains are differences on the same tasks; their intervals are those of pairs and of runs."""

import math

import pytest

from tl_jax.evaluate.compare_runs import mean_gains, paired_gains, t_reach


def replies(cf, *, name="toy", ts=None, **more):
    """Records of which those with a 1 in ``cf`` are right; names are right where ``ts`` says so."""
    found = []
    for number, right in enumerate(cf):
        tool = right if ts is None else ts[number]
        record = {"set": name, "prompt_id": f"{name}-{number}", "ts": bool(tool)}
        found.append(record | {"pi": bool(right), "cf": bool(right)} | more)
    return found


def test_a_gain_is_the_difference_on_the_same_tasks():
    entry = paired_gains(replies([1, 0, 0, 0], ts=[1, 1, 1, 1]), replies([1, 1, 1, 0]))["toy"]
    assert entry["items"] == 4
    assert (entry["cf"]["before"], entry["cf"]["after"], entry["cf"]["gain"]) == (25, 75, 50)
    assert entry["ts"]["gain"] == -25
    assert entry["cf"]["low"] <= 50 <= entry["cf"]["high"]


def test_tasks_that_stay_as_they_were_leave_no_uncertainty():
    same = replies([1, 0] * 20)
    entry = paired_gains(same, same)["toy"]
    assert (entry["cf"]["gain"], entry["cf"]["low"], entry["cf"]["high"]) == (0, 0, 0)
    half = paired_gains(replies([0] * 40), replies([1, 0] * 20))["toy"]["cf"]
    assert 30 < half["low"] < 40 and 60 < half["high"] < 70


def test_groups_are_compared_apart():
    before = replies([0, 0], group="a") + [r | {"group": "b"} for r in replies([1], name="toy")]
    after = replies([1, 0], group="a") + [r | {"group": "b"} for r in replies([1], name="toy")]
    entry = paired_gains(before, after)["toy"]
    assert entry["items"] == 3 and entry["groups"]["a"]["items"] == 2
    assert entry["groups"]["a"]["cf"]["gain"] == 50 and entry["groups"]["b"]["cf"]["gain"] == 0


@pytest.mark.parametrize("after", [replies([1]), replies([1, 1], name="other"), replies([1, 1, 1])])
def test_other_tasks_are_refused(after):
    with pytest.raises(ValueError, match="not scored on the same tasks"):
        paired_gains(replies([1, 1]), after)


def test_the_mean_over_runs_has_a_t_interval():
    assert t_reach([10, 12, 14]) == pytest.approx(4.302653 * 2 / math.sqrt(3), rel=1e-5)
    runs = [paired_gains(replies([0] * 10), replies([1] * n + [0] * (10 - n))) for n in (4, 5, 6)]
    entry = mean_gains(runs)["toy"]
    assert entry["items"] == 30 and entry["cf"]["gain"] == pytest.approx(50)
    assert entry["cf"]["high"] - entry["cf"]["gain"] == pytest.approx(t_reach([40, 50, 60]))
    assert entry["cf"]["gain"] - entry["cf"]["low"] == pytest.approx(t_reach([40, 50, 60]))
    assert mean_gains(runs[:1]) == runs[0]


def test_a_set_that_some_runs_lack_has_no_mean():
    both = paired_gains(
        replies([1]) + replies([1], name="more"), replies([1]) * 1 + replies([1], name="more")
    )
    assert mean_gains([both, paired_gains(replies([1]), replies([1]))]).keys() == {"toy"}
