"""Key positions and weights, on plain integers and on rendered replies."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tl_jax.calls.call import ToolCall
from tl_jax.data.key_tokens import (
    NameTokens,
    key_positions,
    key_token_weights,
    reply_weights,
    tokens_over,
)
from tl_jax.data.schema import Message
from tl_jax.data.templates import render_sample

# The published code loses the start of the reply, or adds the loss of one token twice.
SPAN_BUG = "assistant_word_bug"
DOUBLE_COUNT_BUG = "key_is_closer"

ids = st.lists(st.integers(0, 3), min_size=1, max_size=5)


def test_the_first_token_is_always_key():
    assert key_positions([5, 6], []) == (0,)
    assert key_positions([5, 6], [[7, 6], [5, 6]]) == (0,)


def test_each_shared_prefix_adds_the_token_after_it():
    assert key_positions([1, 2, 3], [[1, 2, 4], [1, 9], [8]]) == (0, 1, 2)


def test_a_rival_that_continues_the_name_makes_the_bracket_key():
    assert key_positions([1, 2], [[1, 2, 3]]) == (0, 2)


@given(ids, st.lists(ids, max_size=5))
def test_key_positions_are_where_a_rival_leaves_the_name(name, rivals):
    expected = {0} | {
        cut
        for cut in range(1, len(name) + 1)
        for rival in rivals
        if rival != name
        and rival[:cut] == name[:cut]
        and (cut >= len(name) or cut >= len(rival) or rival[cut] != name[cut])
    }
    assert set(key_positions(name, rivals)) == expected


@given(
    reply=st.integers(2, 12),
    name=ids,
    rivals=st.lists(ids, max_size=4),
    closers=st.sets(st.integers(0, 11)),
    mode=st.sampled_from(["off", "paper", "code"]),
    w_max=st.floats(1, 20),
)
def test_weights_lie_between_one_and_the_largest(reply, name, rivals, closers, mode, w_max):
    weights = key_token_weights(
        [0] * reply, name, rivals, w_max=w_max, mode=mode, closer_positions=closers
    )
    assert len(weights) == reply
    assert all(1 <= weight <= w_max for weight in weights)
    key = set(key_positions(name, rivals))
    assert all(weight == 1 for i, weight in enumerate(weights) if i not in key)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="off, paper, code"):
        key_token_weights([1, 2], [1], [], w_max=9, mode="figure")


def golden_ids(case):
    """Integer ids of the name pieces; unknown pieces get ids of their own."""
    known = dict(zip(case["reply_tokens"], case["reply_ids"], strict=True))
    names = {
        name: [known.setdefault(piece, -len(known)) for piece in pieces]
        for name, pieces in case["candidate_name_tokens"].items()
    }
    gold = case["reply"].split("(")[0].strip()
    return names.pop(gold), list(names.values())


def golden_weights(case, mode, w_max):
    name, rivals = golden_ids(case)
    return key_token_weights(
        case["reply_ids"],
        name,
        rivals,
        w_max=w_max,
        mode=mode,
        closer_positions=case["code"]["closer_positions"],
    )


def test_golden_paper_positions_and_weights(golden):
    cases = golden("key_token_cases.json")["cases"]
    assert len(cases) == 14
    for case in cases:
        positions = key_positions(*golden_ids(case))
        assert list(positions) == case["paper"]["key_positions"], case["id"]
        weights = golden_weights(case, "paper", 9)
        assert {weights[i] for i in positions} == {case["paper"]["weight_wmax9"]}, case["id"]


def test_golden_code_weights_and_losses(golden):
    for case in golden("key_token_cases.json")["cases"]:
        if case["id"] == SPAN_BUG:
            continue
        code = case["code"]
        name, rivals = golden_ids(case)
        positions = key_positions(name, rivals)
        assert list(positions) == sorted(code["key_positions"]), case["id"]
        others = set(range(code["n_trained"])) - set(positions) - set(code["closer_positions"])
        assert len(others) == code["n_other"]
        for w_max, key in (
            (1, "loss_1_to_n_wmax1"),
            (3, "loss_1_to_n_wmax3"),
            (5, "loss_1_to_n_wmax5"),
            (9, "loss_if_token_losses_are_1_to_n"),
        ):
            weights = golden_weights(case, "code", w_max)
            if w_max == 9:
                assert weights[positions[-1]] == code["key_weight_wmax9"], case["id"]
                assert sum(weights) == pytest.approx(code["sum_of_weights"])
            loss = sum(w * i for i, w in enumerate(weights, 1)) / sum(weights)
            if case["id"] == DOUBLE_COUNT_BUG:
                extra = sum(i + 1 for i in set(positions) & set(code["closer_positions"]))
                loss += extra / sum(weights)
            assert loss == pytest.approx(code[key]), (case["id"], w_max)


def test_golden_paper_losses_follow_from_the_same_weights(golden):
    for case in golden("key_token_cases.json")["cases"]:
        weights = golden_weights(case, "paper", 9)
        keys = case["paper"]["key_positions"]
        weight = case["paper"]["weight_wmax9"]
        total = sum(range(1, len(weights) + 1)) + (weight - 1) * sum(k + 1 for k in keys)
        norm = len(weights) + (weight - 1) * len(keys)
        loss = sum(w * i for i, w in enumerate(weights, 1)) / sum(weights)
        assert loss == pytest.approx(total / norm), case["id"]


def weighted(tokenizer, tools, call, style="released", **settings):
    messages = (Message("user", "hi"), Message("assistant", "", (call,)))
    sample = render_sample(tools, messages, style)
    (reply,) = sample.replies
    token_ids, offsets = tokenizer.encode_continuation(sample.text[reply.start : reply.stop])
    offsets = [(a + reply.start, b + reply.start) for a, b in offsets]
    weights, keys = reply_weights(
        sample.text,
        reply,
        [*token_ids, tokenizer.eos_id],
        offsets,
        [tool.name for tool in tools],
        NameTokens(tokenizer),
        **settings,
    )
    return [sample.text[slice(*offset)] for offset in offsets], weights, keys


def test_a_rendered_reply_weights_the_tokens_where_names_part(tokenizer, trajectory):
    call = ToolCall("search_advice", {"query": "love"})
    pieces, weights, keys = weighted(tokenizer, trajectory.tools, call, mode="paper", w_max=9.0)
    assert len(keys) == 2
    # a blank may be a token of its own; all of the name before the second key token is shared
    # with search_user
    assert "".join(pieces[: keys[0]]).strip() == "" and "s" in pieces[keys[0]]
    assert "".join(pieces[: keys[1]]).strip() == "search_"
    expected = min((len(pieces) - 2) / 2, 9.0)
    assert [weights[k] for k in keys] == [expected, expected]
    assert sum(weights) == pytest.approx(len(pieces) - 1 + 2 * expected)


def test_closers_leave_the_count_of_others_in_code_mode(tokenizer, trajectory):
    call = ToolCall("search_advice", {"query": "love", "limit": 2})
    pieces, weights, keys = weighted(tokenizer, trajectory.tools, call, mode="code", w_max=99.0)
    closers = [i for i, piece in enumerate(pieces) if piece.endswith((",", ")"))]
    assert len(closers) == 2
    assert weights[keys[0]] == (len(pieces) + 1 - len(keys) - len(closers)) / len(keys)


def test_tokens_over_a_span_are_those_that_overlap_it():
    offsets = [(0, 2), (2, 5), (5, 5), (5, 9)]
    assert tokens_over(offsets, (1, 3)) == range(0, 2)
    assert tokens_over(offsets, (5, 6)) == range(3, 4)
    assert tokens_over(offsets, (9, 12)) == range(4, 4)
