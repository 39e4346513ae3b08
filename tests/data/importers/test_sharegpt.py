"""ShareGPT rows in the styles of glaive, Hermes and ToolACE, and xLAM rows."""

import json
import time

import pytest

from tl_jax.calls.call import ToolCall
from tl_jax.data.importers import openai, sharegpt, xlam
from tl_jax.data.importers.text_calls import tools_in_text
from tl_jax.data.trajectory import Message
from tl_jax.errors import RowError

TOOL = {
    "name": "get_rate",
    "description": "Rate.",
    "parameters": {
        "type": "dict",
        "properties": {"of": {"type": "str"}, "to": {"type": "str"}},
        "required": ["of"],
    },
}
SPACED = {**TOOL, "name": "Get Rate"}


def turns(*pairs):
    return [{"from": speaker, "value": value} for speaker, value in pairs]


def imported(row, importer=sharegpt):
    assert importer.recognise(row)
    return importer.trajectory(row, source="s.jsonl", line=3)


def roles(found):
    return [(m.role, m.content, [call.name for call in m.calls]) for m in found.messages]


def test_glaive_rows_have_their_calls_and_tools_in_json_text():
    row = {
        "conversations": turns(
            ("human", "Rate?"),
            ("function_call", '{"name": "get_rate", "arguments": {"of": "EUR"}}'),
            ("observation", '{"rate": 1.1}'),
            ("gpt", "It is 1.1."),
        ),
        "tools": json.dumps([TOOL]),
    }
    found = imported(row)
    assert [tool.name for tool in found.tools] == ["get_rate"]
    assert found.tags == {"repairs": "type_name:2"}
    assert roles(found) == [
        ("user", "Rate?", []),
        ("assistant", "", ["get_rate"]),
        ("tool", '{"rate": 1.1}', []),
        ("assistant", "It is 1.1.", []),
    ]
    assert (found.id, found.line) == ("s.jsonl:3", 3)


def test_a_call_that_is_no_json_is_a_failed_turn():
    row = {"conversations": turns(("human", "Rate?"), ("function_call", "get_rate(EUR)"))}
    assert imported(row).messages[1] == Message("assistant", "get_rate(EUR)", status="error")


HERMES = "You call functions. <tools> {} </tools> For each call return <tool_call>."


@pytest.mark.parametrize(
    "block",
    [
        json.dumps([{"type": "function", "function": TOOL}]),
        str([TOOL]),
        "\n" + json.dumps(TOOL) + "\n" + json.dumps({**TOOL, "name": "other"}) + "\n",
        json.dumps({**TOOL, "description": "a\u2028b\x85c"}, ensure_ascii=False)
        + "\n"
        + json.dumps({**TOOL, "name": "other"}),
    ],
)
def test_hermes_rows_have_tools_calls_and_answers_in_tags(block):
    one = '<tool_call>\n{"name": "get_rate", "arguments": {"of": "EUR"}}\n</tool_call>'
    two = "<tool_call>{'arguments': {'of': 'USD', 'to': None}, 'name': 'get_rate'}</tool_call>"
    row = {
        "id": "h1",
        "conversations": turns(
            ("system", HERMES.replace("{}", block)),
            ("human", "Rates?"),
            ("gpt", f"<think>Two.</think>\n{one}\n{two}"),
            ("tool", "<tool_response>\n1.1\n</tool_response>\n<tool_response>1</tool_response>"),
            ("gpt", "1.1 and 1."),
        ),
    }
    found = imported(row)
    assert found.tools[0].name == "get_rate"
    assert found.messages[1].calls == (
        ToolCall("get_rate", {"of": "EUR"}),
        ToolCall("get_rate", {"of": "USD", "to": None}),
    )
    assert found.messages[1].thoughts == "Two."
    assert roles(found)[1:] == [
        ("assistant", "", ["get_rate", "get_rate"]),
        ("tool", "1.1", []),
        ("tool", "1", []),
        ("assistant", "1.1 and 1.", []),
    ]


def test_the_hermes_system_text_is_left_out_also_where_the_row_has_the_tools():
    row = {
        "conversations": turns(("system", HERMES), ("human", "Rate?"), ("gpt", "Of what?")),
        "tools": [TOOL],
    }
    found = imported(row)
    assert len(found.tools) == 1
    assert [m.role for m in found.messages] == ["user", "assistant"]


@pytest.mark.parametrize(
    "system",
    [
        'Address users like [{"name": "Ann"}, {"name": "Bob"}].',
        f"An example: {json.dumps([TOOL])}.",
        "Tools stand in <tools> tags elsewhere.",
    ],
)
@pytest.mark.parametrize("importer", [sharegpt, openai])
def test_a_system_text_stays_where_the_row_has_the_tools(system, importer):
    pairs = (("system", system), ("user", "Rate?"), ("assistant", "Of what?"))
    if importer is sharegpt:
        row = {"conversations": turns(*pairs), "tools": [TOOL]}
    else:
        row = {"messages": [{"role": r, "content": c} for r, c in pairs], "tools": [TOOL]}
    found = imported(row, importer)
    assert [tool.name for tool in found.tools] == ["get_rate"]
    assert found.messages[0] == Message("system", system)


def test_a_list_of_names_in_the_system_text_is_no_list_of_tools():
    system = 'Users: [{"name": "Ann"}, {"name": "Bob", "age": 3}]. Be kind.'
    found = imported({"conversations": turns(("system", system), ("human", "Hi"), ("gpt", "Hi"))})
    assert found.tools == () and found.messages[0] == Message("system", system)


@pytest.mark.parametrize(
    "reply",
    [
        "A <tool_call> block holds a call.",
        "I write <tool_call> and </tool_call> round a call.",
        "<tool_call> is the mark of a call, [1] says.",
    ],
)
def test_prose_that_names_the_mark_of_a_call_is_no_call(reply):
    row = {"conversations": turns(("human", "How?"), ("gpt", reply))}
    assert imported(row).messages[1] == Message("assistant", reply)


def test_a_call_after_prose_that_names_its_mark_is_read():
    text = 'After <tool_call> comes JSON.\n<tool_call> {"name": "get_rate"} </tool_call>'
    found = imported({"conversations": turns(("human", "How?"), ("gpt", text))}).messages[1]
    assert found.content == "After <tool_call> comes JSON."
    assert [call.name for call in found.calls] == ["get_rate"]


@pytest.mark.parametrize(
    "body",
    [
        "{nothing",
        "3",
        "get_rate(of='EUR')",
        "{'name': 'a'}, y={'name': 'b'}",
        '{"arguments": {}}',
        '{"name": "f", "arguments": [1]}',
    ],
)
def test_a_hermes_call_that_cannot_be_read_is_a_failed_turn(body):
    text = f"I call.\n<tool_call>{body}</tool_call>"
    row = {"conversations": turns(("human", "Rate?"), ("gpt", text))}
    assert imported(row).messages[1] == Message("assistant", text, status="error")


def toolace(reply):
    system = f"Use these functions:\n{json.dumps([SPACED])}\nAnswer with [func(a=b)]."
    return {
        "system": system,
        "conversations": turns(("user", "Rate?"), ("assistant", reply), ("tool", "[1, 2]")),
    }


def test_toolace_rows_have_tools_in_the_system_text_and_calls_in_brackets():
    found = imported(toolace("""[Get Rate(of="a (b)", to='c]'), Get Rate(of="d", n=[{"x": 1}])]"""))
    assert [tool.name for tool in found.tools] == ["Get Rate"]
    assert found.messages[1].calls == (
        ToolCall("Get Rate", {"of": "a (b)", "to": "c]"}),
        ToolCall("Get Rate", {"of": "d", "n": [{"x": 1}]}),
    )
    assert [m.content for m in found.messages[2:]] == ["1", "2"]


@pytest.mark.parametrize("reply", ["[Get Rate(of=EUR)]", "[Get Rate('EUR')]", "[Get Rate(of='x']"])
def test_a_bracketed_call_of_a_known_tool_that_cannot_be_read_is_a_failed_turn(reply):
    assert imported(toolace(reply)).messages[1] == Message("assistant", reply, status="error")


@pytest.mark.parametrize(
    "reply",
    [
        "[get_rate(" + "'" + "\\'" * 100_000 + ")]",
        "[get_rate(" + '"' + '\\"' * 100_000 + ")]",
        "[get_rate(of='" + "\\" * 99_999 + "]",
        "[get_rate(" + "'\"" * 100_000 + ")]",
        "[" + "get_rate(of='x'), " * 10_000 + "]",
        "[" + " " * 200_000 + "]",
        "<tool_call>" * 30_000,
        "<tool_call> " * 30_000 + " " * 100_000 + "</tool_call>",
    ],
)
def test_hostile_replies_are_read_in_linear_time(reply):
    row = {"conversations": turns(("human", "Rate?"), ("gpt", reply)), "tools": [TOOL]}
    begin = time.process_time()
    imported(row)
    assert time.process_time() - begin < 1


@pytest.mark.parametrize("reply", ["[Note (see above)]", "[1, 2]", "[", "f(a=1)", "[f(a=1)] yes"])
def test_other_text_in_brackets_stays_text(reply):
    assert imported(toolace(reply)).messages[1] == Message("assistant", reply)


def test_a_system_text_without_tools_stays():
    entries = [{"role": "system", "content": "Be [{kind}]."}, {"role": "user", "content": "x"}]
    assert tools_in_text(entries) == (None, entries)


def test_chat_rows_with_calls_in_their_text_are_read_as_well():
    row = {
        "messages": [
            {"role": "system", "content": HERMES.replace("{}", json.dumps([TOOL]))},
            {"role": "user", "content": "Rate?"},
            {"role": "assistant", "content": '<tool_call>{"name": "get_rate"}</tool_call>'},
            {"role": "user", "content": "<tool_response>1.1</tool_response>"},
        ]
    }
    found = imported(row, openai)
    assert roles(found)[1:] == [("assistant", "", ["get_rate"]), ("tool", "1.1", [])]


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": turns(("human", "x"), ("alien", "y"))},
        {"conversations": turns(("human", "x"), ("gpt", 3))},
        {"conversations": turns(("human", "x")), "tools": "[{"},
        {"conversations": turns(("system", "<tools>nothing"), ("human", "x"))},
    ],
)
def test_rows_that_cannot_be_read_are_row_errors(row):
    with pytest.raises(RowError):
        imported(row)


XLAM = {
    "id": 7,
    "query": "Rate of EUR and USD?",
    "answers": json.dumps(
        [
            {"name": "get_rate", "arguments": {"of": "EUR"}},
            {"name": "get_rate", "arguments": {"of": "USD"}},
        ]
    ),
    "tools": json.dumps(
        [
            {
                "name": "get_rate",
                "description": "Rate.",
                "parameters": {
                    "of": {"description": "Of.", "type": "str"},
                    "days": {"description": "D.", "type": "List[int], optional"},
                    "to": {"description": "To.", "type": "str", "default": "EUR"},
                },
            }
        ]
    ),
}


def test_xlam_rows_become_one_turn_of_all_calls():
    found = imported(XLAM, xlam)
    assert [(p.name, p.type, p.required) for p in found.tools[0].parameters] == [
        ("of", "string", True),
        ("days", "array", False),
        ("to", "string", False),
    ]
    assert found.tags["repairs"] == "missing_required:1,properties_without_schema:1,type_name:3"
    assert roles(found) == [
        ("user", "Rate of EUR and USD?", []),
        ("assistant", "", ["get_rate", "get_rate"]),
    ]
    assert found.messages[1].calls[1].arguments == {"of": "USD"}
    assert found.id == "xlam:7"


@pytest.mark.parametrize(
    "change", [{"query": ""}, {"answers": "[]"}, {"answers": "{"}, {"answers": 3}, {"tools": "x"}]
)
def test_xlam_rows_without_a_question_or_an_answer_are_row_errors(change):
    with pytest.raises(RowError):
        imported({**XLAM, **change}, xlam)
