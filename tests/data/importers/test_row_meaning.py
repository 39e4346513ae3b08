"""What rows say beside their texts: weights, failures, nulls, tools, results by name."""

import json

import pytest

from tl_jax.calls.call import ToolCall
from tl_jax.data.importers import openai, sharegpt
from tl_jax.data.mae.labels import label_turns
from tl_jax.data.trajectory import Message, Trajectory
from tl_jax.errors import RowError

OSLO = ToolCall("get_weather", {"city": "Oslo"})
WEATHER = {
    "name": "get_weather",
    "description": "Weather.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"type": ["string", "null"]}},
        "required": ["city"],
    },
}
MAIL = {"name": "send_mail", "parameters": {"properties": {"to": {"type": "string"}}}}


def user(text="Weather?"):
    return {"role": "user", "content": text}


def called(*calls, **more):
    found = [{"id": i, "function": {"name": n, "arguments": a}} for i, n, a in calls]
    return {"role": "assistant", "content": None, "tool_calls": found, **more}


def result(text, **more):
    return {"role": "tool", "content": text, **more}


def imported(*entries, tools=(WEATHER, MAIL), **row):
    rows = {"messages": list(entries), "tools": list(tools), **row}
    return openai.trajectory(rows, source="s", line=0)


# Weights of turns.


@pytest.mark.parametrize(
    ("more", "weight"),
    [
        ({"weight": 0}, 0),
        ({"weight": 0.25}, 0.25),
        ({"weight": 2}, 2),
        ({"weight": None}, 1),
        ({"train": False}, 0),
        ({"training": "false"}, 0),
        ({"trainable": 0}, 0),
        ({"loss": False, "weight": 1}, 0),
        ({"loss": 0.5}, 0.5),
        ({"loss_weight": "0.5", "train": True}, 0.5),
        ({"loss_mask": 0}, 0),
        ({"masked": True}, 0),
        ({"no_loss": False}, 1),
        ({"is_trainable": False}, 0),
        ({"metadata": {"train": False}}, 0),
        ({"extra": {"loss_mask": True, "masked": False, "loss": 1.7}}, 1),
        ({}, 1),
    ],
)
@pytest.mark.parametrize("form", ["openai", "sharegpt"])
def test_flags_of_a_message_are_its_weight(more, weight, form):
    if form == "openai":
        found = imported(user(), {"role": "assistant", "content": "3.", **more})
    else:
        turns = [{"from": "human", "value": "?"}, {"from": "gpt", "value": "3.", **more}]
        found = sharegpt.trajectory({"conversations": turns}, source="s", line=0)
    assert found.messages[1] == Message("assistant", "3.", weight=weight)


@pytest.mark.parametrize("more", [{"weight": -1}, {"train": "perhaps"}, {"loss": 2.5}])
def test_a_weight_that_is_none_is_named(more):
    (key,) = more
    with pytest.raises(RowError, match=rf"message 1: '{key}' must be"):
        imported(user(), {"role": "assistant", "content": "3.", **more})


def test_turns_of_different_weight_stay_two():
    entries = [user(), {"role": "assistant", "content": "I look.", "weight": 0}]
    found = imported(*entries, called(("c", "get_weather", {"city": "Oslo"}))).messages
    assert [(m.content, m.calls, m.weight) for m in found[1:]] == [
        ("I look.", (), 0),
        ("", (OSLO,), 1),
    ]


def test_an_untrained_turn_is_context_and_no_right_call(cases):
    for name in ("openai", "sharegpt"):
        for one in cases(f"untrained_turn_flags_{name}").values():
            for rules in ("off", "structured+static"):
                paris, oslo, answer = label_turns(one, rules)
                assert not one.unread and paris.verdict == "context"
                assert (paris.kept, paris.right, paris.calls) == (False, False, ())
                assert oslo.right and answer.right


# Nulls of tables.


def test_the_nulls_of_tables_are_undone(cases):
    for name in ("table_padding", "table_padding_calls"):
        first, second = cases(name).values()
        assert first.messages[1].calls == (OSLO,)
        assert second.messages[1].calls == (
            ToolCall("send_mail", {"to": "ann", "text": "I am late."}),
        )
        assert (first.repairs["null_argument"], second.repairs["null_argument"]) == (3, 2)
        for one in (first, second):
            assert [[p.name for p in tool.parameters] for tool in one.tools] == [
                ["city", "unit"],
                ["to", "text"],
            ]
            assert "enum" not in one.tools[0].parameters[0].schema
            assert "null" not in json.dumps([tool.declared.entry for tool in one.tools])
            assert not one.unread
            assert all(label.right for label in label_turns(one, "structured+static"))


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        ({"city": "Oslo", "unit": None}, {"city": "Oslo", "unit": None}),
        ({"city": "Oslo", "to": None}, {"city": "Oslo"}),
        ({"city": None}, {}),
        ({"city": "Oslo", "x": [None, {"y": None}]}, {"city": "Oslo", "x": [None, {"y": None}]}),
    ],
)
def test_a_null_stays_only_where_the_schema_allows_it(arguments, left, as_text):
    given = json.dumps(arguments) if as_text else arguments
    found = imported(user(), called(("c", "get_weather", given)))
    assert found.messages[1].calls[0].arguments == left
    assert found.repairs.get("null_argument", 0) == len(arguments) - len(left)


def test_in_a_table_also_nulls_that_the_schema_allows_say_nothing():
    empty = {"tool_calls": None, "name": None}
    nested = {"city": "Oslo", "unit": None, "area": {"x": None}}
    call = {**called(("c", "get_weather", nested)), "name": None}
    none = {"function_call": {"name": None, "arguments": None}}
    found = imported({**user(), **empty, **none}, {**call, **none})
    assert found.messages[1].calls == (OSLO,) and found.repairs["null_argument"] == 2


def test_a_declaration_as_given_keeps_its_nulls():
    tool = {**WEATHER, "parameters": {"properties": {"n": {"type": "integer", "default": None}}}}
    (found,) = imported(user(), called(), tools=[tool]).tools
    assert found.parameters[0].schema == {"type": "integer", "default": None}


# Results and their calls.


def test_results_are_paired_by_id_or_by_name(cases):
    rows = {**cases("parallel_by_id"), **cases("parallel_by_name")}
    assert len(rows) == 5
    for one in rows.values():
        weather, mail = (m.content for m in one.messages if m.role == "tool")
        assert "temp" in weather and "invalid parameter" in mail
        wrong = label_turns(one, "structured")[0]
        assert [call.verdict for call in wrong.calls] == ["keep", "error"]


TWO = called(("a", "get_weather", {"city": "Oslo"}), ("b", "get_weather", {"city": "Rome"}))


@pytest.mark.parametrize(
    "answers",
    [
        [result("1", name="get_weather"), result("2", name="get_weather")],
        [result("1", name="other"), result("2", name="get_weather")],
        [result("1", tool_call_id="x"), result("2", tool_call_id="y")],
    ],
)
def test_results_that_name_no_one_of_several_calls_are_refused(answers):
    with pytest.raises(RowError, match="tool_call_id"):
        imported(user(), TWO, *answers)


def test_names_and_ids_in_camel_case_pair_results_too():
    calls = [
        {"toolCallId": i, "toolName": n, "args": a}
        for i, n, a in (("1", "get_weather", {"city": "Oslo"}), ("2", "send_mail", {"to": "a"}))
    ]
    found = imported(
        user(),
        {"role": "assistant", "content": "", "tool_calls": calls},
        result("sent", toolCallId="2"),
        result("3", toolCallId="1"),
    )
    assert found.messages[1].calls == (OSLO, ToolCall("send_mail", {"to": "a"}))
    assert [message.content for message in found.messages[2:]] == ["3", "sent"]


def test_one_result_left_belongs_to_the_one_call_left():
    answers = [result("2", tool_call_id="b"), result("1", name="get_weather")]
    assert [m.content for m in imported(user(), TWO, *answers).messages[2:]] == ["1", "2"]
    alone = imported(user(), called(("a", "get_weather", {})), result("1", name="other"))
    assert alone.messages[2].content == "1"


def test_a_single_result_by_name_leaves_the_other_call_without_one():
    two = called(("a", "get_weather", {"city": "Oslo"}), ("b", "send_mail", {"to": "ann"}))
    found = imported(user(), two, result("sent", name="send_mail")).messages[2:]
    assert [(m.content, m.status) for m in found] == [("", "missing"), ("sent", "")]


# Failures.


def test_the_only_sign_of_failure_may_be_a_field(cases):
    wrong = {
        name: not label_turns(one, "structured")[0].right
        for name, one in cases("failure_fields").items()
    }
    fine = {"log_with_word_error", "errors_empty", "returncode"}
    assert wrong == {name: name not in fine for name in wrong} and len(wrong) == 8


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"status": "error"}, "error"),
        ({"status": "FAILED"}, "error"),
        ({"status": "success"}, ""),
        ({"status": "completed"}, ""),
        ({"status_code": 503}, "error"),
        ({"statusCode": 404}, "error"),
        ({"result": {"isError": True}}, "error"),
        ({"artifact": {"is_error": False}}, ""),
        ({"status_code": 200}, ""),
        ({"isError": True}, "error"),
        ({"is_error": "true"}, "error"),
        ({"is_error": "false"}, "ok"),
        ({"success": False}, "error"),
        ({"exit_code": 2}, "error"),
        ({"exitCode": "1"}, "error"),
        ({"exit_code": 0}, ""),
        ({"returncode": None}, ""),
        ({"metadata": {"exit_code": 1}}, "error"),
        ({"metadata": {"status": "failed"}}, ""),
        ({"error": {"code": 3}}, "error"),
        ({"error": []}, ""),
        ({"error": "none"}, ""),
        ({"content": [{"type": "text", "text": "x", "is_error": True}]}, "error"),
        ({"content": [{"type": "order", "status": "failed"}]}, ""),
    ],
)
def test_fields_of_a_result_are_its_status(more, status):
    found = imported(user(), called(("c", "get_weather", {})), {**result("x"), **more})
    assert found.messages[2].status == status


def test_the_text_of_an_error_stands_for_a_result_without_text():
    found = imported(user(), called(("c", "get_weather", {})), result("", error="No city."))
    assert found.messages[2] == Message("tool", "No city.", status="error")


# Tools and system texts.


def test_tools_and_system_texts_elsewhere_are_read(cases):
    for one in cases("tools_elsewhere").values():
        assert [tool.name for tool in one.tools] == ["get_weather"] and not one.unread
    for one in cases("toplevel_system").values():
        assert one.messages[0] == Message("system", "ALWAYS ANSWER IN CAPITALS.")
        assert not one.unread


@pytest.mark.parametrize(
    "row",
    [
        {"chat_template_kwargs": {"tools": [WEATHER]}},
        {"body": {"tools": [WEATHER]}},
        {"messages": [{**user(), "tools": [WEATHER]}, called(("c", "get_weather", {}))]},
        {"extra": {"functions": json.dumps([WEATHER])}},
        {"tools": {"get_weather": {"parameters": WEATHER["parameters"]}}},
        {"tools": [json.dumps(WEATHER)]},
        {"tools": [{"functionDeclarations": [WEATHER]}, {"type": "web_search"}]},
        {"tools": [], "available_tools": [WEATHER], "metadata": {"tools": [WEATHER]}},
        {"messages": [{"role": "system", "content": "", "tools": [WEATHER]}, user("x")]},
    ],
)
def test_tools_in_any_place_and_wrapper_are_read(row):
    answer = {"role": "assistant", "content": "3."}
    row = {"messages": [user(), answer], **row}
    row["messages"] = [*row["messages"], answer]
    found = openai.trajectory(row, source="s", line=0)
    assert [tool.name for tool in found.tools] == ["get_weather"]
    assert found.messages[0].role == "user"
    assert found.repairs.get("builtin_tool", 0) == ("web_search" in str(row))


def test_different_tools_in_several_places_are_refused():
    row = {"messages": [user()], "tool_list": [WEATHER], "metadata": {"tools": [MAIL]}}
    with pytest.raises(RowError, match="several places"):
        openai.trajectory(row, source="s", line=0)


def test_conversations_may_have_roles_and_calls():
    turns = [user(), called(("c", "get_weather", {"city": "Oslo"})), result("3")]
    assert sharegpt.recognise({"conversations": turns}) == "conversations of role/content"
    found = sharegpt.trajectory({"conversations": turns, "tools": [WEATHER]}, source="s", line=0)
    assert found.messages[1].calls == (OSLO,)
    del turns[1]["content"]
    assert sharegpt.recognise({"conversations": turns})


def test_a_system_text_is_not_repeated():
    system = {"role": "system", "content": "Be short."}
    found = imported(system, user(), system="Be short.", instructions="Be kind.").messages
    assert [m.content for m in found if m.role == "system"] == ["Be kind.\n\nBe short."]


# Calls, texts and media.


def test_argument_forms_names_and_empty_turns_are_read(cases):
    forms = cases("argument_forms")
    for name, one in forms.items():
        calls = [call for m in one.messages for call in m.calls]
        if name == "args_not_json":
            assert one.messages[1].status == "error"
        elif name == "unicode_escape":
            assert calls[0].arguments["city"].startswith("Ås 😀")
        else:
            assert set(map(str, calls)) == {str(OSLO)}
    assert sum(len(m.calls) for m in forms["both_kinds"].messages) == 1
    assert forms["both_kinds"].repairs == {"repeated_call": 1}
    for name, one in cases("tool_names").items():
        tool, _, parameter = name.partition("|")
        assert one.messages[1].calls == (ToolCall(tool, {parameter: "Oslo"}),)
        assert one.tools[0].name == tool and one.tools[0].parameters[0].name == parameter
    assert cases("empty_turns")["empty_calls"].messages[1].content == "Hello."
    assert cases("call_texts")["thought_and_call"].messages[1].calls == (OSLO,)


def test_a_call_in_two_places_is_one_and_others_are_refused():
    call = {"name": "get_weather", "arguments": '{"city": "Oslo"}'}
    text = (
        f"I look.\n<tool_call>\n{json.dumps({**call, 'arguments': OSLO.arguments})}\n</tool_call>"
    )
    entry = called(("c", "get_weather", {"city": "Oslo"}), content=text, function_call=call)
    found = imported(user(), entry)
    assert found.messages[1] == Message("assistant", "I look.", (OSLO,))
    assert found.repairs == {"repeated_call": 2}
    other = {**call, "arguments": '{"city": "Rome"}'}
    with pytest.raises(RowError, match="other calls"):
        imported(user(), {**entry, "function_call": other})


def test_a_refusal_is_the_text_of_its_turn():
    for entry in (
        {"content": None, "refusal": "I cannot."},
        {"content": [{"type": "refusal", "refusal": "I cannot."}], "refusal": None},
    ):
        found = imported(user(), {"role": "assistant", **entry})
        assert found.messages[1] == Message("assistant", "I cannot.")


DATA = "data:image/png;base64,iVBORw0KGgo="


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "image_url", "image_url": {"url": DATA}}], "[image: image/png]"),
        (
            [{"type": "text", "text": "A plot."}, {"type": "image_url", "image_url": "a/plot.png"}],
            "A plot.\n[image: plot.png]",
        ),
        ([{"type": "image", "data": "iVBO", "mimeType": "image/jpeg"}], "[image: image/jpeg]"),
        ([{"type": "input_audio", "input_audio": {"format": "wav"}}], "[audio: wav]"),
        (f'{{"plot": "{DATA}", "n": 1}}', '{"plot": "[image: image/png]", "n": 1}'),
        ({"plot": DATA}, '{"plot": "[image: image/png]"}'),
        ("The data: see above, data:1,2.", None),
    ],
)
def test_media_in_results_are_named_placeholders(content, text):
    found = imported(user(), called(("c", "get_weather", {})), result(content))
    assert found.messages[2].content == (content if text is None else text)
    assert found.repairs.get("media_in_result", 0) == (text is not None)


def test_images_of_users_are_refused_by_reason_and_the_other_rows_stay(cases):
    rows = cases("images")
    assert "'image_url'" in rows.pop("img_user").reason
    assert all(isinstance(one, Trajectory) for one in rows.values())


def test_a_system_turn_in_the_middle_is_read(cases):
    found = cases("system_in_the_middle")["mid_developer"]
    assert [m.role for m in found.messages][-2:] == ["system", "assistant"]
