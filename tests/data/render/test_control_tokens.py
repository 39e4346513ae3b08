"""Marks keep typed control tokens apart, and leave no other trace."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tl_jax.data.render.control_tokens import (
    ControlTokens,
    control_tokens,
    unused_character,
    without_marks,
)

TOKENS = ControlTokens(frozenset({"<|end|>", "<|", "[/X]"}))
MARK = "\ue000"


@given(st.text("<|end>[/X] a", max_size=30), st.text("<|end>[/X]", max_size=8))
def test_no_control_token_is_left_whatever_is_written_next(text, following):
    marked = TOKENS.mark(text, MARK)
    assert not TOKENS.pattern.search(marked)
    found = TOKENS.pattern.search(marked + following)
    # one that the following text brings in whole is that text's own
    assert found is None or found.start() >= len(marked)
    plain, places = without_marks(marked, MARK)
    assert plain == text and list(places) == sorted(set(places))


def test_every_string_is_marked_names_included():
    value = {"<|end|>": ["<|end|>", 1, None, ("x", {"y": "[/X]"})]}
    marked = TOKENS.mark(value, MARK)
    assert marked == {
        f"<{MARK}|end|>": [f"<{MARK}|end|>", 1, None, ["x", {"y": f"[{MARK}/X]"}]],
    }


def test_control_tokens_are_those_special_named_by_the_template_or_looking_it():
    added = {
        "<s>": True,
        "<tool_call>": False,
        "<table>": False,
        "<|fim|>": False,
        "\n\n": False,
        "#": True,
    }
    assert control_tokens(added, "{{ '<tool_call>\n\n' }}").texts == {
        "<s>",
        "<tool_call>",
        "<|fim|>",
    }


def test_the_mark_is_a_character_that_nothing_has():
    assert unused_character([{"a": "\ue000"}, ["\ue001", {"\ue002": 1}]]) == "\ue003"
    with pytest.raises(ValueError, match="every private-use character"):
        unused_character(["".join(map(chr, range(0xE000, 0xF900)))])


def test_a_mark_that_the_template_escapes_is_refused():
    with pytest.raises(ValueError, match="escapes characters beyond ASCII"):
        without_marks('"<\\ue000|end|>"', MARK)
