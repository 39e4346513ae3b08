"""Key positions and weights, on plain integers and on rendered replies."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from template_cases import FAMILIES, make_tokenizer, renderer_of

from tl_jax.calls.call import Parameter, ToolCall, ToolSpec
from tl_jax.config import KeyTokenConfig
from tl_jax.data.examples.alternative_tokens import AlternativeNames
from tl_jax.data.examples.annotations import read_keys
from tl_jax.data.examples.build import build_examples
from tl_jax.data.examples.key_tokens import (
    key_positions,
    key_token_weights,
    parting_positions,
    reply_weights,
)
from tl_jax.data.mae.labels import label_turns
from tl_jax.data.render.paper_template import render_sample
from tl_jax.data.trajectory import Message, Trajectory

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
def test_key_positions_are_where_a_rival_leaves_the_name(name, alternatives):
    expected = {0} | {
        cut
        for cut in range(1, len(name) + 1)
        for alternative in alternatives
        if alternative != name
        and alternative[:cut] == name[:cut]
        and (cut >= len(name) or cut >= len(alternative) or alternative[cut] != name[cut])
    }
    assert set(key_positions(name, alternatives)) == expected


@given(
    reply=st.integers(2, 12),
    name=ids,
    alternatives=st.lists(ids, max_size=4),
    closers=st.sets(st.integers(0, 11)),
    mode=st.sampled_from(["off", "paper", "code", "extended"]),
    w_max=st.floats(1, 20),
)
def test_weights_lie_between_one_and_the_largest(reply, name, alternatives, closers, mode, w_max):
    weights = key_token_weights(
        [0] * reply, name, alternatives, w_max=w_max, mode=mode, closer_positions=closers
    )
    assert len(weights) == reply
    assert all(1 <= weight <= w_max for weight in weights)
    key = set(key_positions(name, alternatives))
    assert all(weight == 1 for i, weight in enumerate(weights) if i not in key)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="off, paper, code, extended"):
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
    name, alternatives = golden_ids(case)
    return key_token_weights(
        case["reply_ids"],
        name,
        alternatives,
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
        name, alternatives = golden_ids(case)
        positions = key_positions(name, alternatives)
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
    offsets = offsets.shifted(reply.start)
    weights, keys = reply_weights(
        sample.text,
        reply,
        (call,),
        [*token_ids, tokenizer.eos_id],
        offsets,
        tools,
        AlternativeNames(tokenizer),
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


UNIT = Parameter("unit", "string", schema={"enum": ["metric", "metres", "inches"]})
DAYS = Parameter("days", "integer", schema={"enum": [1, 10, 2]})
FORECAST = ToolSpec("forecast", "", (Parameter("city", "string"), UNIT, DAYS))
CALL = ToolCall("forecast", {"city": "Bergen", "unit": "metric", "days": 1})


def extended(tokenizer, call=CALL, tools=(FORECAST,), style="released", **settings):
    settings = {"mode": "extended", "w_max": 9.0, **settings}
    return weighted(tokenizer, tools, call, style, **settings)


def without(keys, more):
    """What the longer list has more."""
    assert set(keys) <= set(more)
    return sorted(set(more) - set(keys))


def test_the_parts_of_the_extended_mode_are_switched_one_by_one(tokenizer):
    off = {"parameter_names": False, "enum_values": False}
    _, weights, paper = extended(tokenizer, mode="paper")
    assert extended(tokenizer, **off)[1:] == (weights, paper)
    assert extended(tokenizer, mode="paper", parameter_names=True)[2] == paper
    pieces, _, named = extended(tokenizer, **off | {"parameter_names": True})
    first = ["".join(pieces[position:]) for position in without(paper, named)]
    assert [text.partition(" ")[0] for text in first] == ["city", "unit", "days"]
    pieces, _, listed = extended(tokenizer, **off | {"enum_values": True})
    before = ["".join(pieces[:position]) for position in without(paper, listed)]
    # each of these can be followed by another listed value
    start = " forecast(city = 'Bergen', unit = '"
    assert before == [
        start,
        f"{start}metr",
        f"{start}metric', days = ",
        f"{start}metric', days = 1",
    ]
    assert extended(tokenizer)[2] == sorted({*named, *listed})


def test_more_key_tokens_lower_the_weight_by_the_same_clip_rule(tokenizer):
    _, weights, keys = extended(tokenizer)
    others = len(weights) - 1 - len(keys)
    assert len(keys) == 8 and {weights[key] for key in keys} == {min(others / len(keys), 9.0)}
    assert sum(weight == 1 for weight in weights) == len(weights) - len(keys)
    _, clipped, keys = extended(tokenizer, w_max=1.25)
    assert {clipped[key] for key in keys} == {1.25}


@pytest.mark.parametrize("style", ["released", "script"])
def test_values_without_a_list_are_not_key(tokenizer, style):
    tool = ToolSpec("forecast", "", (Parameter("city", "string"), Parameter("unit", "string")))
    call = ToolCall("forecast", {"city": "Bergen", "unit": "metric", "undeclared": 3})
    named = extended(tokenizer, call, (tool,), style, enum_values=False)
    assert extended(tokenizer, call, (tool,), style) == named
    assert extended(tokenizer, call, (), style) == named


def test_a_parameter_with_one_value_has_no_key_value(tokenizer):
    tool = ToolSpec("f", "", (Parameter("v", "string", schema={"enum": ["a"]}),))
    call = ToolCall("f", {"v": "a"})
    assert (
        extended(tokenizer, call, (tool,))[2]
        == extended(tokenizer, call, (tool,), enum_values=False)[2]
    )


@given(ids, st.lists(ids, max_size=4))
def test_rivals_part_where_the_shared_start_ends(gold, alternatives):
    found = list(parting_positions(gold, alternatives))
    assert len(found) == sum(alternative != gold for alternative in alternatives)
    for position, alternative in zip(found, (r for r in alternatives if r != gold), strict=True):
        assert gold[:position] == alternative[:position]
        assert gold[position : position + 1] != alternative[position : position + 1]


@pytest.mark.parametrize("style", ["released", "script"])
def test_a_token_that_straddles_a_border_is_key(joining, style):
    pieces, _, keys = extended(joining, style=style, enum_values=False)
    text = "".join(pieces)
    ends = [len("".join(pieces[: i + 1])) for i in range(len(pieces))]
    starts = [text.index(name) for name in ("forecast", "city", "unit", "days")]
    holding = [next(i for i, end in enumerate(ends) if end > start) for start in starts]
    assert keys == sorted(set(holding))
    # the tokenizer does join a bracket or blank with a name
    assert any(pieces[i][0] in " (" and len(pieces[i]) > 1 for i in holding)


@pytest.mark.parametrize("style", ["released", "script"])
@pytest.mark.parametrize("kind", ["tokenizer", "llama_like", "joining"])
def test_enumerated_values_part_as_when_the_whole_reply_is_written_anew(kind, style, request):
    tokenizer = request.getfixturevalue(kind)
    for unit, days in (("metric", 10), ("inches", 1), ("metres", 2)):
        call = ToolCall("forecast", {"city": "Bergen " * 20, "unit": unit, "days": days})
        _, _, keys = extended(tokenizer, call, style=style, parameter_names=False)
        _, _, names = extended(tokenizer, call, style=style, mode="paper")
        expected = set(names)
        for parameter in (UNIT, DAYS):
            gold = over_value(tokenizer, call, parameter.name, style)
            for value in parameter.schema["enum"]:
                changed = ToolCall("forecast", {**call.arguments, parameter.name: value})
                alternative = over_value(tokenizer, changed, parameter.name, style)
                expected |= {gold[0] + p for p in parting_positions(gold[1], [alternative[1]])}
        assert keys == sorted(expected)


def over_value(tokenizer, call, name, style):
    """First position and ids of the tokens over a value, by encoding all of the reply."""
    sample = render_sample((), (Message("user", ""), Message("assistant", "", (call,))), style)
    (reply,) = sample.replies
    start, end = (
        at - reply.start
        for at in dict(zip(call.arguments, reply.calls[0].arguments, strict=True))[name][1]
    )
    token_ids, offsets = tokenizer.encode_continuation(sample.text[reply.start : reply.stop])
    over = [i for i, (a, b) in enumerate(offsets) if b > start and a < end]
    return over[0], [token_ids[i] for i in over]


def test_many_arguments_take_time_in_proportion(tokenizer):
    counts = []
    for size in (40, 80):
        parameters = tuple(dataclasses.replace(UNIT, name=f"p{i}") for i in range(size))
        call = ToolCall("forecast", {p.name: "metric" for p in parameters})
        counting = CountingBackend(tokenizer.backend)
        counted = dataclasses.replace(tokenizer, backend=counting)
        extended(counted, call, (ToolSpec("forecast", "", parameters),))
        counts.append(counting.characters)
    assert counts[1] < 2.5 * counts[0]


class CountingBackend:
    """Counts the characters that are tokenised."""

    def __init__(self, backend):
        self.backend, self.characters = backend, 0

    def encode(self, text, **options):
        self.characters += len(text)
        return self.backend.encode(text, **options)

    def encode_batch(self, texts, **options):
        return [self.encode(text, **options) for text in texts]

    def __getattr__(self, name):
        return getattr(self.backend, name)


@pytest.mark.parametrize("marks_start", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_key_tokens_are_found_in_every_chat_template(family, marks_start):
    tokenizer = make_tokenizer(family, marks_start=marks_start)

    def build(name, **arguments):
        last = Message("assistant", "", (ToolCall(name, arguments),))
        turns = (Message("user", "Wind?"), first, Message("tool", "3"), last)
        made = Trajectory("t", (FORECAST, ToolSpec("forest")), turns)
        examples, _ = build_examples(
            made,
            label_turns(made, "off"),
            renderer_of(tokenizer, "chat"),
            key_tokens=KeyTokenConfig(mode="extended"),
            max_length=4096,
        )
        return examples[-1]

    first = Message("assistant", "", (CALL,))
    gold = {"name": "forecast", "city": "Bonn", "unit": "metric", "days": 1}
    example = build(**gold)
    pieces = tokenizer.pieces(example.ids)
    text = "".join(pieces)
    ends = [len("".join(pieces[: i + 1])) for i in range(len(pieces))]
    start = text.rindex('"forecast"') + 1
    named = [text.index(name, start) for name in ("forecast", "city", "unit", "days")]
    expected = {next(i for i, end in enumerate(ends) if end > at) for at in named}
    # the rest are where another name or value changes the tokens for the first time
    for other in (
        ("name", "forest"),
        ("unit", "metres"),
        ("unit", "inches"),
        ("days", 10),
        ("days", 2),
    ):
        pairs = enumerate(zip(example.ids, build(**gold | dict([other])).ids, strict=False))
        expected.add(next(i for i, (a, b) in pairs if a != b))
    assert read_keys(example.tags) == expected
