"""Calls made in one turn are judged, masked and cut out one by one."""

import dataclasses

import pytest
from template_cases import renderer_of

from tl_jax.calls.call import ToolCall
from tl_jax.config import KeyTokenConfig, MaeConfig
from tl_jax.data.examples.build import build_examples, build_prompts
from tl_jax.data.importers.chat import dialogue
from tl_jax.data.mae.labels import LabelCounts, label_turns, without_dropped
from tl_jax.data.mae.policy import MaePolicy, policy_of
from tl_jax.data.trajectory import Message, Trajectory, from_json, to_json

LOVE, HATE, ANN = (
    ToolCall("search_advice", {"query": "love"}),
    ToolCall("search_advice", {"q": "hate"}),
    ToolCall("search_user", {"name": "Ann"}),
)
WRONG = "search_advice() got an unexpected keyword argument 'q'"


@pytest.fixture
def parallel(trajectory):
    """Three calls at once, of which the second is wrong, then the answer."""
    return dataclasses.replace(
        trajectory,
        messages=(
            Message("user", "love, hate and Ann"),
            Message("assistant", "", (LOVE, HATE, ANN)),
            Message("tool", '["Love is kind"]'),
            Message("tool", WRONG),
            Message("tool", "ann_1"),
            Message("assistant", "done"),
        ),
    )


def examples_of(trajectory, labels, tokenizer, samples="per_trajectory", **settings):
    settings = {"mode": "off", **settings}
    examples, _ = build_examples(
        trajectory,
        labels,
        renderer_of(tokenizer, samples=samples),
        key_tokens=KeyTokenConfig(**settings),
        max_length=4096,
    )
    return examples


def trained_text(example, tokenizer):
    ids = [t for t, w in zip(example.ids, example.weights, strict=True) if w]
    return tokenizer.decode(ids)


@pytest.mark.parametrize("rules", ["structured", "reference", "structured+static"])
def test_each_call_has_the_verdict_of_its_own_answer(parallel, rules):
    turn, last = label_turns(parallel, rules)
    assert [call.verdict for call in turn.calls] == ["keep", "error", "keep"]
    assert (turn.verdict, turn.category, turn.kept) == ("partly", "parameter_hallucination", True)
    assert turn.call_weights == (1, 0, 1) and not turn.right and last.right


def test_the_manual_judges_each_call(parallel):
    turn, _ = label_turns(parallel, "static")
    assert [call.category for call in turn.calls] == [
        "all_right", "parameter_hallucination", "all_right",
    ]  # fmt: skip


def test_a_call_without_an_answer_is_not_trained_where_answers_are_read(parallel):
    short = dataclasses.replace(parallel, messages=(*parallel.messages[:4], parallel.messages[5]))
    turn = label_turns(short, "structured")[0]
    assert [call.verdict for call in turn.calls] == ["keep", "error", "no_feedback"]
    assert turn.call_weights == (1, 0, 0)
    assert label_turns(short, "off")[0].right


@pytest.mark.parametrize("missing", [0, 1, 2])
@pytest.mark.parametrize("backwards", [False, True])
def test_a_stand_in_for_a_missing_answer_is_no_result(missing, backwards):
    asked = [{"id": str(n), "name": "f", "arguments": {"n": n}} for n in range(3)]
    answers = [
        {"role": "tool", "tool_call_id": str(n), "content": "[1]"} for n in range(3) if n != missing
    ]
    entries = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "tool_calls": asked},
        *(reversed(answers) if backwards else answers),
        {"role": "assistant", "content": "done"},
    ]
    found = Trajectory("t", (), dialogue(entries))
    assert from_json(to_json(found)) == found
    for rules in ("structured", "reference", "structured+static"):
        turn = label_turns(found, rules)[0]
        verdicts = [call.verdict for call in turn.calls]
        assert verdicts == ["no_feedback" if n == missing else "keep" for n in range(3)]
        assert turn.calls[missing].weight == 0
    assert label_turns(found, "off")[0].right


def test_more_answers_than_calls_belong_to_the_last_call(parallel):
    long = list(parallel.messages)
    long.insert(5, Message("tool", "Error: invalid name"))
    turn = label_turns(dataclasses.replace(parallel, messages=tuple(long)), "structured")[0]
    assert [call.verdict for call in turn.calls] == ["keep", "error", "error"]


def test_a_turn_of_wrong_calls_only_is_wrong(parallel):
    messages = list(parallel.messages)
    messages[2] = messages[4] = messages[3]
    turn = label_turns(dataclasses.replace(parallel, messages=tuple(messages)), "structured")[0]
    assert (turn.verdict, turn.kept, turn.call_weights) == ("error", False, ())


@pytest.mark.parametrize("kind", ["tokenizer", "llama_like"])
@pytest.mark.parametrize("samples", ["per_turn", "per_trajectory"])
def test_only_the_wrong_call_is_masked_by_its_span(parallel, samples, kind, request):
    tokenizer = request.getfixturevalue(kind)
    labels = label_turns(parallel, "structured")
    example = examples_of(parallel, labels, tokenizer, samples)[0]
    text = trained_text(example, tokenizer)
    assert "love" in text and "Ann" in text
    assert "hate" not in text
    whole = examples_of(parallel, label_turns(parallel, "off"), tokenizer, samples)[0]
    assert whole.ids == example.ids
    lost = [
        i for i, (a, b) in enumerate(zip(whole.weights, example.weights, strict=True)) if a != b
    ]
    assert lost == list(range(lost[0], lost[-1] + 1))  # one piece, the span of the call
    assert "hate" in tokenizer.decode([example.ids[i] for i in lost])
    assert example.weights[-1] > 0 if samples == "per_turn" else True


def test_a_call_that_weighs_less_keeps_its_key_tokens(parallel, tokenizer):
    policy = MaePolicy("structured", (), {"parameter_hallucination": "down-weight"}, 0.25)
    labels = label_turns(parallel, policy)
    light = examples_of(parallel, labels, tokenizer, mode="paper")[0]
    heavy = examples_of(parallel, label_turns(parallel, "off"), tokenizer, mode="paper")[0]
    factors = {b / a for a, b in zip(heavy.weights, light.weights, strict=True) if a}
    assert factors == {1.0, 0.25}
    assert light.tags["key_tokens"] == heavy.tags["key_tokens"]


@pytest.mark.parametrize("samples", ["per_turn", "per_trajectory"])
def test_a_whole_turn_can_weigh_less(trajectory, tokenizer, samples):
    policy = MaePolicy("structured", (), {"parameter_hallucination": "down-weight"}, 0.25)
    labels = label_turns(trajectory, policy)
    assert [label.weight for label in labels] == [0.25, 1, 1]
    examples = examples_of(trajectory, labels, tokenizer, samples)
    weights = {weight for example in examples for weight in example.weights}
    assert weights == {0, 0.25, 1}


def test_only_turns_that_are_right_throughout_become_prompts(parallel, tokenizer):
    renderer = renderer_of(tokenizer)
    for rules, number in (("structured", 0), ("off", 1)):
        labels = label_turns(parallel, rules)
        prompts, _ = build_prompts(parallel, labels, renderer, max_length=4096)
        assert len(prompts) == number


def test_a_dropped_call_leaves_the_dialogue_with_its_answer(parallel):
    policy = policy_of(MaeConfig(category_actions=("parameter_hallucination=drop",)))
    left, labels = without_dropped(parallel, label_turns(parallel, policy))
    assert left.messages[1].calls == (LOVE, ANN)
    assert [m.content for m in left.messages if m.role == "tool"] == ['["Love is kind"]', "ann_1"]
    assert [(x.message, x.turn, len(x.calls)) for x in labels] == [(1, 1, 2), (4, 2, 0)]
    assert labels[0].call_weights == ()


def test_a_dropped_turn_leaves_the_dialogue_and_the_others_keep_their_number(trajectory, tokenizer):
    policy = policy_of(MaeConfig(category_actions=("parameter_hallucination=drop",)))
    left, labels = without_dropped(trajectory, label_turns(trajectory, policy))
    assert left.messages == (trajectory.messages[0], *trajectory.messages[3:])
    assert [(x.message, x.turn) for x in labels] == [(1, 2), (3, 3)]
    examples = examples_of(left, labels, tokenizer, "per_turn")
    assert [example.id for example in examples] == ["Turn 2: t1", "Turn 3: t1"]
    assert all("unexpected" not in tokenizer.decode(example.ids) for example in examples)


def test_nothing_is_copied_where_nothing_is_dropped(trajectory):
    labels = label_turns(trajectory, "structured")
    left, same = without_dropped(trajectory, labels)
    assert left is trajectory and same == labels


def test_every_call_is_counted_by_its_category(parallel):
    counts = LabelCounts()
    counts.add(label_turns(parallel, "structured"))
    report = counts.report()
    assert report["calls"] == {"all_right": 2, "parameter_hallucination": 1}
    assert report["categories"] == {"parameter_hallucination": 1}
    assert report["actions"] == {"mask": 1}
    assert (report["turns"], report["kept"], report["trajectories_with_error"]) == (2, 2, 1)
