"""A prepared example is shown token by token: kinds, strengths, totals, and no foreign markup."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tl_jax.data.examples.annotations import TurnAnnotation
from tl_jax.report.example import KINDS, TURN_COLUMNS, describe, write_page
from tl_jax.screen import visible

WRONG = TurnAnnotation(1, 1, 3, False, 0.0, "error", "tool_hallucination", "phrase: no such tool")
RIGHT = TurnAnnotation(2, 4, 8, True, 1.0, "keep", "all_right", "status given by the source")
TEXTS = ["q", " wro", "ng", "\nOut", " se", "arch", "(x)", "<eos>"]
WEIGHTS = [0, 0, 0, 0, 9.0, 1.0, 1.0, 1.0]


def sample(texts=TEXTS, weights=WEIGHTS, keys=(4,), turns=(WRONG, RIGHT), control=(7,)):
    return describe("Example 1: t", "from made.jsonl", texts, weights, set(keys), turns, control)


def test_every_token_is_of_the_kind_that_training_gives_it():
    found = [(piece.text, piece.kind, piece.tokens) for piece in sample().pieces]
    assert found == [
        ("q", "untrained", 1),
        (" wrong", "masked", 2),
        ("\nOut", "untrained", 1),
        (" se", "key", 1),
        ("arch(x)", "trained", 2),
        ("<eos>", "trained", 1),
    ]
    assert [piece.control for piece in sample().pieces] == [False] * 5 + [True]
    assert sample().pieces[1].turn == WRONG


@given(
    st.lists(st.tuples(st.sampled_from(["", "a", "\n", "é"]), st.sampled_from([0, 1.0, 9.0]))),
    st.sets(st.integers(0, 20)),
)
def test_no_text_and_no_token_is_lost(tokens, keys):
    texts = [text for text, _ in tokens]
    weights = [weight for _, weight in tokens]
    keys = {key for key in keys if key < len(tokens)}
    pieces = sample(texts, weights, keys, (), ()).pieces
    assert "".join(piece.text for piece in pieces).replace("↵", "") == "".join(texts)
    assert sum(piece.tokens for piece in pieces) == len(tokens)
    assert all(piece.kind in KINDS for piece in pieces)


def test_a_character_of_several_tokens_is_as_heavy_as_its_heaviest():
    turn = TurnAnnotation(1, 0, 4, True)
    pieces = sample(["a", "", "", "é"], [1.0, 9.0, 1.0, 1.0], [1], [turn], ()).pieces
    assert [(p.text, p.kind, p.weight, p.tokens) for p in pieces] == [
        ("a", "trained", 1.0, 1),
        ("é", "key", 9.0, 3),
    ]


@pytest.mark.parametrize("scale", [1.0, 0.01, 0.25])
def test_the_strength_of_a_key_token_is_relative_to_its_turn(scale):
    weights = [weight * scale for weight in WEIGHTS]
    (key,) = [piece for piece in sample(weights=weights).pieces if piece.kind == "key"]
    assert key.strength == pytest.approx(9) and key.level == 4


@pytest.mark.parametrize(("strength", "level"), [(1, 0), (1.5, 1), (3, 2), (5, 3), (9, 4)])
def test_the_level_grows_with_the_strength(strength, level):
    weights = [0, 0, 0, 0, float(strength), 1.0, 1.0, 1.0]
    assert sample(weights=weights).pieces[3].level == level


def test_a_call_without_weight_in_a_trained_turn_is_masked():
    weights = [0, 0, 0, 0, 9.0, 0, 1.0, 1.0]
    assert [piece.kind for piece in sample(weights=weights).pieces][3:6] == [
        "key",
        "masked",
        "trained",
    ]


def test_turns_and_totals_count_what_is_shown():
    rows = [dict(zip(TURN_COLUMNS, row, strict=True)) for row in sample().turns]
    assert [row["outcome"] for row in rows] == ["left out by MAE", "trained"]
    assert (rows[0]["category"], rows[0]["decided by"]) == (WRONG.category, WRONG.reason)
    assert (rows[1]["tokens"], rows[1]["key"], rows[1]["weight of key"]) == ("4", "1", "9")
    assert dict(sample().totals) == {
        "tokens": "8",
        "trained tokens": "4 (50.0 %)",
        "key tokens": "1 (75.0 % of the loss weight)",
        "left out by MAE": "1 turns, 2 tokens",
        "sum of weights": "12.00",
    }


@pytest.mark.parametrize(
    ("verdict", "weight", "outcome"),
    [
        ("keep", 1.0, "trained"),
        ("error", 1.0, "trained"),
        ("error", 0.5, "trained at x0.5"),
        ("partly", 1.0, "trained in part"),
    ],
)
def test_the_outcome_says_how_far_a_turn_is_trained(verdict, weight, outcome):
    turn = TurnAnnotation(2, 4, 8, True, weight, verdict)
    assert sample(turns=[turn]).turns[0][1] == outcome


def test_key_tokens_of_a_masked_call_are_not_counted():
    weights = [0, 0, 0, 0, 9.0, 0, 1.0, 1.0]
    shown_sample = sample(weights=weights, keys=(4, 5))
    assert shown_sample.turns[1][3] == "1"
    assert dict(shown_sample.totals)["key tokens"] == "1 (81.8 % of the loss weight)"


def test_an_example_without_trained_tokens_is_shown():
    assert dict(sample(weights=[0] * 8, keys=()).totals)["key tokens"].startswith("0 (0.0 %")


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("a\x1b[31mb", "a␛[31mb"),
        ("\r\x00\x07", "␍␀␇"),
        ("\x9b2J\x7f", "\\u009b2J\\u007f"),
        ("\u202eabc\u2066", "\\u202eabc\\u2066"),
        ("line\n\ttab é 😀", "line\n\ttab é 😀"),
    ],
)
def test_nothing_shown_steers_a_terminal(text, safe):
    assert visible(text) == safe
    assert sample(["q", text, *TEXTS[2:]], turns=()).pieces[0].text.startswith("q" + safe)


HOSTILE = "</pre><script>alert(1)</script><img src=http://x>\"'&\x1b"


def test_the_page_is_self_contained_and_trusts_no_text(tmp_path):
    wrong = TurnAnnotation(1, 1, 3, False, 0.0, "error", HOSTILE, HOSTILE)
    shown_sample = describe(HOSTILE, HOSTILE, [HOSTILE] * 8, WEIGHTS, {4}, (wrong, RIGHT), {7})
    page = write_page(shown_sample, tmp_path / "new" / "page.html").read_text(encoding="utf-8")
    assert "<script" not in page and "<img" not in page and "\x1b" not in page
    assert page.count("&lt;script&gt;alert(1)") >= 8
    assert "default-src 'none'" in page and not re.search(r"(src|href)=\"http", page)


def test_the_page_shows_weights_reasons_and_the_legend(tmp_path):
    page = write_page(sample(), tmp_path / "page.html").read_text(encoding="utf-8")
    assert '<span class="key level4" title="weight 9, 1 tokens"> se</span>' in page
    reason = "left out by MAE: tool_hallucination: phrase: no such tool"
    assert f'<span class="masked" title="{reason}"> wrong</span>' in page
    assert '<span class="trained control" title="weight 1, 1 tokens">&lt;eos&gt;</span>' in page
    assert '<span class="untrained">q</span>' in page
    text = re.sub("<[^>]*>", "", page.partition('<pre class="sample">')[2].partition("</pre>")[0])
    assert text == "q wrong\nOut search(x)&lt;eos&gt;"
    for words in ("key, more than x7", "left out by MAE", "75.0 % of the loss weight"):
        assert words in page
