"""Examples and prompts: which tokens are trained, what is left out, what stays equal."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from template_cases import renderer_of

from tl_jax.calls.call import ToolCall
from tl_jax.config import KeyTokenConfig
from tl_jax.data.examples.build import build_examples, build_prompts
from tl_jax.data.examples.jsonl import prompt_from_json, prompt_lines
from tl_jax.data.examples.record import pack_example, unpack_example
from tl_jax.data.examples.truncate import ELIDED
from tl_jax.data.mae.labels import label_turns
from tl_jax.data.mae.policy import MaePolicy
from tl_jax.data.trajectory import Message, Trajectory

OFF = KeyTokenConfig(mode="off")


def build(trajectory, tokenizer, *, key_tokens=OFF, max_length=4096, **form):
    renderer, limit = renderer_of(tokenizer, **form), {"max_length": max_length}
    labels = label_turns(trajectory, "structured")
    examples, skipped = build_examples(trajectory, labels, renderer, key_tokens=key_tokens, **limit)
    prompts, _ = build_prompts(trajectory, labels, renderer, **limit)
    return examples, prompts, skipped


def trained_text(example, tokenizer):
    """Runs of trained tokens as text, control tokens shown."""
    runs, run = [], []
    for token, weight in zip(example.ids, example.weights, strict=True):
        if weight:
            run.append(token)
        if run and (not weight or token == tokenizer.eos_id):
            runs.append(tokenizer.decode(run, keep_control=True))
            run = []
    return runs


@pytest.mark.parametrize("template", ["released", "script"])
def test_a_sample_per_turn_trains_its_reply_and_the_stop(trajectory, tokenizer, template):
    examples, _, _ = build(trajectory, tokenizer, template=template)
    assert [example.id for example in examples] == ["Turn 2: t1", "Turn 3: t1"]
    released = template == "released"
    call = "search_advice(query = 'love', limit = 2) "
    if not released:
        call = 'search_advice(query="love", limit=2)'
    assert trained_text(examples[0], tokenizer) == [f" {call}<|eos|>"]
    for example in examples:
        assert example.ids.count(tokenizer.eos_id) == 1 and example.ids[-1] == tokenizer.eos_id
        assert example.weights[0] == 0 and example.weights[-1] == 1
        # the wrong call and its feedback stay in the context
        assert "unexpected keyword" in tokenizer.decode(example.ids)


def test_a_sample_per_trajectory_trains_its_kept_replies(trajectory, tokenizer):
    (example,), _, _ = build(trajectory, tokenizer, samples="per_trajectory")
    assert example.id == "t1"
    assert trained_text(example, tokenizer) == [
        " search_advice(query = 'love', limit = 2) <|eos|>",
        " finish(answer = 'It\\'s patient') <|eos|>",
    ]
    # the untrained wrong reply ends with a stop as well
    assert example.ids.count(tokenizer.eos_id) == 3
    assert example.tags["turns"] == "2,3"


@pytest.mark.parametrize("samples", ["per_turn", "per_trajectory"])
def test_control_tokens_in_tool_results_stay_text(trajectory, tokenizer, samples):
    examples, _, _ = build(trajectory, tokenizer, samples=samples)
    last = examples[-1]
    shown = tokenizer.decode(last.ids)
    assert "Love is <|eos|> patient" in shown


@pytest.mark.parametrize("samples", ["per_turn", "per_trajectory"])
def test_prompt_and_reply_make_the_example(trajectory, tokenizer, samples):
    examples, prompts, _ = build(trajectory, tokenizer, samples=samples)
    assert [prompt.golds[0].name for prompt in prompts] == ["search_advice", "finish"]
    for prompt in prompts:
        example = examples[0]
        if samples == "per_turn":
            example = next(e for e in examples if e.id == prompt.id)
        size = len(prompt.ids)
        assert example.ids[:size] == prompt.ids
        assert example.weights[size] == 1 and example.weights[size - 1] == 0
        reply = example.weights[size : size + prompt.reply_tokens]
        assert all(reply) and example.ids[size + len(reply) - 1] == tokenizer.eos_id
        assert prompt.text.endswith("\nAssistant:")


@pytest.mark.parametrize("samples", ["per_turn", "per_trajectory"])
def test_a_prompt_made_alone_has_the_ids_of_training(trajectory, tokenizer, samples):
    _, prompts, _ = build(trajectory, tokenizer, samples=samples)
    for prompt, cut in zip(prompts, (3, 5), strict=True):
        renderer = renderer_of(tokenizer, samples=samples)
        alone = renderer.prompt_ids(trajectory.tools, trajectory.messages[:cut])
        assert alone == prompt.ids


@pytest.mark.parametrize("marks_start", [False, True])
def test_results_written_apart_from_the_reply_are_those_of_training(
    trajectory, tokenizer, llama_like, marks_start
):
    used = llama_like if marks_start else tokenizer
    (example,), prompts, _ = build(trajectory, used, samples="per_trajectory")
    search, finish = prompts
    results = [trajectory.messages[4].content]
    before = (Message("user", "-"),)
    after = renderer_of(used).feedback_ids(trajectory.tools, before, search.golds, results)
    start = len(search.ids) + search.reply_tokens
    assert example.ids[start : start + len(after)] == after
    assert start + len(after) == len(finish.ids)


@pytest.mark.parametrize("samples", ["per_turn", "per_trajectory"])
def test_a_tokenizer_that_marks_the_start_of_a_text_is_used_right(trajectory, llama_like, samples):
    weighted = KeyTokenConfig(mode="paper", w_max=9.0)
    examples, prompts, _ = build(trajectory, llama_like, samples=samples, key_tokens=weighted)
    assert examples[0].ids[0] == llama_like.bos_id == 1
    for prompt, cut in zip(prompts, (3, 5), strict=True):
        before = trajectory.messages[:cut]
        assert prompt.ids == renderer_of(llama_like, samples=samples).prompt_ids(
            trajectory.tools, before
        )
        if samples == "per_turn":
            assert prompt.ids == llama_like.fast(prompt.text)["input_ids"]
    example, size = examples[0], len(prompts[0].ids)
    reply = example.ids[size : example.ids.index(llama_like.eos_id, size)]
    assert llama_like.decode(reply) == " search_advice(query = 'love', limit = 2) "
    assert llama_like.decode(reply[:1]).startswith(" s")
    assert example.weights[size] > 1


texts = st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), max_size=30
) | st.sampled_from(["", " ", "\n", "x\n", "  \n\n y", "Assistant:", "<|eos|>"])


@settings(max_examples=60, deadline=None)
@given(query=texts, values=st.lists(texts, min_size=1, max_size=3), feedback=texts)
def test_any_text_keeps_prompt_plus_reply_equal_to_the_example(
    trajectory, tokenizer, query, values, feedback
):
    messages = [Message("user", query)]
    for value in values:
        call = ToolCall("search_advice", {"query": value})
        messages += [Message("assistant", "", (call,)), Message("tool", feedback, status="ok")]
    made = Trajectory("h", trajectory.tools, tuple(messages))
    for samples in ("per_turn", "per_trajectory"):
        examples, prompts, skipped = build(made, tokenizer, samples=samples)
        assert not skipped and len(prompts) == len(values)
        for number, prompt in enumerate(prompts):
            example = examples[number if samples == "per_turn" else 0]
            assert example.ids[: len(prompt.ids)] == prompt.ids
            cut = 2 * number + 1
            renderer = renderer_of(tokenizer, samples=samples)
            alone = renderer.prompt_ids(made.tools, messages[:cut])
            assert prompt.ids == alone
            assert tokenizer.decode(prompt.ids, keep_control=True) == prompt.text


@pytest.mark.parametrize("samples", ["per_turn", "per_trajectory"])
def test_long_samples_lose_the_oldest_feedback_first(trajectory, tokenizer, samples):
    messages = list(trajectory.messages)
    messages[2] = dataclasses.replace(messages[2], content="TypeError: " + "old " * 200)
    messages[4] = dataclasses.replace(messages[4], content="new " * 50)
    long = dataclasses.replace(trajectory, messages=tuple(messages))
    full, _, _ = build(long, tokenizer, samples=samples)
    limit = len(full[-1].ids) - 20
    short, prompts, skipped = build(long, tokenizer, samples=samples, max_length=limit)
    assert not skipped and len(short[-1].ids) <= limit
    shown = tokenizer.decode(short[-1].ids)
    assert shown.count(ELIDED) == 1 and "Output: TypeError: old" in shown and "new " * 50 in shown
    assert short[-1].tags["elided"] == "1"
    assert trained_text(short[-1], tokenizer) == trained_text(full[-1], tokenizer)
    assert short[-1].ids[: len(prompts[-1].ids)] == prompts[-1].ids


def test_what_is_still_too_long_is_left_out_and_told(trajectory, tokenizer):
    examples, prompts, skipped = build(trajectory, tokenizer, max_length=20)
    assert not examples and not prompts
    assert [entry.id for entry in skipped] == ["Turn 2: t1", "Turn 3: t1"]
    assert "max_length=20" in skipped[0].reason


def test_a_masked_sample_that_is_too_long_ends_with_an_earlier_kept_turn(trajectory, tokenizer):
    (full,), _, _ = build(trajectory, tokenizer, samples="per_trajectory")
    turns = full.tags["turns"].split(",")
    ends = [i + 1 for i, token in enumerate(full.ids) if token == tokenizer.eos_id]
    messages = list(trajectory.messages)
    messages[-1] = dataclasses.replace(
        messages[-1], calls=(ToolCall("finish", {"answer": "word " * 300}),)
    )
    long = dataclasses.replace(trajectory, messages=tuple(messages))
    (short,), prompts, skipped = build(
        long, tokenizer, samples="per_trajectory", max_length=ends[-1]
    )
    assert short.ids == full.ids[: ends[-2]] and short.weights == full.weights[: ends[-2]]
    assert short.tags["turns"] == turns[0]
    assert [entry.id for entry in skipped] == [f"Turn {turns[1]}: t1"]
    assert [prompt.id for prompt in prompts] == [f"Turn {turns[0]}: t1"]


@pytest.mark.parametrize("samples", ["per_turn", "per_trajectory"])
def test_every_kept_turn_is_trained_or_told(trajectory, tokenizer, samples):
    (full,), _, _ = build(trajectory, tokenizer, samples="per_trajectory")
    for limit in range(20, len(full.ids) + 10, 25):
        examples, _, skipped = build(trajectory, tokenizer, samples=samples, max_length=limit)
        trained = [turn for example in examples for turn in example.tags["turns"].split(",")]
        lost = [entry.id.removeprefix("Turn ").partition(":")[0] for entry in skipped]
        assert sorted([*trained, *lost]) == ["2", "3"]


def test_key_weights_stand_on_the_reply_only(trajectory, tokenizer):
    weighted = KeyTokenConfig(mode="paper", w_max=9.0)
    examples, prompts, _ = build(trajectory, tokenizer, key_tokens=weighted)
    size = len(prompts[0].ids)
    reply = examples[0].weights[size:]
    assert max(reply) > 1 and min(reply) == 1 and not any(examples[0].weights[:size])
    assert sum(weight > 1 for weight in reply) == int(examples[0].tags["key_tokens"]) == 2


@pytest.mark.parametrize("samples", ["per_turn", "per_trajectory"])
def test_normalised_replies_sum_to_one(trajectory, tokenizer, samples):
    config = KeyTokenConfig(mode="code", normalise="reply")
    examples, _, _ = build(trajectory, tokenizer, samples=samples, key_tokens=config)
    assert sum(sum(example.weights) for example in examples) == pytest.approx(2)


def test_nothing_kept_makes_no_example(trajectory, tokenizer):
    messages = (*trajectory.messages[:2], Message("tool", "TypeError: x"))
    failed = dataclasses.replace(trajectory, messages=messages)
    for samples in ("per_turn", "per_trajectory"):
        assert build(failed, tokenizer, samples=samples) == ([], [], [])


def test_plain_text_turns_are_trained_but_ask_no_prompt(trajectory, tokenizer):
    messages = (Message("user", "hi"), Message("assistant", "Hello."))
    plain = dataclasses.replace(trajectory, messages=messages)
    (example,), prompts, _ = build(
        plain, tokenizer, key_tokens=KeyTokenConfig(mode="code", w_max=9.0)
    )
    assert trained_text(example, tokenizer) == [" Hello.<|eos|>"]
    assert set(example.weights) == {0, 1} and not prompts


def test_right_turns_in_words_ask_prompts_without_a_gold_call_if_wanted(trajectory, tokenizer):
    messages = list(trajectory.messages)
    messages[5:] = [
        Message("assistant", "Love is kind."),
        Message("user", "And hate?"),
        Message("assistant", "search_advice(query = ", status="error"),
    ]
    mixed = dataclasses.replace(trajectory, messages=tuple(messages))
    policy = MaePolicy("structured", actions={"format_error": "keep"})
    labels = label_turns(mixed, policy)
    assert labels[-1].right  # trained, but no right answer in words
    renderer, limit = renderer_of(tokenizer), {"max_length": 4096}
    calls, _ = build_prompts(mixed, labels, renderer, **limit)
    both, _ = build_prompts(mixed, labels, renderer, no_call=True, **limit)
    assert [prompt.id for prompt in calls] == ["Turn 2: t1"] and both[:1] == calls
    assert [(p.id, p.golds, p.goal) for p in both[1:]] == [("Turn 3: t1", (), ())]
    assert [p.reply for p in both] == ["", "Love is kind."]
    messages.insert(6, Message("assistant", "And blind."))
    longer = dataclasses.replace(mixed, messages=tuple(messages))
    without_tools = dataclasses.replace(mixed, tools=())
    for other, turns in ((longer, [2, 4]), (without_tools, [2])):
        labels_of = label_turns(other, policy)
        found, _ = build_prompts(other, labels_of, renderer, no_call=True, **limit)
        assert [prompt.id for prompt in found] == [f"Turn {turn}: t1" for turn in turns]
    examples, _ = build_examples(mixed, labels, renderer, key_tokens=OFF, **limit)
    example = next(e for e in examples if e.id == "Turn 3: t1")
    assert example.ids[: len(both[1].ids)] == both[1].ids
    assert len(example.ids) == len(both[1].ids) + both[1].reply_tokens


def test_the_goal_is_the_last_right_call_before_the_user_speaks_again(trajectory, tokenizer):
    search, finish = trajectory.messages[3:5], trajectory.messages[5]
    wrong = trajectory.messages[1:3]
    asked = (Message("user", "more"), *search, finish)
    answered = Message("assistant", "That is it.")
    for messages, goals in (
        (trajectory.messages, ["finish", "finish"]),
        ((trajectory.messages[0], *search, *search, answered), ["search_advice"] * 2),
        (
            (trajectory.messages[0], *search, answered, *asked),
            ["search_advice", "finish", "finish"],
        ),
        ((trajectory.messages[0], *search, *wrong, answered), ["search_advice"]),
    ):
        _, prompts, _ = build(dataclasses.replace(trajectory, messages=messages), tokenizer)
        assert [prompt.goal[0].name for prompt in prompts] == goals


def test_examples_and_prompts_survive_their_files(trajectory, tokenizer):
    examples, prompts, _ = build(trajectory, tokenizer)
    assert unpack_example(pack_example(examples[0])) == examples[0]
    (line,) = prompt_lines(prompts[:1])
    again = prompt_from_json(json.loads(line))
    assert list(prompt_lines([again])) == [line]
    assert again.golds == prompts[0].golds
