"""Free text compared by its words."""

import pytest

from tl_jax.rewards.free_text import same_free_text, same_words


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
        ("It is -5 degrees outside now", "It is 5 degrees outside now", False),
        ("it costs $12 for one of us", "it costs \u20ac12 for one of us", False),
        ("it costs 12 for one of us now", "it costs 1.2 for one of us now", False),
        ("on 2024-05-01 we all leave it", "on 2024-01-05 we all leave it", False),
        ("about 10am, I think so too, yes", "About 10 am, I think so too: yes!", True),
        ("I flew to Oslo with my old friend", "I flew to Rome with my old friend", False),
        ("i flew to rome with my old friend", "I flew to Rome with my old friend", True),
        ("I flew to R\u043eme with my old friend", "I flew to Rome with my old friend", False),
        ("Yes. We are all there now, friend", "Yes! we are all there now, friend", True),
    ],
)
def test_words_decide(prediction, gold, same):
    assert same_free_text(prediction, gold, min_f1=0.8) is same


def test_the_threshold_is_inclusive():
    # Three words of three and of five are shared: F1 = 0.75.
    assert same_free_text("a b c d e", "a b c", min_f1=0.75)
    assert not same_free_text("a b c d e", "a b c", min_f1=0.76)


def test_no_word_may_stand_in_the_place_of_another():
    gold = "I found three flights to the place that you asked me for, all of them before noon"
    words = gold.split()
    for at in range(len(words)):
        other = " ".join([*words[:at], "other", *words[at + 1 :]])
        assert not same_free_text(other, gold, min_f1=0.5)
        assert not same_free_text(gold, other, min_f1=0.5)
    assert same_free_text(gold + ", I think", gold, min_f1=0.85)


@pytest.mark.parametrize(
    "prediction,gold,same",
    [
        ("All is done!", "all  is done", True),
        ("all done is", "all is done", False),
        ("all is done now", "all is done", False),
        ("5", "-5", False),
        ("\uff21ll is done", "All is done", True),
        ("?", "!", False),
        ("?", "?", True),
        ("", "!", False),
    ],
)
def test_normalised_texts_have_the_same_words_in_the_same_order(prediction, gold, same):
    assert same_words(prediction, gold) is same
