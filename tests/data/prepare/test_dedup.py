"""Copies are found, near ones by their words, and different dialogues are left alone."""

import dataclasses
import random

import numpy as np
import pytest

from tl_jax.calls.call import ToolCall
from tl_jax.data.prepare.dedup import Signer, band_keys, find_duplicates
from tl_jax.data.trajectory import Message

WORDS = [f"word{number}" for number in range(500)]


def saying(trajectory, words, line=0, **changes):
    messages = (Message("user", " ".join(words)), trajectory.messages[-1])
    return dataclasses.replace(trajectory, messages=messages, line=line, id=f"t{line}", **changes)


def duplicates(near, *trajectories):
    """Return what each trajectory is a duplicate of, in their order."""
    digests, signatures = Signer(near).sign(trajectories)
    keys = band_keys(signatures) if near else np.zeros((len(digests), 0), np.uint64)
    found = {same.number: same for same in find_duplicates(digests, keys, signatures.__getitem__)}
    return [found.get(number) for number in range(len(trajectories))]


def drawn(seed, count=120):
    return random.Random(seed).choices(WORDS, k=count)


def test_blanks_do_not_make_a_new_dialogue(trajectory):
    texts = (["Hello,", "there!"], ["Bye"], ["Hello,", "\n there! "])
    first, other, found = duplicates(False, *(saying(trajectory, text) for text in texts))
    assert first is other is None
    assert (found.kind, found.of, found.similarity) == ("exact", 0, 1.0)


@pytest.mark.parametrize(
    "one, other", [("write C", "write C++"), ("move 5", "move -5"), ("2 > 1", "2 < 1"), ("a", "A")]
)
def test_signs_and_case_make_another_dialogue_but_no_other_words(trajectory, one, other):
    for near, expected in ((False, None), (True, "near")):
        _, found = duplicates(near, saying(trajectory, [one]), saying(trajectory, [other]))
        assert (found and found.kind) == expected


@pytest.mark.parametrize("near, expected", [(False, None), (True, "near")])
def test_other_tools_make_another_example_of_the_same_dialogue(trajectory, near, expected):
    one = saying(trajectory, drawn(0))
    _, found = duplicates(near, one, dataclasses.replace(one, tools=trajectory.tools[1:]))
    assert (found and found.kind) == expected


def test_other_arguments_make_another_dialogue(trajectory):
    rows = []
    for query in ("love", "hate", 5, -5, "5", [5]):
        turn = Message("assistant", "", (ToolCall("search_advice", {"query": query}),))
        rows.append(dataclasses.replace(trajectory, messages=(trajectory.messages[0], turn)))
    assert not any(duplicates(False, *rows))


def test_a_few_changed_words_are_near_many_are_not(trajectory):
    words = drawn(0, 400)
    few, many = list(words), list(words)
    few[10] = few[300] = "other"
    many[::6] = drawn(1, len(many[::6]))
    _, found, none = duplicates(True, *(saying(trajectory, text) for text in (words, few, many)))
    assert found.kind == "near" and found.of == 0 and found.similarity > 0.85
    assert none is None


def test_different_dialogues_and_short_ones_stay_and_the_first_of_equals_counts(trajectory):
    rows = [saying(trajectory, drawn(seed)) for seed in range(300)]
    found = duplicates(True, *rows, saying(trajectory, ["hi"]), rows[200], rows[200], rows[299])
    assert not any(found[:301])
    assert [(same.kind, same.of) for same in found[301:]] == [("exact", n) for n in (200, 200, 299)]


def test_what_is_left_out_makes_no_duplicates_of_its_own(trajectory):
    words = drawn(0, 400)
    middle, last = list(words), list(words)
    middle[:60] = ["one"] * 60
    last[:100] = ["one"] * 100
    rows = [saying(trajectory, text) for text in (words, middle, last)]
    assert [bool(same) for same in duplicates(True, *rows)] == [False, True, False]
    assert duplicates(True, *rows[1:])[1].of == 0


def test_the_similarity_is_that_of_the_word_runs(trajectory):
    words = drawn(0, 1000)
    for changed in (4, 8, 12):
        other = list(words)
        for location in range(0, 10 * changed, 10):
            other[location + 5] = "changed"
        _, found = duplicates(True, saying(trajectory, words), saying(trajectory, other))
        true = (1000 - 5 * changed) / (1000 + 5 * changed)
        assert found.similarity == pytest.approx(true, abs=0.12)
