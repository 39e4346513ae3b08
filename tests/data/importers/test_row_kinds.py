"""Weights beside messages, what stands under other keys, free-text tools, APIs, advice."""

import json

import pytest

from tl_jax.calls.call import ToolCall
from tl_jax.data.importers import BadRow, glaive, instructions, openai, read, sharegpt, xlam
from tl_jax.data.importers.prompt_completion import trajectory as completed
from tl_jax.data.trajectory import Message
from tl_jax.errors import RowError

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": CITY}}
OSLO = ToolCall("weather", {"city": "Oslo"})
FOUND = [{"id": "c", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}]
USER = {"role": "user", "content": "Oslo?"}
CALL = {"role": "assistant", "content": None, "tool_calls": FOUND}
RESULT = {"role": "tool", "tool_call_id": "c", "content": "3"}
ANSWER = {"role": "assistant", "content": "It is 3."}
DIALOGUE = [USER, CALL, RESULT, ANSWER]


def imported(*entries, **row):
    rows = {"messages": list(entries) or DIALOGUE, "tools": [TOOL], **row}
    return openai.trajectory(rows, source="s", line=0)


def weights(found):
    return [message.weight for message in found.messages if message.role == "assistant"]


def refusal(*entries, **row):
    with pytest.raises(RowError) as caught:
        imported(*entries, **row)
    return str(caught.value)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"

    def whole(row, format="auto"):  # noqa: A002
        path.write_text(json.dumps(row) + "\n")
        (found,) = read(path, format)
        return found

    return whole


# Weights.


@pytest.mark.parametrize(
    "flag",
    [
        {"ignore": True}, {"exclude": 1}, {"no_loss": "true"}, {"train_mask": 0},
        {"train_mask": []}, {"loss_mask": False}, {"step_loss_mask": 0}, {"is_target": False},
        {"is_demo": True}, {"do_not_train": True}, {"ignore": False}, {"exclude": None},
        {"loss_mask": 1},
    ],
)  # fmt: skip
def test_siblings_of_weight_0_take_a_turn_out(flag):
    ((key, value),) = flag.items()
    if value == []:
        assert f"{key!r} must be" in refusal(USER, {**CALL, **flag}, RESULT, ANSWER)
        return
    kept = (key, value) in (("ignore", False), ("exclude", None), ("loss_mask", 1))
    assert weights(imported(USER, {**CALL, **flag}, RESULT, ANSWER)) == [float(kept), 1]


@pytest.mark.parametrize(
    ("masks", "left"),
    [
        ((True, True, True, False), [0, 1]),
        ((1, 0, 1, 1), [1, 0]),
        ((0, 1, 0, 1), [1, 1]),
        ((None, None, None, None), [1, 1]),
        ((False, True, False, False), None),
        ((False, False, False, False), None),
        ((None, True, None, False), None),
        ((True, True, True, True), None),
        ((True, False, False, False), None),
    ],
)
def test_a_mask_is_read_where_the_row_shows_what_it_means_else_refused(masks, left):
    entries = [{**entry, "mask": mask} for entry, mask in zip(DIALOGUE, masks, strict=True)]
    for given, row in ((entries, {}), (DIALOGUE, {"mask": list(masks)})):
        if left is None:
            assert "rename it to 'train'" in refusal(*given, **row)
        else:
            assert weights(imported(*given, **row)) == left


@pytest.mark.parametrize(
    ("row", "left"),
    [
        ({"weights": [1, 0, 1, 0.5]}, [0, 0.5]),
        ({"loss_mask": [0, 0, 0, 1]}, [0, 1]),
        ({"loss_mask": [1, 0]}, [1, 0]),
        ({"train": [False, True]}, [0, 1]),
        ({"masked": [True, False]}, [0, 1]),
        ({"weight": 0.25}, [0.25, 0.25]),
        ({"sample_weight": 2, "weights": [0, 1]}, [0, 2]),
        ({"mask": "User"}, [1, 1]),
        ({"mask": "Assistant"}, [0, 0]),
        ({"loss_mask": [1, 0, 1], "input_ids": [5, 6, 7]}, [1, 1]),
        ({"weight": None, "train": True}, [1, 1]),
    ],
)
def test_weights_beside_the_messages_are_theirs(row, left):
    assert weights(imported(**row)) == left
    turns = [{"from": m["role"], "value": m["content"] or "-"} for m in (USER, CALL, USER, ANSWER)]
    if len(row.get("mask", "User")) > 2 and not any(isinstance(v, str) for v in row.values()):
        found = sharegpt.trajectory({"conversations": turns, **row}, source="s", line=0)
        assert weights(found) == left


def test_a_list_that_fits_no_messages_and_parts_of_a_turn_are_refused_by_name():
    assert "'loss_mask' has 3 entries for 4 messages" in refusal(loss_mask=[1, 0, 1])
    assert "'weight' must be" in refusal(weight=-1)
    parts = [{"begin_offset": 0, "end_offset": 2, "train": False}]
    assert "'train_detail' leaves parts" in refusal(USER, {**ANSWER, "train_detail": parts})
    parts[0]["train"] = True
    assert weights(imported(USER, {**ANSWER, "train_detail": parts})) == [1]


def test_a_completion_that_is_marked_as_unwanted_is_refused():
    row = {"prompt": [USER], "completion": [ANSWER], "label": False}
    with pytest.raises(RowError, match="unwanted"):
        completed(row, source="s", line=0)
    assert len(completed({**row, "label": True}, source="s", line=0).messages) == 2


# Where a message keeps what it says.


@pytest.mark.parametrize(
    "key", ["toolCalls", "function_calls", "functionCalls", "calls", "tool_call", "functionCall"]
)
def test_calls_under_other_keys_are_calls(key):
    call = {"toolName": "weather", "args": {"city": "Oslo"}}
    entry = {"role": "assistant", "content": "", key: [call] if key.endswith("s") else call}
    assert imported(USER, entry).messages[1].calls == (OSLO,)


@pytest.mark.parametrize("key", ["text", "message", "value"])
def test_texts_under_other_keys_are_texts(key):
    found = imported({"role": "user", key: "Hi"}, {"role": "agent", key: "Hello"})
    assert [m.content for m in found.messages] == ["Hi", "Hello"]


@pytest.mark.parametrize("key", ["output", "result", "response", "observation", "text"])
def test_results_under_other_keys_are_results(key):
    found = imported(USER, CALL, {"role": "tool-response", "tool_call_id": "c", key: {"n": 3}})
    assert found.messages[2].content == '{"n": 3}'


@pytest.mark.parametrize(
    ("content", "more", "text", "status"),
    [
        ({"content": [{"type": "text", "text": "no"}], "isError": True}, {}, "no", "error"),
        ({"content": [], "structuredContent": {"n": 3}}, {}, '{"n": 3}', ""),
        ([], {"structuredContent": {"n": 3}}, '{"n": 3}', ""),
        ([{"type": "resource", "resource": {"uri": "a", "text": "3"}}], {}, "3", ""),
        ([{"type": "document", "document": {"data": {"n": 3}}}], {}, '{"n": 3}', ""),
        ([{"type": "document", "source": {"type": "text", "data": "3"}}], {}, "3", ""),
        ([{"json": {"n": 3}}], {}, '{"n": 3}', ""),
        ({"content": "x", "title": "y"}, {}, '{"content": "x", "title": "y"}', ""),
        ([{"type": "document", "file_id": "a.pdf"}], {}, "[document: a.pdf]", ""),
    ],
)
def test_results_of_protocols_are_the_text_they_hold(content, more, text, status):
    found = imported(USER, CALL, {**RESULT, "content": content, **more}).messages[2]
    assert (found.content, found.status) == (text, status)


@pytest.mark.parametrize("role", ["user", "assistant", "tool"])
def test_a_turn_of_which_nothing_is_read_is_refused_by_its_keys(whole, role):
    entries = [USER, CALL, RESULT, ANSWER]
    number = [entry["role"] for entry in entries].index(role)
    kept = {"role": role, "tool_call_id": "c", "timestamp": "today", "utterance": ["Oslo?"]}
    entries[number] = kept
    found = whole({"messages": entries})
    assert isinstance(found, BadRow) and "'utterance'" in found.reason
    assert "timestamp" not in found.reason


def test_media_beside_a_text_are_refused_as_those_in_it_are():
    assert "'images'" in refusal({**USER, "images": ["a.png"]}, ANSWER)
    shown = {"role": "user", "content": "<image>What is it?"}
    assert "'images'" in refusal(shown, ANSWER, images=["a.png"])
    assert len(imported(USER, ANSWER, images=["a.png"]).messages) == 2
    assert len(imported({**shown, "images": []}, ANSWER, images=[]).messages) == 2


# Tools of free text, lists of APIs, tools in other places.

CUSTOM = {"name": "run", "description": "Runs it.", "format": {"type": "text"}}


@pytest.mark.parametrize(
    "tool", [{"type": "custom", "custom": CUSTOM}, {"type": "custom", **CUSTOM}]
)
@pytest.mark.parametrize("flat", [False, True])
def test_a_call_of_free_text_has_that_text_as_its_argument(tool, flat):
    inner = {"name": "run", "input": "print(1)\n"}
    call = {"id": "c", "type": "custom", **(inner if flat else {"custom": inner})}
    found = imported(USER, {**CALL, "tool_calls": [call]}, RESULT, tools=[tool])
    assert found.messages[1].calls == (ToolCall("run", {"input": "print(1)\n"}),)
    (spec,) = found.tools
    assert (spec.name, spec.description) == ("run", "Runs it.")
    assert [(p.name, p.schema, p.required) for p in spec.parameters] == [
        ("input", {"type": "string"}, True)
    ]
    assert (found.repairs["custom_tool"], found.repairs["custom_call"]) == (1, 1)


def test_a_custom_call_without_text_is_refused_and_a_custom_tool_with_a_schema_is_a_function():
    call = {"id": "c", "type": "custom", "custom": {"name": "run"}}
    assert "must be text" in refusal(USER, {**CALL, "tool_calls": [call]})
    tool = {"type": "custom", "name": "weather", "input_schema": CITY}
    assert imported(tools=[tool]).tools[0].parameters[0].name == "city"


API = {
    "category_name": "Weather",
    "tool_name": "Open Weather",
    "api_name": "Current/Now",
    "api_description": "Now.",
    "required_parameters": [{"name": "city", "type": "STRING", "description": "C.", "default": ""}],
    "optional_parameters": [{"name": "days", "type": "NUMBER", "default": 3}],
}


@pytest.mark.parametrize("name", ["current_now_for_open_weather", "current_now", "Current/Now"])
def test_apis_are_tools_by_the_names_that_calls_have(name):
    call = {"id": "c", "function": {"name": name, "arguments": {"city": "Oslo"}}}
    other = {**API, "api_name": "Other"}
    row = {"messages": [USER, {**CALL, "tool_calls": [call]}, RESULT], "api_list": [API, other]}
    found = openai.trajectory(row, source="s", line=0)
    first, second = found.tools
    assert first.name == name and second.name.lower().startswith("other")
    assert ("_for_" in name) == ("_for_" in second.name)
    assert [(p.name, p.schema["type"], p.required) for p in first.parameters] == [
        ("city", "string", True),
        ("days", "number", False),
    ]


@pytest.mark.parametrize(
    "key", ["api_list", "apis", "mcp_tools", "toolset", "functions_list", "actions", "toolConfig"]
)
def test_tools_under_likely_keys_are_read_and_other_lists_are_left(key):
    row = {"messages": DIALOGUE, key: {"tools": [TOOL]} if key == "toolConfig" else [TOOL]}
    assert [tool.name for tool in openai.trajectory(row, source="s", line=0).tools] == ["weather"]
    row[key] = [{"name": "click", "at": 3}]
    assert openai.trajectory(row, source="s", line=0).tools == ()


def test_a_message_may_be_the_tools():
    entries = [{"role": "tools", "content": json.dumps([TOOL])}, *DIALOGUE]
    found = openai.trajectory({"messages": entries}, source="s", line=0)
    assert [tool.name for tool in found.tools] == ["weather"] and len(found.messages) == 4


# Thoughts.


@pytest.mark.parametrize("tag", ["think", "THINK", "Thinking", "REASONING", "scratchpad"])
def test_tags_of_thoughts_are_theirs_in_any_case(tag):
    found = imported(USER, {"role": "assistant", "content": f"<{tag}>Hm.</{tag}>\nCold."})
    assert found.messages[1] == Message("assistant", "Cold.", thoughts="Hm.")


@pytest.mark.parametrize("tag", ["reason", "analysis", "Plan", "rationale", "inner_monologue"])
def test_a_tag_that_may_be_asked_for_stays_visible_and_is_counted_by_name(tag):
    text = f"<{tag}>Hm.</{tag}>\nCold."
    found = imported(USER, {"role": "assistant", "content": text})
    assert found.messages[1] == Message("assistant", text)
    assert found.repairs == {f"visible_{tag.lower()}_tag": 1}
    for other in (f"Cold. {text}", f"<{tag}> never ends"):
        assert not imported(USER, {"role": "assistant", "content": other}).repairs


def test_a_thought_that_is_shown_as_well_is_shown_once():
    found = imported(USER, {**CALL, "content": "I look.\nls", "thought": "I look."})
    assert (found.messages[1].thoughts, found.messages[1].content) == ("", "I look.\nls")
    assert found.repairs == {"repeated_thought": 1}
    plan = imported(USER, {**CALL, "tool_plan": "I will look."})
    assert plan.messages[1].thoughts == "I will look."


# Pairs of texts.


@pytest.mark.parametrize(
    ("row", "texts"),
    [
        ({"instruction": "Add.", "input": "1 2", "output": "3"}, ["Add.\n1 2", "3"]),
        ({"query": "b", "response": "c", "history": [["x", "y"]]}, ["x", "y", "b", "c"]),
        ({"question": "b", "answer": "c", "system": "s"}, ["s", "b", "c"]),
        ({"instruction": "a", "context": "b", "response": "c"}, ["a\nb", "c"]),
        ({"conversation": [{"human": "b", "assistant": "c"}] * 2}, ["b", "c", "b", "c"]),
    ],
)
def test_pairs_of_texts_are_dialogues(row, texts, whole):
    assert instructions.recognise(row)
    assert [message.content for message in whole(row).messages] == texts


def test_rounds_without_loss_are_context_and_others_than_pairs_are_left(whole):
    rounds = [{"system": "s", "input": "a", "output": "b", "output_with_loss": False}]
    rounds.append({"input": "c", "output": "d"})
    assert weights(whole({"conversation": rounds})) == [0, 1]
    for row in ({"question": "a", "answer": "b", "choices": []}, {"query": "a", "response": [1]}):
        assert not instructions.recognise(row)
    bad = whole({"question": "<|im_start|>user\na", "answer": "b"})
    assert "marks of a template" in bad.reason
    assert "history" in whole({"query": "a", "response": "b", "history": ["c"]}).reason


def test_glaive_rows_have_tools_calls_and_results():
    tools = 'Use them -\n{"name": "weather", "description": "W.", "parameters": {"properties": {}}}'
    chat = (
        "USER: Oslo?\n\n\nASSISTANT: I look. <functioncall> "
        '{"name": "weather", "arguments": \'{"city": "Oslo"}\'} <|endoftext|>\n\n\n'
        'FUNCTION RESPONSE: {"n": 3}\n\n\nASSISTANT: It is 3. <|endoftext|>\n'
    )
    row = {"system": f"SYSTEM: {tools}\n\n{tools[tools.index('{') :]}\n", "chat": chat}
    assert glaive.recognise(row) and not xlam.recognise(row)
    found = glaive.trajectory(row, source="s", line=0)
    assert [tool.name for tool in found.tools] == ["weather"]
    assert found.messages == (
        Message("user", "Oslo?"),
        Message("assistant", "I look.", (OSLO,)),
        Message("tool", '{"n": 3}'),
        Message("assistant", "It is 3."),
    )
    plain = glaive.trajectory({**row, "system": "SYSTEM: Help."}, source="s", line=0)
    assert plain.messages[0] == Message("system", "Help.")


# Rows that nothing reads.


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "'prompt' and 'completion'"),
        ({"input_ids": [1], "labels": [1]}, "rows of tokens"),
        ({"role": "user", "content": "x"}, "each row is one message"),
        ({"type": "user", "message": {**USER}, "sessionId": "1"}, "each row is one message"),
        ({"custom_id": "1", "body": {"messages": [USER]}}, "requests without replies"),
        ({"custom_id": "1", "response": {"body": {}}}, "replies without requests"),
        ({"prompt": [USER], "reward_model": {}}, "prompts without replies"),
        ({"n": 1, "history": [{"action": "run", "args": {}}]}, "events of an agent"),
        ({"n": 1, "steps": [{"model_input_messages": []}]}, "write_memory_to_messages"),
        ({"text": "<|user|>Hi"}, "'text' is one text"),
    ],
)
def test_rows_of_known_forms_that_cannot_be_read_say_what_to_do(row, said, whole):
    with pytest.raises(ValueError, match="format not recognised") as caught:
        whole(row)
    assert said in str(caught.value)


# Calls and turns in other shapes.


@pytest.mark.parametrize(
    "call",
    [
        {"name": "weather", "kwargs": {"city": "Oslo"}},
        {"tool": "weather", "params": {"city": "Oslo"}},
        {"action": "weather", "action_input": '{"city": "Oslo"}'},
        {"function": json.dumps({"name": "weather", "arguments": {"city": "Oslo"}})},
        {"function_name": "weather", "tool_args": {"city": "Oslo"}},
        {"recipient_name": "functions.weather", "parameters": {"city": "Oslo"}},
        {"tool_call": {"function": {"name": "weather", "arguments": {"city": "Oslo"}}}},
        {"action": {"name": "weather", "arguments": [{"name": "city", "value": "Oslo"}]}},
    ],
)
@pytest.mark.parametrize("listed", [True, False])
def test_a_call_is_read_whatever_its_keys_are(call, listed):
    found = imported(USER, {**CALL, "tool_calls": [call] if listed else call})
    assert found.messages[1].calls == (OSLO,)


@pytest.mark.parametrize("call", [{"weather": {"city": "Oslo"}}, {"name": "weather", "with": 3}])
def test_a_call_of_which_something_is_not_read_is_never_an_empty_one(call, whole):
    (key,) = call.keys() - {"name"}
    found = whole({"messages": [USER, {**CALL, "tool_calls": [call]}], "tools": [TOOL]})
    assert isinstance(found, BadRow) and f"a call of which '{key}' is not read" in found.reason
    bare = whole({"messages": [USER, {**CALL, "tool_calls": [{"name": "weather"}]}]})
    assert bare.messages[1].calls == (ToolCall("weather", {}),)
    python = whole({"messages": [USER, {**CALL, "tool_calls": ["weather(city='Oslo')"]}]})
    assert python.messages[1].calls == (OSLO,)


def test_results_that_stand_with_their_calls_are_turns():
    inside = {**CALL, "tool_calls": [{**FOUND[0], "result": {"n": 3}}]}
    beside = {**CALL, "tool_results": [{"tool_call_id": "c", "content": '{"n": 3}'}]}
    for entry in (inside, beside):
        found = imported(USER, entry, ANSWER).messages
        assert [m.role for m in found] == ["user", "assistant", "tool", "assistant"]
        assert found[2].content == '{"n": 3}'
        assert "results in them and a text" in refusal(USER, {**entry, "content": "3."})


def test_turns_of_harmony_are_thoughts_calls_and_answers():
    turn = {"role": "assistant"}
    found = imported(
        USER,
        {**turn, "channel": "analysis", "content": "Hm."},
        {
            **turn,
            "channel": "commentary",
            "recipient": "functions.weather",
            "content": '{"city": "Oslo"}',
        },
        {"role": "tool", "name": "functions.weather", "content": "3"},
        {**turn, "channel": "final", "content": "It is 3."},
    )
    assert found.messages[1:] == (
        Message("assistant", calls=(OSLO,), thoughts="Hm."),
        Message("tool", "3"),
        Message("assistant", "It is 3."),
    )


@pytest.mark.parametrize(
    "text",
    [
        '[TOOL_CALLS][{"name": "weather", "arguments": {"city": "Oslo"}}]</s>',
        "<tool_call>\n<function=weather>\n<parameter=city>\nOslo\n</parameter>\n</function>\n"
        "</tool_call>",
        "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n</tool_call>",
        '{"name": "weather", "parameters": {"city": "Oslo"}}<|eom_id|>',
        '<functioncall> {"name": "weather", "arguments": {"city": "Oslo"}}',
        '<|tool_call_start|>[weather(city="Oslo")]<|tool_call_end|>',
    ],
)
def test_calls_as_text_in_the_form_of_a_family_are_calls_of_declared_tools(text):
    said = {"role": "assistant", "content": text}
    assert imported(USER, said, RESULT, ANSWER).messages[1].calls == (OSLO,)
    other = {**TOOL, "function": {"name": "other"}}
    for tools in ([], [other]):
        kept = imported(USER, said, RESULT, ANSWER, tools=tools).messages[1]
        assert kept.calls == () and kept.content


@pytest.mark.parametrize("keys", [("from", "content"), ("speaker", "text"), ("role", "value")])
@pytest.mark.parametrize("holder", ["conversations", "dialogue"])
def test_turns_have_their_speaker_and_text_under_any_of_their_names(keys, holder, whole):
    if holder == "dialogue" and keys[0] == "role":
        holder = "conversations"
    turns = [dict(zip(keys, pair, strict=True)) for pair in (("user", "Hi"), ("bot", "Hello"))]
    assert [message.content for message in whole({holder: turns}).messages] == ["Hi", "Hello"]


def test_a_row_may_be_nothing_but_messages(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(2 * (json.dumps(DIALOGUE) + "\n"))
    found = [row for row in read(path) if not isinstance(row, BadRow)]
    assert [len(row.messages) for row in found] == [4, 4]
