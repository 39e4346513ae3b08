"""Chat messages: every shape of a call, and answers in the order of their calls."""

import json

import pytest

from tl_jax.calls.call import ToolCall
from tl_jax.data.importers.chat import content_text, dialogue
from tl_jax.data.trajectory import Message
from tl_jax.errors import RowError

CALL = ToolCall("f", {"a": [1, "x"]})
TEXT = json.dumps({"a": [1, "x"]})


def user(text="hi"):
    return {"role": "user", "content": text}


def calls(*ids, name="f", **more):
    found = [
        {"id": i, "type": "function", "function": {"name": name, "arguments": {"id": i}}}
        for i in ids
    ]
    return {"role": "assistant", "content": None, "tool_calls": found, **more}


def answer(text, call_id=None):
    return {"role": "tool", "content": text, **({"tool_call_id": call_id} if call_id else {})}


def contents(entries):
    return [message.content for message in dialogue(entries) if message.role == "tool"]


@pytest.mark.parametrize(
    "entry",
    [
        {"tool_calls": [{"function": {"name": "f", "arguments": TEXT}}]},
        {"tool_calls": [{"function": {"name": "f", "arguments": {"a": [1, "x"]}}}]},
        {"tool_calls": [{"function": {"name": "f", "arguments": json.dumps(TEXT)}}]},
        {"tool_calls": [{"function": {"name": "f", "arguments": "{'a': [1, 'x']}"}}]},
        {"tool_calls": [{"function": "f", "args": {"a": [1, "x"]}, "id": None}]},
        {"tool_calls": [{"name": "f", "arguments": {"a": [1, "x"]}, "requestor": "assistant"}]},
        {"tool_calls": json.dumps([{"name": "f", "arguments": {"a": [1, "x"]}}])},
        {"function_call": {"name": "f", "arguments": TEXT}},
        {"content": [{"type": "tool_call", "value": f'{{"name": "f", "arguments": {TEXT}}}'}]},
        {"content": [{"type": "tool_use", "id": "1", "name": "f", "input": {"a": [1, "x"]}}]},
        {"role": "function_call", "content": f'{{"name": "f", "arguments": {TEXT}}}'},
        {"role": "tool_call", "content": f'[{{"name": "f", "arguments": {TEXT}}}]'},
    ],
)
def test_every_shape_of_a_call_is_read(entry):
    assert dialogue([user(), {"role": "assistant", "content": None, **entry}])[1] == Message(
        "assistant", "", (CALL,)
    )


@pytest.mark.parametrize("arguments", ["", " ", None, {}, "{}"])
def test_no_arguments_are_an_empty_object(arguments):
    entry = {"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}
    entry["tool_calls"][0]["function"]["arguments"] = arguments
    assert dialogue([entry])[0].calls == (ToolCall("f"),)


@pytest.mark.parametrize("arguments", ['{"a": ', "[1]", 3, '{"a": NaN}', "{'a': x}", '"\\ud800"'])
def test_a_call_that_cannot_be_read_is_kept_as_the_text_of_a_failed_turn(arguments):
    entry = {
        "role": "assistant",
        "content": "Let me see.",
        "tool_calls": [{"name": "g", "arguments": {}}, {"name": "f", "arguments": arguments}],
    }
    (found,) = dialogue([entry])
    assert (found.calls, found.status) == ((), "error")
    assert found.content.startswith("Let me see.\n")
    assert '"g"' in found.content and '"f"' in found.content


def test_answers_are_put_in_the_order_of_their_calls():
    entries = [user(), calls("x", "y", "z"), answer("3", "z"), answer("1", "x"), answer("2", "y")]
    assert contents(entries) == ["1", "2", "3"]


def test_answers_without_ids_keep_their_order_and_ids_win_over_places():
    assert contents([calls("x", "y"), answer("1"), answer("2")]) == ["1", "2"]
    assert contents([calls("x", "y"), answer("2"), answer("1", "x")]) == ["1", "2"]


def test_equal_ids_are_answered_in_order():
    assert contents([calls("x", "x"), answer("1", "x"), answer("2", "x")]) == ["1", "2"]


def test_a_missing_answer_is_empty_only_before_a_later_one():
    assert contents([calls("x", "y", "z"), answer("2", "y")]) == ["", "2"]
    found = dialogue([calls("x", "y", "z"), answer("2", "y")])
    assert [message.status for message in found[1:]] == ["missing", ""]
    assert contents([calls("x", "y", "z"), user()]) == []


def test_answers_of_one_turn_are_not_given_to_another():
    entries = [calls("x", "y"), answer("1", "x"), calls("z"), answer("3", "z")]
    assert [m.content for m in dialogue(entries)] == ["", "1", "", "3"]


def test_answers_too_many_stay_at_the_end():
    assert contents([calls("x"), answer("1", "x"), answer("2", "x")]) == ["1", "2"]


def test_one_list_of_answers_is_split_among_its_calls():
    assert contents([calls("", ""), answer('[{"n": 1}, "two"]')]) == ['{"n": 1}', "two"]
    assert contents([calls("", ""), answer("[1, 2, 3]")]) == ["[1, 2, 3]"]
    assert contents([calls("x"), answer("[1]")]) == ["[1]"]


def test_the_text_before_a_call_is_its_thought():
    alone = {"role": "assistant", "content": "I look."}
    found = dialogue([user(), alone, calls("x"), answer("1", "x"), alone])
    assert [m.content for m in found if m.role == "assistant"] == ["I look.", "I look."]
    assert len(found[1].calls) == 1 and not found[3].calls


def test_calls_one_message_each_are_one_turn():
    entry = {"role": "tool_call", "content": '{"name": "f", "arguments": {}}'}
    found = dialogue([user(), entry, entry, answer("1"), answer("2")])
    assert [len(m.calls) for m in found] == [0, 2, 0, 0]


def test_two_calls_with_a_lost_answer_stay_two_turns():
    assert [len(m.calls) for m in dialogue([calls("x"), calls("y"), answer("2", "y")])] == [1, 1, 0]


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"error": True}, "error"),
        ({"error": False}, "ok"),
        ({"error": "KeyError: 'x'"}, "error"),
        ({"error": None}, ""),
        ({"is_error": True}, "error"),
        ({}, ""),
    ],
)
def test_the_status_of_a_result_is_what_the_source_says(more, status):
    assert dialogue([calls("x"), {**answer("1", "x"), **more}])[1].status == status


def test_system_messages_at_the_beginning_become_one():
    entries = [{"role": "system", "content": "A"}, {"role": "developer", "content": "B"}, user()]
    assert dialogue(entries)[0] == Message("system", "A\n\nB")


def test_content_is_the_text_of_its_parts():
    parts = ["a", {"type": "text", "text": "b"}, {"type": "text", "value": "c"}]
    assert content_text([*parts, {"type": "text", "content": "d"}]) == "a\nb\nc\nd"
    assert content_text(None) == ""


def test_reasoning_is_the_thought_of_its_turn_and_no_text():
    entry = {
        "role": "assistant",
        "content": [
            {"type": "reasoning", "value": "I must look."},
            {"type": "tool_call", "value": '{"name": "f", "arguments": {}}'},
        ],
    }
    assert dialogue([entry])[0] == Message(
        "assistant", "", (ToolCall("f"),), thoughts="I must look."
    )
    entry = {"role": "assistant", "content": "Yes.", "reasoning_content": "So it is."}
    assert dialogue([entry])[0] == Message("assistant", "Yes.", thoughts="So it is.")


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        (None, "list"),
        ([], "at least one"),
        ([user(), 3], "message 1: a message must be an object"),
        ([{"role": "robot", "content": "x"}], "unknown role 'robot'"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "'image_url' that holds no text"),
        ([{"role": "user", "content": 3}], "text or a list"),
        ([{"role": "assistant", "tool_calls": 3}], "'tool_calls' must be a list"),
    ],
)
def test_messages_that_cannot_be_read_are_row_errors_with_the_place(entries, reason):
    with pytest.raises(RowError, match=reason):
        dialogue(entries)
