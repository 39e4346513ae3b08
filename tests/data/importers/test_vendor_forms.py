"""Rows in the forms of other vendors say the same as the same dialogue in OpenAI's."""

import copy
import json

import pytest
from set_samples import ANTHROPIC, GEMINI, LANGCHAIN, PROMPT_COMPLETION, RESPONSES, VENDORS

from tl_jax.data.importers import BadRow, read
from tl_jax.data.importers.read import FORMATS

ARGUMENTS = [{"city": "Oslo"}, {"city": "Rome"}]


def imported(tmp_path, *rows, format="auto"):  # noqa: A002
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(read(path, format))


def one(tmp_path, row, **settings):
    (found,) = imported(tmp_path, row, **settings)
    assert not isinstance(found, BadRow), found.reason
    return found


@pytest.fixture(scope="module")
def dialogues(tmp_path_factory):
    return {name: one(tmp_path_factory.mktemp(name), row) for name, row in VENDORS.items()}


@pytest.mark.parametrize("name", sorted(VENDORS))
def test_calls_results_thoughts_and_failures_are_read(dialogues, name):
    found = dialogues[name]
    assert [message.role for message in found.messages] == (
        ["system", "user", "assistant", "tool", "tool", "user", "assistant"]
    )
    system, question, calls, oslo, rome, hurry, final = found.messages
    assert (system.content, question.content) == ("You help.", "Oslo or Rome?")
    assert [call.arguments for call in calls.calls] == ARGUMENTS
    assert {call.name for call in calls.calls} == {"weather"}
    assert (calls.content, calls.thoughts) == ("I look.", "Both.")
    # The results stand in the order of the calls, the failed one second.
    assert oslo.content == ('{"result": 3}' if name == "gemini" else "3") and oslo.status != "error"
    assert "down" in rome.content and rome.status == "error"
    assert (hurry.content, final.content) == ("Hurry.", "3 in Oslo.")


@pytest.mark.parametrize("name", sorted(VENDORS))
def test_tools_become_json_schema(dialogues, name):
    (tool,) = dialogues[name].tools
    (city,) = tool.parameters
    assert (tool.name, city.name, city.schema["type"]) == ("weather", "city", "string")
    if name not in ("langchain", "prompt_completion"):
        assert tool.description == "W." and city.required


@pytest.mark.parametrize("name", sorted(VENDORS))
def test_its_own_format_is_the_first_that_knows_a_row(name):
    assert next(other for other in FORMATS if FORMATS[other].recognise(VENDORS[name])) == name


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
        {"messages": [{"role": "tool", "content": "a", "tool_call_id": "1"}], "tools": []},
        {"instruction": "a", "input": "b", "output": "c"},
        {"prompt": "a", "chosen": "b", "rejected": "c"},
        {"input": "a", "output": [{"name": "f", "arguments": {}, "label": "x"}]},
    ],
)
def test_rows_of_other_forms_are_left_to_them(row):
    assert not any(FORMATS[name].recognise(row) for name in VENDORS)


def test_what_cases_there_are_is_read(import_cases):
    for name, file in {
        "anthropic": "anthropic_blocks",
        "gemini": "gemini_parts",
        "responses": "responses_items",
        "prompt_completion": "prompt_completion",
    }.items():
        source = read(import_cases / f"{file}.jsonl")
        rows = list(source)
        assert source.format == name and not any(isinstance(row, BadRow) for row in rows)
        calls = [call for message in rows[0].messages for call in message.calls]
        assert calls[-1].arguments == {"city": "Oslo"} and calls[-1].name == "get_weather"
        assert {p.schema["type"] for tool in rows[0].tools for p in tool.parameters} == {"string"}
    (inside,) = read(import_cases / "responses_items_in_messages.jsonl")
    assert [message.role[0] for message in inside.messages] == ["u", "a", "t", "a"]
    (paris,) = read(import_cases / "prompt_completion.jsonl")
    assert [m.weight for m in paris.messages if m.role == "assistant"] == [0, 1]


def test_of_a_prompt_nothing_is_trained(tmp_path):
    row = copy.deepcopy(PROMPT_COMPLETION)
    row["prompt"] += row["completion"][:3]
    row["completion"] = row["completion"][3:]
    found = one(tmp_path, row)
    assert [m.weight for m in found.messages if m.role == "assistant"] == [0, 1]


def test_a_prompt_of_text_is_the_users_and_one_with_marks_of_a_template_is_refused(tmp_path):
    row = {"prompt": "Oslo?", "completion": " It is 3 degrees."}
    found = one(tmp_path, row)
    assert [(m.role, m.content) for m in found.messages] == [
        ("user", "Oslo?"),
        ("assistant", "It is 3 degrees."),
    ]
    for marked in ("<|im_start|>user\nOslo?<|im_end|>", "[INST] Oslo? [/INST]", "Human: a\n"):
        (bad,) = imported(tmp_path, {**row, "prompt": marked}, format="prompt_completion")
        assert "marks of a template" in bad.reason and "list of role and content" in bad.reason
    (empty,) = imported(tmp_path, {**row, "completion": ""}, format="prompt_completion")
    assert empty.reason == "'completion' is empty"


def test_a_tool_that_the_server_runs_stands_between_two_turns(tmp_path):
    row = copy.deepcopy(ANTHROPIC)
    row["messages"][1]["content"] = [
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "Oslo"}},
        {
            "type": "web_search_tool_result",
            "tool_use_id": "s",
            "content": {"type": "web_search_tool_result_error", "error_code": "unavailable"},
        },
        {"type": "redacted_thinking", "data": "x"},
        {"type": "text", "text": "I cannot."},
    ]
    row["messages"] = row["messages"][:2]
    _, _, call, result, final = one(tmp_path, row).messages
    assert call.calls[0].arguments == {"query": "Oslo"} and not call.content
    assert result.status == "error" and "unavailable" in result.content
    assert (final.content, final.calls, final.thoughts) == ("I cannot.", (), "")


def test_calls_of_a_connected_server_have_their_result_with_them(tmp_path):
    call = {"type": "mcp_call", "id": "m", "name": "weather", "arguments": '{"city": "Oslo"}'}
    row = copy.deepcopy(RESPONSES)
    row["input"] = "Oslo?"
    row["output"] = [{**call, "output": "3"}, {**call, "output": None, "error": "down"}]
    found = one(tmp_path, row).messages
    assert [m.role for m in found[1:]] == ["user", "assistant", "tool", "assistant", "tool"]
    assert [m.status == "error" for m in found if m.role == "tool"] == [False, True]
    row["output"] = [{"type": "web_search_call", "id": "w", "action": {}}]
    (bad,) = imported(tmp_path, row, format="responses")
    assert "item 1: an item of type 'web_search_call'" in bad.reason


def test_turns_that_are_not_to_be_trained_have_no_weight(tmp_path):
    rows = copy.deepcopy(VENDORS)
    rows["anthropic"]["messages"][1]["weight"] = 0
    rows["responses"]["input"][4]["train"] = False  # on one of the calls of the turn
    rows["langchain"]["messages"][2]["trainable"] = False
    rows["gemini"]["contents"][1]["loss"] = False
    rows["prompt_completion"]["completion"][0]["weight"] = 0
    for row in rows.values():
        found = one(tmp_path, row)
        assert [m.weight for m in found.messages if m.role == "assistant"] == [0, 1]


@pytest.mark.parametrize("name", sorted(VENDORS))
def test_of_a_usual_row_everything_is_read(dialogues, name):
    beside = {"cache_control", "signature", "annotations"}
    assert {key.rpartition(".")[2] for key in dialogues[name].unread} <= beside
    assert not dialogues[name].repairs


def test_media_in_results_are_named_and_what_only_a_server_reads_is_left_out(tmp_path):
    row = copy.deepcopy(ANTHROPIC)
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA"}}
    row["messages"][2]["content"][0]["content"] = [image, {"type": "text", "text": "below"}]
    result = one(tmp_path, row).messages[4].content
    assert "below" in result and "image" in result and "AA" not in result
    found = {"type": "web_search_result", "title": "t", "encrypted_content": "zz"}
    row["messages"][1]["content"] = [
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "Oslo"}},
        {"type": "web_search_tool_result", "tool_use_id": "s", "content": [found]},
        {"type": "text", "text": "I know."},
    ]
    row["messages"] = row["messages"][:2]
    searched = one(tmp_path, row)
    assert json.loads(searched.messages[3].content) == [{"type": found["type"], "title": "t"}]
    assert searched.unread["messages[].content[].content[].encrypted_content"] == 1


def test_what_a_model_wrote_that_is_no_json_is_no_sound_call(tmp_path):
    row = copy.deepcopy(LANGCHAIN)
    row["messages"] = row["messages"][:3]
    broken = {"name": "weather", "args": '{"city": ', "id": "a", "error": "no JSON"}
    row["messages"][2] = {"type": "ai", "content": "", "invalid_tool_calls": [broken]}
    turn = one(tmp_path, row).messages[-1]
    assert not turn.calls and turn.status == "error" and '{\\"city\\": ' in turn.content


def test_calls_that_only_the_vendors_fields_or_blocks_hold_are_read_once(tmp_path):
    row = copy.deepcopy(LANGCHAIN)
    message = row["messages"][2]
    message["content"] = [
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Oslo"}},
    ]
    assert [c.arguments for c in one(tmp_path, row).messages[2].calls] == ARGUMENTS
    del message["tool_calls"], message["additional_kwargs"]["tool_calls"]
    assert [c.arguments for c in one(tmp_path, row).messages[2].calls] == ARGUMENTS[:1]
    function = {"name": "weather", "arguments": json.dumps(ARGUMENTS[1])}
    message["additional_kwargs"]["tool_calls"] = [{"id": "a", "function": function}]
    message["content"] = "I look."
    assert [c.arguments for c in one(tmp_path, row).messages[2].calls] == ARGUMENTS[1:]


def test_answers_of_several_functions_find_their_calls_by_name(tmp_path):
    row = copy.deepcopy(GEMINI)
    calls, answers = row["contents"][1]["parts"], row["contents"][2]["parts"]
    calls[3]["function_call"]["name"] = "news"
    answers[1]["function_response"]["name"] = "news"
    answers.insert(0, answers.pop(1))
    _, _, _, first, second, _, _ = one(tmp_path, row).messages
    assert first.content == '{"result": 3}' and second.status == "error"
    row["contents"][3]["parts"] = [{"executableCode": {"code": "1"}}]
    (bad,) = imported(tmp_path, row, format="gemini")
    assert bad.reason == "content 3: a part with executableCode, which is no text"
