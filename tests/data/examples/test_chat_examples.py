"""Examples in a chat template: what is trained, and what is refused."""

import pytest
from template_cases import make_tokenizer, renderer_of

from tl_jax.calls.call import Parameter, ToolCall, ToolSpec
from tl_jax.config import KeyTokenConfig
from tl_jax.data.examples.build import build_examples, build_prompts
from tl_jax.data.mae.labels import TurnLabel, label_turns
from tl_jax.data.trajectory import Message, Trajectory
from tl_jax.rewards.rules import score

TOOLS = tuple(
    ToolSpec(name, "Searches.", (Parameter("query", "string", "What.", True),))
    for name in ("search_page", "search_user")
)
TURNS = (
    Message("user", "Who wrote it?"),
    Message("assistant", "", (ToolCall("search_page", {"q": "it"}),)),
    Message("tool", "unknown parameter q <|im_end|>", status="error"),
    Message("assistant", "I try again.", (ToolCall("search_page", {"query": "it"}),)),
    Message("tool", '["Ada"]', status="ok"),
    Message("assistant", "Ada did."),
)
ROW = Trajectory("t", TOOLS, TURNS)


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer("chatml")


def build(tokenizer, row=ROW, *, samples="per_turn", mode="paper", template="chat", **key_tokens):
    renderer = renderer_of(tokenizer, template, samples)
    labels = label_turns(row, "structured")
    weights = KeyTokenConfig(mode=mode, **key_tokens)
    examples, _ = build_examples(row, labels, renderer, key_tokens=weights, max_length=4096)
    return examples, build_prompts(row, labels, renderer, max_length=4096)[0]


def trained(example, tokenizer):
    """Runs of trained tokens as text."""
    runs, run = [], []
    for token, weight in [*zip(example.ids, example.weights, strict=True), (0, 0)]:
        if weight:
            run.append(token)
        elif run:
            runs.append(tokenizer.decode(run, keep_control=True))
            run = []
    return runs


RIGHT_CALL = (
    'I try again.\n<tool_call>\n{"name": "search_page", "arguments": {"query": "it"}}\n'
    "</tool_call><|im_end|>"
)


def test_only_right_replies_and_their_stop_tokens_are_trained(tokenizer):
    examples, prompts = build(tokenizer)
    assert [trained(e, tokenizer) for e in examples] == [[RIGHT_CALL], ["Ada did.<|im_end|>"]]
    (example,), _ = build(tokenizer, samples="per_trajectory")
    assert trained(example, tokenizer) == [RIGHT_CALL, "Ada did.<|im_end|>"]
    (prompt,) = prompts
    for of in (examples[0], example):
        size = len(prompt.ids)
        assert of.ids[:size] == prompt.ids and of.weights[size] and not of.weights[size - 1]


@pytest.mark.parametrize("family", ["chatml", "headers", "brackets", "thinking"])
def test_key_tokens_stand_where_the_names_of_the_tools_part(family):
    tokenizer = make_tokenizer(family)
    examples, _ = build(tokenizer, w_max=5.0)
    keys = [i for i, weight in enumerate(examples[0].weights) if weight > 1]
    assert keys
    # one at the name's beginning, one where page and user part
    text = tokenizer.decode(examples[0].ids[keys[-1] :], keep_control=True)
    assert text.startswith("page") or text.startswith("_page")
    before = tokenizer.decode(examples[0].ids[: keys[0]], keep_control=True)
    assert before.endswith(('"name": "', '"name": '))


@pytest.mark.parametrize("family", ["chatml", "headers", "brackets", "thinking"])
def test_who_repeats_the_data_is_all_right(family):
    tokenizer = make_tokenizer(family)
    examples, prompts = build(tokenizer)
    (prompt,) = prompts
    example = next(example for example in examples if example.id == prompt.id)
    reply = example.ids[len(prompt.ids) : -1]
    renderer = renderer_of(tokenizer, "chat")
    call = renderer.call_text(tokenizer.decode(reply, keep_control=True))
    found = score(call, prompt.golds[0], prompt.tools, style=renderer.call_style)
    assert found.category == "all_right"


def test_a_reply_that_a_text_rewrites_is_trained_in_one_of_its_own():
    tokenizer = make_tokenizer("thinking")
    alone, prompts = build(tokenizer)
    assert [trained(e, tokenizer) for e in alone] == [[RIGHT_CALL], ["Ada did.<|im_end|>"]]
    examples, _ = build(tokenizer, samples="per_trajectory")
    assert [e.ids for e in examples] == [e.ids for e in alone]
    assert [e.weights for e in examples] == [e.weights for e in alone]
    assert [e.id for e in examples] == ["Turn 2: t", "t"]
    assert examples[0].ids[: len(prompts[0].ids)] == prompts[0].ids


@pytest.mark.parametrize("template", ["chat", "released"])
@pytest.mark.parametrize("samples", ["per_turn", "per_trajectory"])
def test_an_empty_reply_is_not_trained_and_does_not_cost_its_row(tokenizer, template, samples):
    empty = (TURNS[0], Message("assistant", ""), Message("user", "Well?"))
    row = Trajectory("t", TOOLS, (*empty, *TURNS[3:], Message("user", "And?"), empty[1]))
    examples, _ = build(tokenizer, row, samples=samples, template=template)
    texts = [text for example in examples for text in trained(example, tokenizer)]
    assert len(texts) == 2 and "search_page" in texts[0] and "Ada did." in texts[1]
    hollow = Trajectory("t", TOOLS, empty[:2])
    assert build(tokenizer, hollow, samples=samples, template=template) == ([], [])


@pytest.mark.parametrize("samples", ["per_turn", "per_trajectory"])
def test_a_dialogue_that_opens_with_a_greeting_is_trained_without_it(tokenizer, samples):
    row = Trajectory("t", TOOLS, (Message("assistant", "Hello!"), *TURNS))
    examples, prompts = build(tokenizer, row, samples=samples)
    texts = [text for example in examples for text in trained(example, tokenizer)]
    assert texts == [RIGHT_CALL, "Ada did.<|im_end|>"]
    assert all("assistant\nHello!<|im_end|>" in prompt.text for prompt in prompts) and prompts
    alone = Trajectory("t", TOOLS, row.messages[:1])
    assert build(tokenizer, alone, samples=samples) == ([], [])


@pytest.mark.parametrize("samples", ["per_turn", "per_trajectory"])
def test_a_reply_of_which_the_template_leaves_nothing_is_refused(tokenizer, samples):
    row = Trajectory("t", (), (TURNS[0], Message("assistant", "")))
    renderer = renderer_of(tokenizer, "chat", samples)
    off = KeyTokenConfig(mode="off")
    kept = [TurnLabel(1, 1, "keep")]
    with pytest.raises(ValueError, match="turn 1 has no trained token: the reply is empty"):
        build_examples(row, kept, renderer, key_tokens=off, max_length=4096)


def test_normalised_replies_sum_to_one(tokenizer):
    examples, _ = build(tokenizer, normalise="reply")
    assert [sum(e.weights) for e in examples] == [pytest.approx(1), pytest.approx(1)]
