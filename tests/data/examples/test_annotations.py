"""The tags of an example say which tokens are key and what happened to its turns."""

import pytest
from template_cases import renderer_of

from tl_jax.config import KeyTokenConfig
from tl_jax.data.examples.annotations import TurnAnnotation, read_keys, read_turns, to_tags
from tl_jax.data.examples.build import build_examples
from tl_jax.data.mae.labels import label_turns, without_dropped
from tl_jax.data.mae.policy import MaePolicy


def build(trajectory, tokenizer, samples, *, rules="structured", labels=None, **settings):
    examples, _ = build_examples(
        trajectory,
        labels or label_turns(trajectory, rules),
        renderer_of(tokenizer, samples=samples),
        key_tokens=KeyTokenConfig(**settings),
        max_length=4096,
    )
    return examples


def test_what_is_written_is_read():
    marks = (
        TurnAnnotation(1, 3, 9, True, 0.5),
        TurnAnnotation(4, 9, 12, False, 0.0, "error", "é", '"a,b"'),
    )
    tags = to_tags([3, 7], marks)
    assert read_keys(tags) == {3, 7} and read_turns(tags) == marks
    assert all(isinstance(value, str) for value in tags.values())
    assert read_keys(to_tags([], ())) == frozenset() and read_turns(to_tags([], ())) == ()


@pytest.mark.parametrize("samples", ["per_turn", "per_trajectory"])
@pytest.mark.parametrize("mode", ["paper", "extended", "off"])
def test_the_tokens_marked_as_key_are_those_that_weigh_more(trajectory, tokenizer, samples, mode):
    for example in build(trajectory, tokenizer, samples, mode=mode):
        keys = read_keys(example.tags)
        assert keys == {i for i, weight in enumerate(example.weights) if weight > 1}
        assert len(keys) == sum(map(int, example.tags["key_tokens"].split(",")))


def test_key_tokens_are_marked_where_their_weight_does_not_show_it(trajectory, tokenizer):
    (example,) = build(trajectory, tokenizer, "per_trajectory", mode="paper", w_max=1.0)
    assert len(read_keys(example.tags)) == 3 and max(example.weights) == 1


@pytest.mark.parametrize("kind", ["tokenizer", "llama_like", "joining"])
@pytest.mark.parametrize("samples", ["per_turn", "per_trajectory"])
def test_the_turns_of_an_example_are_marked_with_their_verdict(trajectory, kind, samples, request):
    tokenizer = request.getfixturevalue(kind)
    examples = build(trajectory, tokenizer, samples)
    # a kept turn that another example trains is context here
    trained = [[2], [3]] if samples == "per_turn" else [[2, 3]]
    for example, turns in zip(examples, trained, strict=True):
        wrong, *right = read_turns(example.tags)
        assert (wrong.turn, wrong.trained, wrong.verdict) == (1, False, "error")
        label = label_turns(trajectory, "structured")[0]
        assert (wrong.category, wrong.reason) == (label.category, label.reason) != ("", "")
        text = tokenizer.decode(example.ids[wrong.start : wrong.end])
        assert "search_advice(q = 'love')" in text and "Output" not in text
        assert not any(example.weights[wrong.start : wrong.end])
        assert [(mark.turn, mark.trained, mark.verdict) for mark in right] == [
            (turn, True, "keep") for turn in turns
        ]
        marked = {i for mark in right for i in range(mark.start, mark.end)}
        assert marked == {i for i, weight in enumerate(example.weights) if weight}


@pytest.mark.parametrize("samples", ["per_turn", "per_trajectory"])
def test_a_turn_that_weighs_less_is_marked_with_its_factor(trajectory, tokenizer, samples):
    policy = MaePolicy("structured", actions={"parameter_hallucination": "down-weight"})
    examples = build(trajectory, tokenizer, samples, rules=policy, mode="off")
    mark = read_turns(examples[0].tags)[0]
    assert (mark.turn, mark.trained, mark.weight, mark.verdict) == (1, True, 0.5, "error")
    assert set(examples[0].weights[mark.start : mark.end]) == {0.5}


@pytest.mark.parametrize("samples", ["per_turn", "per_trajectory"])
def test_turns_keep_their_number_where_others_leave_the_dialogue(trajectory, tokenizer, samples):
    policy = MaePolicy("structured", actions={"parameter_hallucination": "drop"})
    kept, labels = without_dropped(trajectory, label_turns(trajectory, policy))
    examples = build(kept, tokenizer, samples, labels=labels)
    marks = [mark for example in examples for mark in read_turns(example.tags)]
    assert [(mark.turn, mark.trained) for mark in marks] == [(2, True), (3, True)]
