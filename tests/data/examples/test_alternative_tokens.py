"""Pieces of a reply as tokens: which overlap a span, and what could stand there instead."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tl_jax.data.examples import alternative_tokens as alternatives_lib
from tl_jax.data.examples.alternative_tokens import (
    AlternativeNames,
    alternative_values,
    enumerated,
    tokens_over,
)
from tl_jax.data.tokenize.offsets import Offsets

offsets_of_texts = st.lists(st.integers(0, 3), max_size=12).map(
    lambda sizes: [(sum(sizes[:i]), sum(sizes[: i + 1])) for i in range(len(sizes))]
)


def test_tokens_over_a_span_are_those_that_overlap_it():
    offsets = Offsets.of([(0, 2), (2, 5), (5, 5), (5, 9)])
    assert tokens_over(offsets, (1, 3)) == range(0, 2)
    assert tokens_over(offsets, (5, 6)) == range(3, 4)
    assert tokens_over(offsets, (9, 12)) == range(4, 4)


@given(offsets_of_texts, st.integers(0, 20), st.integers(1, 6))
def test_every_token_with_a_character_in_the_span_is_over_it(offsets, start, size):
    over = tokens_over(Offsets.of(offsets), (start, start + size))
    for i, (first, last) in enumerate(offsets):
        if any(first <= character < last for character in range(start, start + size)):
            assert i in over
        elif last > first:
            assert i not in over


@pytest.mark.parametrize(
    ("schema", "values"),
    [
        ({"enum": ["a", 1, None]}, ["a", 1, None]),
        ({"const": "a"}, ["a"]),
        ({"anyOf": [{"enum": ["a"]}, {"type": "null"}], "oneOf": [{"const": 2}]}, ["a", 2]),
        ({"enum": "ab", "anyOf": {"enum": [1]}, "oneOf": ["x", None]}, []),
        ({}, []),
    ],
)
def test_a_schema_lists_its_values(schema, values):
    assert enumerated(schema) == values


def test_a_schema_without_end_is_read_to_a_depth():
    schema = {"enum": [1]}
    schema["anyOf"] = [schema]
    assert len(enumerated(schema)) < 10


@pytest.mark.parametrize(
    ("gold", "written", "alternatives"),
    [
        ("a", "'a'", ["'it\\'s'", "True", "None", "'é'"]),
        ("a", '"a"', ['"it\'s"', "true", "null", '"é"']),
        ("é", '"\\u00e9"', ['"a"', '"it\'s"', "true", "null"]),
        ("a", "a", ["it's", "true", "null", "é"]),
        (True, "true", ['"a"', '"it\'s"', "null", '"é"']),
        ("a", "<a>", []),
    ],
)
def test_rivals_are_written_the_way_the_value_is(gold, written, alternatives):
    assert alternative_values(gold, written, ["a", "it's", True, None, "é", "a"]) == alternatives


def test_values_that_no_text_can_hold_are_no_rivals():
    bad = ["\ud800", float("nan"), {1, 2}, "b"]
    assert alternative_values("a", "'a'", bad) == ["'b'"]


def test_a_context_that_comes_again_is_tokenised_once(tokenizer, monkeypatch):
    found = AlternativeNames(tokenizer)
    first = found.tokens(" ", "search_user", "(")
    assert tokenizer.decode(first) == "search_user"
    monkeypatch.setattr(type(tokenizer), "encode_continuation", None)
    assert found.tokens(" ", "search_user", "(") == first


def test_the_memory_of_rivals_is_bounded(tokenizer, monkeypatch):
    monkeypatch.setattr(alternatives_lib, "_MOST_REMEMBERED", 3)
    found = AlternativeNames(tokenizer)
    for number in range(20):
        found.tokens(" ", f"name{number}", "(")
        assert len(found.known) <= 3
