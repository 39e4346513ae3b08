"""Dialogues in the forms of frameworks, tracers and providers say the same as in OpenAI's."""

import copy
import json
import re

import pytest
from framework_samples import (
    ANSWER,
    CALL,
    CLAUDE,
    CLAUDE_REPLY,
    COMPLETION,
    DIALOGUE,
    FRAMEWORKS,
    GEMINI,
    GEMINI_REPLY,
    LOGS,
    QUESTION,
    REQUEST,
    RESULT,
    TOOLS,
)

from tl_jax.calls.call import ToolCall
from tl_jax.data.importers import BadRow, RawRow, Source, read
from tl_jax.data.importers.read import FORMATS
from tl_jax.data.trajectory import Message

OSLO = ToolCall("weather", {"city": "Oslo"})
ASKED = Message("user", "Oslo?")
CALLED = Message("assistant", "I look.", (OSLO,), thoughts="Hm.")
WHOLE = (ASKED, CALLED, Message("tool", "down", status="error"), Message("assistant", "I cannot."))
ROWS = {**{f"log {name}": row for name, row in LOGS.items()}}
ROWS |= {name: row for name, (_, row) in FRAMEWORKS.items()}


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"

    def imported(row, format="auto"):  # noqa: A002
        path.write_text(json.dumps(row) + "\n")
        source = read(path, format)
        (found,) = source
        return source.format, found

    return imported


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_same_dialogue_is_read_in_every_form(name, imported):
    form, row = FRAMEWORKS[name]
    found_form, found = imported(row)
    assert found_form == form
    assert found.messages == WHOLE
    (tool,) = found.tools
    assert (tool.name, tool.description, tool.parameters[0].name) == ("weather", "W.", "city")
    assert not found.unread


@pytest.mark.parametrize("name", LOGS)
def test_the_reply_of_a_log_is_its_last_turn_and_trained(name, imported):
    form, found = imported(LOGS[name])
    assert form == "logs"
    assert found.messages == (ASKED, CALLED)
    assert [tool.name for tool in found.tools] == ["weather"]
    assert not found.unread


def test_earlier_replies_of_a_log_are_context_and_counted(imported):
    row = {"request": {**REQUEST, "messages": DIALOGUE[:3]}, "response": {"message": ANSWER}}
    _, found = imported(row)
    assert [m.weight for m in found.messages if m.role == "assistant"] == [0, 1]
    assert found.repairs == {"earlier_reply": 1}
    _, first = imported(LOGS["request_response"])
    assert found.tags["task"] == first.tags["task"]


def test_a_dialogue_that_is_whole_among_requests_is_read_as_it_is(imported):
    _, found = imported({"messages": DIALOGUE, "tools": TOOLS}, "logs")
    assert found.messages == WHOLE


@pytest.mark.parametrize(
    ("request_", "reply", "reason"),
    [
        (REQUEST, {"choices": [{"message": CALL, "finish_reason": "length"}]}, "not whole"),
        (CLAUDE, {**CLAUDE_REPLY, "stop_reason": "max_tokens"}, "not whole"),
        (
            GEMINI,
            {"candidates": [{**GEMINI_REPLY["candidates"][0], "finishReason": "MAX_TOKENS"}]},
            "not whole",
        ),
        (REQUEST, {"status": "incomplete", "output": [CALL]}, "not whole"),
        (REQUEST, {"error": {"message": "too many"}}, "failed .too many."),
        (REQUEST, {"status_code": 500, "body": COMPLETION}, "status 500"),
        (CLAUDE, {"type": "errored", "error": {"error": {"message": "bad"}}}, "failed .bad."),
        (REQUEST, [{"object": "chat.completion.chunk", "choices": [{"delta": {}}]}], "stream"),
        (
            {**CLAUDE, "messages": [QUESTION, {"role": "assistant", "content": "{"}]},
            CLAUDE_REPLY,
            "which the reply goes on",
        ),
        (REQUEST, {"usage": 1}, "without a message"),
    ],
)
def test_a_reply_that_failed_or_is_not_whole_is_refused(request_, reply, reason, imported):
    _, found = imported({"request": request_, "response": reply}, "logs")
    assert isinstance(found, BadRow)
    assert re.search(reason, found.reason), found.reason


def objects(value, path=()):
    """Yield the path of every object in a row that is none of a schema or of arguments."""
    if isinstance(value, dict):
        yield path
        for key, inner in value.items():
            if key not in ("json", "parameters", "input_schema", "properties"):
                yield from objects(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from objects(inner, (*path, number))


@pytest.mark.parametrize("name", ROWS)
def test_a_key_put_anywhere_is_read_counted_or_refused(name, imported, tmp_path):
    form, before = imported(ROWS[name])
    (tmp_path / "rows.jsonl").touch()
    source = Source(str(tmp_path / "rows.jsonl"), form, "test")
    for path in objects(ROWS[name]):
        row = copy.deepcopy(ROWS[name])
        place = row
        for key in path:
            place = place[key]
        place["zzz"] = "news"
        (found,) = source.converted(RawRow("rows.jsonl", 0, row))
        seen = isinstance(found, BadRow) or "zzz" in str(found.unread) or found != before
        assert seen or path[-1:] in (("usage",), ("arguments",)), path


@pytest.mark.parametrize("name", ROWS)
def test_its_own_format_is_the_first_that_knows_a_row(name):
    first = next(form for form in FORMATS if FORMATS[form].recognise(ROWS[name]))
    assert first == ("logs" if name.startswith("log ") else FRAMEWORKS[name][0])


def test_results_in_one_message_go_to_their_calls(imported):
    call = {"type": "tool-call", "toolName": "weather"}
    result = {"type": "tool-result", "toolName": "weather"}
    entries = [
        QUESTION,
        {
            "role": "assistant",
            "content": [
                {**call, "toolCallId": "1", "args": {"city": "Oslo"}},
                {**call, "toolCallId": "2", "args": {"city": "Rome"}},
            ],
        },
        {
            "role": "tool",
            "content": [
                {**result, "toolCallId": "2", "result": {"n": 9}},
                {**result, "toolCallId": "1", "output": {"type": "json", "value": {"n": 3}}},
            ],
        },
    ]
    _, found = imported({"messages": entries, "tools": TOOLS})
    assert [m.content for m in found.messages[2:]] == ['{"n": 3}', '{"n": 9}']
    old = [*entries[:1], {"role": "assistant", "content": "", "tool_calls": CALL["tool_calls"] * 2}]
    old[1]["tool_calls"] = [{**CALL["tool_calls"][0], "id": name} for name in "ab"]
    several = [{"tool_call_id": name, "content": name} for name in "ba"]
    old.append({"role": "tool", "tool_responses": several, "content": "b\n\na"})
    _, found = imported({"messages": old, "tools": TOOLS})
    assert [m.content for m in found.messages[2:]] == ["a", "b"]


def test_several_dialogues_in_a_row_are_refused_by_name(imported):
    row = {"n": 1, "trajectory": DIALOGUE, "conversation": DIALOGUE}
    with pytest.raises(ValueError, match="format not recognised"):
        imported(row)
    _, found = imported(row, "wrapped")
    assert "trajectory, conversation" in found.reason
    whole = {"history": DIALOGUE, "response": "x"}
    assert not FORMATS["wrapped"].recognise(whole)


def test_steps_that_were_copied_and_demonstrations_are_context(imported):
    _, row = FRAMEWORKS["atif"]
    row = copy.deepcopy(row)
    row["steps"][1]["is_copied_context"] = True
    assert [m.weight for m in imported(row)[1].messages] == [1, 0, 1, 1]
    row = {"history": [QUESTION, {**CALL, "is_demo": True}, RESULT, ANSWER]}
    assert [m.weight for m in imported(row)[1].messages] == [1, 0, 1, 1]


def test_what_an_agent_sees_without_a_call_is_said_to_it(imported):
    _, row = FRAMEWORKS["atif"]
    row = copy.deepcopy(row)
    del row["steps"][1]["tool_calls"]
    row["steps"][1]["observation"]["results"] = [{"content": "a.py"}]
    assert imported(row)[1].messages[2] == Message("user", "a.py")
