"""Copies are found, near ones by their words, and different dialogues are left alone."""

import dataclasses
import random

import pytest

from tl_jax.calls.call import ToolCall
from tl_jax.data.prepare.dedup import Duplicates
from tl_jax.data.trajectory import Message

WORDS = [f"word{number}" for number in range(500)]


def saying(trajectory, words, line=0, **changes):
    messages = (Message("user", " ".join(words)), trajectory.messages[-1])
    return dataclasses.replace(trajectory, messages=messages, line=line, id=f"t{line}", **changes)


def find(duplicates, trajectory):
    return duplicates.find(trajectory, ("made.jsonl", trajectory.line, trajectory.id))


def drawn(seed, count=120):
    return random.Random(seed).choices(WORDS, k=count)


def test_blanks_do_not_make_a_new_dialogue(trajectory):
    duplicates = Duplicates(near=False)
    assert find(duplicates, saying(trajectory, ["Hello,", "there!"], line=4)) is None
    found = find(duplicates, saying(trajectory, ["Hello,", "\n there! "], line=5))
    assert (found.kind, found.of, found.similarity) == ("exact", ("made.jsonl", 4, "t4"), 1.0)


@pytest.mark.parametrize(
    "one, other", [("write C", "write C++"), ("move 5", "move -5"), ("2 > 1", "2 < 1"), ("a", "A")]
)
def test_signs_and_case_make_another_dialogue_but_no_other_words(trajectory, one, other):
    for near, expected in ((False, None), (True, "near")):
        duplicates = Duplicates(near)
        assert find(duplicates, saying(trajectory, [one])) is None
        found = find(duplicates, saying(trajectory, [other]))
        assert (found and found.kind) == expected


@pytest.mark.parametrize("near, expected", [(False, None), (True, "near")])
def test_other_tools_make_another_example_of_the_same_dialogue(trajectory, near, expected):
    duplicates = Duplicates(near)
    words = drawn(0)
    find(duplicates, saying(trajectory, words))
    found = find(duplicates, saying(trajectory, words, tools=trajectory.tools[1:]))
    assert (found and found.kind) == expected


def test_other_arguments_make_another_dialogue(trajectory):
    duplicates = Duplicates(near=False)
    for query in ("love", "hate", 5, -5, "5", [5]):
        turn = Message("assistant", "", (ToolCall("search_advice", {"query": query}),))
        messages = (trajectory.messages[0], turn)
        assert find(duplicates, dataclasses.replace(trajectory, messages=messages)) is None


def test_a_few_changed_words_are_near_many_are_not(trajectory):
    duplicates = Duplicates(near=True)
    words = drawn(0, 400)
    find(duplicates, saying(trajectory, words, line=1))
    few, many = list(words), list(words)
    few[10] = few[300] = "other"
    many[::6] = drawn(1, len(many[::6]))
    found = find(duplicates, saying(trajectory, few, line=2))
    assert found.kind == "near" and found.of[1] == 1 and found.similarity > 0.85
    assert find(duplicates, saying(trajectory, many, line=3)) is None


def test_different_dialogues_and_short_ones_stay(trajectory):
    duplicates = Duplicates(near=True)
    rows = [saying(trajectory, drawn(seed), line=seed) for seed in range(1300)]
    assert not any(find(duplicates, row) for row in rows)  # the signatures grow on the way
    assert find(duplicates, saying(trajectory, ["hi"])) is None
    assert find(duplicates, rows[1200]).of == ("made.jsonl", 1200, "t1200")


def test_the_similarity_is_that_of_the_word_runs(trajectory):
    words = drawn(0, 1000)
    for changed in (4, 8, 12):
        duplicates = Duplicates(near=True)
        find(duplicates, saying(trajectory, words))
        other = list(words)
        for location in range(0, 10 * changed, 10):
            other[location + 5] = "changed"
        found = find(duplicates, saying(trajectory, other))
        true = (1000 - 5 * changed) / (1000 + 5 * changed)
        assert found.similarity == pytest.approx(true, abs=0.12)
