"""Thoughts are a field of their turn, wherever a source keeps them."""

import pytest

from tl_jax.data.importers.chat import dialogue
from tl_jax.data.importers.thoughts import split_thoughts
from tl_jax.data.trajectory import Message


def user():
    return {"role": "user", "content": "Weather?"}


@pytest.mark.parametrize(
    "more",
    [
        {"reasoning_content": "Hm."},
        {"reasoning": "Hm.", "reasoning_content": "Hm."},
        {"thinking": " Hm.\n"},
        {"chain_of_thought": "Hm."},
        {"additional_kwargs": {"reasoning_content": "Hm.", "other": 1}},
        {"reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]},
        {"reasoning": {"summary": [{"type": "summary_text", "text": "Hm."}]}},
        {"content": "<think>\nHm.\n</think>\n\n3."},
        {"content": "Hm.\n</think>\n\n3."},
        {"content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "3."}]},
        {"content": [{"type": "reasoning", "text": "Hm."}, "3."]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}, "3."]},
    ],
)
def test_thoughts_under_any_key_are_no_visible_text(more):
    found = dialogue([user(), {"role": "assistant", "content": "3.", **more}])
    assert found[1] == Message("assistant", "3.", thoughts="Hm.")


def test_thoughts_are_read_from_every_case(cases):
    rows = {**cases("thought_keys"), **cases("sharegpt_thought")}
    for one in rows.values():
        call = next(m for m in one.messages if m.calls)
        assert call.content == "" and call.thoughts.startswith("The user wants") and not one.unread
        assert one.messages[-1].content == "3 degrees."


def test_a_turn_of_thoughts_belongs_to_the_turn_after_it():
    entries = [user(), {"role": "reasoning", "content": "Hm."}]
    assert dialogue([*entries, {"role": "assistant", "content": "3."}])[1:] == (
        Message("assistant", "3.", thoughts="Hm."),
    )
    call = {"role": "function_call", "content": '{"name": "get_weather", "arguments": {}}'}
    assert dialogue([*entries, call])[1].thoughts == "Hm."


@pytest.mark.parametrize(
    ("text", "thoughts", "visible"),
    [
        ("<think></think>Yes.", "", "Yes."),
        ("<think>a</think> <think>b</think>c", "a\nb", "c"),
        ("<think>one `</think>` more</think>c", "one `</think>` more", "c"),
        ("<think>cut off", "cut off", ""),
        ("Yes.\n<thinking>\nb\n</thinking>\nNo.", "b", "Yes.\nNo."),
        ("[THINK]a[/THINK]c", "a", "c"),
        ("◁think▷a◁/think▷c", "a", "c"),
        ("<|begin_of_thought|>a<|end_of_thought|>c", "a", "c"),
        ("<|inner_prefix|>a<|inner_suffix|>c", "a", "c"),
        ("<|channel>thought\na\n<channel|>c", "a", "c"),
        ("It closes with </think> then.", "", None),
        ("`</think>` closes.", "", None),
        ("```\n<think>x</think>\n```", "", None),
        ("Write <think>x</think>.", "", None),
        ("Yes. ", "", None),
    ],
)
def test_tags_at_the_head_of_a_line_hold_thoughts_and_those_in_prose_do_not(
    text, thoughts, visible
):
    assert split_thoughts(text) == (thoughts, text if visible is None else visible)


@pytest.mark.parametrize(
    "text",
    [
        "<|begin_of_thought|>a<|end_of_thought|>\n\n<|begin_of_solution|>\nc\n<|end_of_solution|>",
        "<|START_THINKING|>a<|END_THINKING|><|START_RESPONSE|>c<|END_RESPONSE|>",
        "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>c"
        "<|return|>",
    ],
)
def test_marks_of_a_family_round_thought_and_answer_are_taken_away(text):
    found = dialogue([user(), {"role": "assistant", "content": text}])
    assert found[1] == Message("assistant", "c", thoughts="a")


@pytest.mark.parametrize(
    "text", ["x\n" + "<think>\n" * 60_000, "<think>a</think>" * 30_000, "</think>" * 60_000]
)
def test_hostile_thoughts_are_read_in_linear_time(text):
    assert split_thoughts(text) is not None
