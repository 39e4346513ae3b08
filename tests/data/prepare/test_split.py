"""Held-out tasks and drawn trajectories depend on keys alone."""

import dataclasses

import pytest

from tl_jax.data.prepare.split import copies, is_validation, round_robin, sampled, task_key
from tl_jax.data.trajectory import Message


def asking(trajectory, query, **tags):
    messages = (Message("user", query), *trajectory.messages[1:])
    return dataclasses.replace(trajectory, messages=messages, tags=tags)


def test_equal_queries_fall_on_one_side(trajectory):
    rows = [asking(trajectory, f"query {number // 2}") for number in range(60)]
    sides = [is_validation(row, 0.3) for row in rows]
    assert sides[::2] == sides[1::2] and 0 < sum(sides) < 40
    assert not any(is_validation(row, 0.0) for row in rows)


def test_trajectories_of_a_task_share_its_key_whatever_is_asked(trajectory):
    same = {task_key(asking(trajectory, query, task="banking/7")) for query in ("a", "b")}
    assert len(same) == 1
    assert task_key(asking(trajectory, "a", task="banking/8")) not in same
    assert task_key(asking(trajectory, "task banking/7")) not in same


def test_case_and_blanks_of_a_query_do_not_matter(trajectory):
    assert task_key(asking(trajectory, " Find \n IT")) == task_key(asking(trajectory, "find it"))


@pytest.mark.parametrize("weight", [0.25, 1.0, 1.5, 3.0])
def test_a_weight_is_the_mean_number_of_copies(weight):
    taken = [copies(weight, f"0 0 {number}") for number in range(4000)]
    assert set(taken) <= {int(weight), int(weight) + 1}
    assert sum(taken) / 4000 == pytest.approx(weight, abs=0.03)
    assert taken == [copies(weight, f"0 0 {number}") for number in range(4000)]


def test_a_sample_keeps_the_order_and_depends_on_its_key():
    first, again, other = (list(sampled(range(200), 20, key)) for key in ("a", "a", "b"))
    assert first == again == sorted(first) != other and len(first) == 20


def test_parts_take_turns_until_all_are_used_up():
    assert list(round_robin([[1, 2, 3], [], [4]])) == [1, 4, 2, 3]
