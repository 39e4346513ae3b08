"""Calls, tools and answers that stand in texts in many forms, and what only looks so."""

import json
import time

import pytest

from tl_jax.calls.call import ToolCall
from tl_jax.data.importers import openai
from tl_jax.data.trajectory import Message

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"name": "weather", "description": "W.", "parameters": CITY}
MAIL = {"name": "mail", "description": "M.", "parameters": {"properties": {"to": {}}}}
TOOLS = [{"type": "function", "function": one} for one in (WEATHER, MAIL)]
OSLO, ANN = ToolCall("weather", {"city": "Oslo"}), ToolCall("mail", {"to": "ann"})
CALL = '{"name": "weather", "arguments": {"city": "Oslo"}}'
USER = {"role": "user", "content": "Oslo?"}


def read(*entries, tools=TOOLS, **row):
    found = {"messages": [USER, *entries], "tools": tools, **row}
    return openai.trajectory(found, source="s", line=0)


def said(text, tools=TOOLS):
    return read({"role": "assistant", "content": text}, tools=tools).messages[1]


WRITTEN = {
    "fence": f"```json\n{CALL}\n```",
    "fence without a name": f"```\n{CALL}\n```\n",
    "fence of calls": f"```tool_call\n{CALL}\n```",
    "list in a fence": f"```json\n[{CALL}]\n```",
    "tool and args": '```json\n{"tool": "weather", "args": {"city": "Oslo"}}\n```',
    "action": '{"action": "weather", "action_input": {"city": "Oslo"}}',
    "tool_code": '```tool_code\nprint(default_api.weather(city="Oslo"))\n```',
    "nested": f'{{"type": "function", "function": {CALL}}}',
    "tool_calls": f'{{"tool_calls": [{CALL}]}}',
    "function_call": f'{{"function_call": {CALL}}}',
    "arguments as text": '[{"name": "weather", "arguments": "{\\"city\\": \\"Oslo\\"}"}]',
    "literal": "{'name': 'weather', 'arguments': {'city': 'Oslo'}}",
    "glaive": '<functioncall> {"name": "weather", "arguments": \'{"city": "Oslo"}\'} ',
    "react": 'Action: weather\nAction Input: {"city": "Oslo"}',
    "python": "weather(city='Oslo')",
    "builtin": '<|python_tag|>weather.call(city="Oslo")',
    "python tag": f"<|python_tag|>{CALL}<|eom_id|>",
    "functionary": '>>>weather\n{"city": "Oslo"}',
    "name and object": 'weather\n{"city": "Oslo"}',
    "any tag": f"<tool_use>{CALL}</tool_use>",
    "python in tags": "<tool_call>\nweather(city='Oslo')\n</tool_call>",
    "tag of the prompt": f"{CALL}\n</tool_call>",
    "action in a fence": f"Action:\n```\n{CALL}\n```",
    "tags of a call": f"<function_call>\n{CALL}\n</function_call>",
    "phi": f"<|tool_call|>[{CALL}]<|/tool_call|>",
    "openhands": "<function=weather>\n<parameter=city>Oslo</parameter>\n</function>",
    "invoke": '<function_calls>\n<invoke name="weather">\n<parameter name="city">Oslo</parameter>\n'
    "</invoke>\n</function_calls>",
    "harmony": '<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{"city": '
    '"Oslo"}<|call|>',
    "hermes with an id": f'<tool_call>\n{{"id": 0, {CALL[1:]}\n</tool_call><|im_end|>',
}


@pytest.mark.parametrize("form", WRITTEN)
def test_a_turn_that_is_a_call_of_a_declared_tool_is_one(form):
    assert said(WRITTEN[form]) == Message("assistant", "", (OSLO,))
    if not form.startswith("hermes"):
        for tools in ([], TOOLS[1:]):
            assert said(WRITTEN[form], tools).calls == ()


def test_what_is_said_and_thought_before_a_call_is_kept():
    assert said(f"I look.\n\n{WRITTEN['fence']}") == Message("assistant", "I look.", (OSLO,))
    assert said(f"I look.\n{WRITTEN['openhands']}") == Message("assistant", "I look.", (OSLO,))
    other = '```json\n{"name": "mail", "arguments": {"to": "ann"}}\n```'
    assert said(f"{WRITTEN['fence']}\n{other}").calls == (OSLO, ANN)
    thought = Message("assistant", "", (OSLO,), thoughts="Hm.")
    for text in (
        f'{{"thought": "Hm.", "tool_calls": [{CALL}]}}',
        f"Thought: Hm.\n{WRITTEN['react']}\nObservation:",
        f"<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant{WRITTEN['harmony']}",
        f"<think>Hm.</think>\n{WRITTEN['fence']}",
    ):
        assert said(text) == thought


@pytest.mark.parametrize(
    "text",
    [
        f"<example>{CALL}</example>",
        json.dumps(WEATHER),
        f"```json\n{json.dumps({'name': 'weather', 'parameters': CITY})}\n```",
        json.dumps({"name": "weather", "parameters": CITY}),
        f"So it is written:\n```json\n{CALL}\n```\nTry it.",
        f"Qwen writes:\n```\n<tool_call>\n{CALL}\n</tool_call>\n```\nThat is all.",
        f"Write `<tool_call>{CALL}</tool_call>`.",
        '```json\n{"name": "weather", "temperature": 3}\n```',
        f"```json\n{CALL[:-1]}\n```",
        "```python\nweather(city='Oslo')\n```",
        "weather(city='Oslo') tells the weather.",
        '{"name": "weather", "city": "Oslo"}',
        '{"name": "Oslo", "arguments": {}}',
        "Action: weather is what you need.",
        'Action: a\nAction Input: {}\nObservation: 3\nAction: mail\nAction Input: {"to": "ann"}',
    ],
)
def test_a_text_that_only_looks_like_a_call_stays_as_it_is(text):
    assert said(text) == Message("assistant", text)


@pytest.mark.parametrize(
    "text",
    [
        f"What is <tool_call>{CALL}</tool_call>?",
        f"```json\n{CALL}\n```",
        "<think>why?</think> Oslo?",
        "<tool_response> is which tag?",
    ],
)
def test_a_user_may_write_anything(text):
    found = openai.trajectory(
        {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "3."}]},
        source="s",
        line=0,
    )
    assert found.messages[0] == Message("user", text)


def test_a_call_under_the_role_of_a_function_is_one_where_it_answers_nothing():
    result = {"role": "tool", "content": "3"}
    found = read({"role": "function", "content": CALL}, result).messages
    assert found[1:] == (Message("assistant", "", (OSLO,)), Message("tool", "3"))
    again = read({"role": "assistant", "content": CALL}, {"role": "function", "content": CALL})
    assert again.messages[2] == Message("tool", CALL)


HOSTILE = ["```\n", f"```json\n{CALL}\n```\n", f"<t>{CALL}</t>\n", "</t>", "f(", "<tool_call>"]


@pytest.mark.parametrize("unit", [*HOSTILE, "Action: weather\n\n", "weather(", "[{", CALL])
@pytest.mark.parametrize("end", ["", "```", "</t>"])
def test_hostile_texts_are_read_in_linear_time(unit, end):
    system = {"role": "system", "content": unit * (200_000 // len(unit)) + end}
    said = {"role": "assistant", "content": system["content"]}
    start = time.process_time()
    openai.trajectory({"messages": [system, USER, said], "tools": TOOLS}, source="s", line=0)
    assert openai.trajectory({"messages": [system, USER, said]}, source="s", line=0)
    assert time.process_time() - start < 2


# Answers.


def answers(*texts):
    both = {"role": "assistant", "content": f"<tool_call>{CALL}</tool_call>\n<tool_call>" + (
        '{"name": "mail", "arguments": {"to": "ann"}}</tool_call>'
    )}  # fmt: skip
    found = read(both, *texts, {"role": "assistant", "content": "Done."})
    return [(m.role, m.content) for m in found.messages[2:-1]]


def test_answers_that_say_their_tool_find_its_call():
    weather, mail = '{"name": "weather", "content": 3}', '{"name": "mail", "content": true}'
    right = [("tool", weather), ("tool", mail)]
    tagged = f"<tool_response>{mail}</tool_response>\n<tool_response>{weather}</tool_response>"
    for role in ("tool", "user"):
        assert answers({"role": role, "content": tagged}) == right
    assert answers({"role": "tool", "content": f"[{mail}, {weather}]"}) == right
    assert answers(*({"role": "tool", "content": text} for text in (mail, weather))) == right
    # Two of one name say nothing.
    first, second = weather, weather.replace("3", "4")
    texts = ({"role": "tool", "content": text} for text in (first, second))
    assert answers(*texts) == [("tool", first), ("tool", second)]


def test_what_a_user_says_behind_answers_is_kept():
    text = "<tool_response>3</tool_response>\n<tool_response>ok</tool_response>\nIn words, please."
    found = [("tool", "3"), ("tool", "ok"), ("user", "In words, please.")]
    assert answers({"role": "user", "content": text}) == found


# Tools in a system text.


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([WEATHER, MAIL], indent=4),
        str([WEATHER, MAIL]),
        f"{json.dumps(WEATHER, indent=2)}\n\n{json.dumps(MAIL)}\nUse them.",
        f"<AVAILABLE_TOOLS>{json.dumps([WEATHER, MAIL])}</AVAILABLE_TOOLS>",
        f"<functions>\n{json.dumps(WEATHER)}\n{json.dumps(MAIL)}\n</functions>",
        f"<tools><tool>{json.dumps(WEATHER)}</tool>\n<tool>{json.dumps(MAIL)}</tool></tools>",
    ],
)
def test_tools_are_found_however_a_system_text_has_them(text):
    system = {"role": "system", "content": f"You may call:\n{text}"}
    row = {"messages": [system, USER, {"role": "assistant", "content": CALL}]}
    found = openai.trajectory(row, source="s", line=0)
    assert [tool.name for tool in found.tools] == ["weather", "mail"]
    assert found.messages[1].calls == (OSLO,) and found.repairs["system_of_tools"] == 1


@pytest.mark.parametrize("text", ['[\n{"name": "Ann", "age": 3}]', '{"name": "Ann"}', "[{x}]"])
def test_other_data_in_a_system_text_is_no_tool(text):
    system = {"role": "system", "content": f"You know:\n{text}"}
    row = {"messages": [system, USER, {"role": "assistant", "content": "3."}]}
    found = openai.trajectory(row, source="s", line=0)
    assert found.tools == () and found.messages[0].content == system["content"]
