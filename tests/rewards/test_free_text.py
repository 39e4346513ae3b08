"""Free text compared by its words."""

import pytest

from tl_jax.rewards.free_text import same_free_text


@pytest.mark.parametrize(
    "prediction,gold,same",
    [
        ("Done.", "done", True),
        ("\u2018It\u2019s fine\u2019", "it's fine", True),
        ("It's broken", "It's fine", False),
        ("!", "!", True),
        ("!", "?", False),
        ("", "done", False),
        ("done", "", False),
        ("I can handle the task now", "I cannot handle the task now", False),
        ("we do it today as planned", "we don't do it today as planned", False),
        ("from 5 to 10 o'clock", "from 10 to 5 o'clock", False),
        ("the the the the the", "the answer is the best", False),
        (
            "\u6771\u4eac\u306f\u5927\u304d\u3044\u3067\u3059",
            "\u6771\u4eac\u306f\u5927\u304d\u3044",
            True,
        ),
        ("\u6771\u4eac", "\u5927\u962a", False),
    ],
)
def test_words_decide(prediction, gold, same):
    assert same_free_text(prediction, gold, min_f1=0.8) is same


def test_the_threshold_is_inclusive():
    # Three of four and of four words are shared: F1 = 0.75.
    assert same_free_text("a b c d", "a b c e", min_f1=0.75)
    assert not same_free_text("a b c d", "a b c e", min_f1=0.76)
