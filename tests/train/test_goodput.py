"""Seconds add up by cause and over restarts, and the slowest host is named."""

import logging
import types

import pytest

from tl_jax.train import goodput
from tl_jax.train.goodput import CAUSES, Times


@pytest.fixture
def clock(monkeypatch):
    clock = types.SimpleNamespace(now=0.0)
    monkeypatch.setattr(goodput, "time", types.SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def worked(clock, before=None, newest=None):
    """Times of 5 s restored, 20 s compiled, then 3 steps of 10 s and what is between them."""
    times = Times(before or {}, newest or {}, clock.now)
    clock.now += 5
    times.switch("compile")
    clock.now += 20
    times.switch("step")
    for cause in ("data", "save", "evaluation"):
        clock.now += 10
        with times.during(cause, own=cause == "data"):
            clock.now += 2
        times.step()
    return times


def test_every_second_has_one_cause(clock):
    row = worked(clock).row()
    expected = {"step": 30, "compile": 20, "data": 2, "save": 2, "evaluation": 2, "restore": 5}
    assert {cause: row[f"seconds/{cause}"] for cause in CAUSES} == {**expected, "lost": 0}
    assert row["goodput"] == pytest.approx(30 / clock.now)


def test_restarts_add_up_and_what_is_done_again_is_lost(clock):
    saved = worked(clock).row()
    newest = worked(clock, saved).row()  # killed after this row; the state is that of ``saved``
    row = worked(clock, saved, newest).row()
    once = sum(saved[f"seconds/{cause}"] for cause in CAUSES)
    assert row["seconds/lost"] == pytest.approx(once)
    assert row["seconds/step"] == 60
    assert sum(row[f"seconds/{cause}"] for cause in CAUSES) == pytest.approx(3 * once) == clock.now
    assert row["goodput"] == pytest.approx(60 / (3 * once))


def test_the_host_that_the_others_wait_for_is_named(clock, monkeypatch, caplog):
    times = worked(clock)
    asked = []

    def join_parts(part):
        asked.extend(part)
        return [1.0, *part, 1.2]

    monkeypatch.setattr(goodput.processes, "join_parts", join_parts)
    with caplog.at_level(logging.WARNING):
        found = times.hosts()
    # 30 s of steps and 2 s of waiting for data; to save and to evaluate is no part of it.
    assert asked == [pytest.approx(32 / 3)]
    assert found == {"host_slowest": 1, "host_slowest_s": 10.6667, "host_median_s": 1.2}
    assert "process 1 takes 10.7 s for its part of a step, the median of all 3" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING), times.waiting():
        clock.now += 3
    times.step()
    assert times.hosts()["host_slowest"] == 2 and not caplog.text


def test_one_host_is_compared_with_nobody(clock):
    assert worked(clock).hosts() == {}
