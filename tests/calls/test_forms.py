"""What holds in all call styles of the table, each with its own tags, names and quotes."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.calls.call import ToolCall, tool_from_schema
from tl_jax.calls.parse import REASONS, CallSyntaxError, parse_call, parse_calls
from tl_jax.calls.render import render_calls, render_calls_spans
from tl_jax.calls.styles import STYLES
from tl_jax.calls.syntax import MAX_DEPTH, MAX_LENGTH

SECONDS = 0.05
NAMES = st.from_regex(r"[A-Za-z_0-9.\-]{1,12}", fullmatch=True)
TAGS = sorted(
    {style.mark for style in STYLES.values()} | {m for s in STYLES.values() for m in s.marks}
)
TEXT = st.text(max_size=12) | st.sampled_from(
    [
        *filter(None, TAGS),
        "7",
        "-1.5e3",
        "true",
        "None",
        "null",
        '"x"',
        "'x'",
        "{'a': 1}",
        '["a"]',
        "[]",
    ]
    + [
        "",
        "\n",
        " a\n",
        "\n\na",
        "a\r\n",
        "\0",
        "</parameter>",
        "</param>",
        "</arg_value>",
        "<escape>",
    ]
    + ['<|"|>', "<![CDATA[x]]>", "]]>", "\\", "\\u003c", "｜", "f(x='y'), g()", '"}', "<|message|>"]
)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
CALLS = st.lists(
    st.builds(ToolCall, NAMES, st.dictionaries(NAMES, VALUES, max_size=3)), min_size=1, max_size=3
)
CALL = ToolCall("find", {"query": 'a "\u00e9"\nb', "n": 7, "tags": [1.5, True, None], "sort": {}})
OTHER = ToolCall("now")
ONE, TWO = ToolCall("f", {"a": "x y", "n": 7}), ToolCall("g")


def written(calls, style):
    """Return the calls as text; None if a text in them cannot stand between the style's tokens."""
    try:
        return render_calls_spans(calls, style)
    except ValueError as error:
        assert style == "gemma" and "cannot be written" in str(error), error
        return None


@settings(max_examples=40, deadline=None)
@given(CALLS)
def test_what_is_written_is_read_back_and_found_where_it_stands(calls):
    for style in STYLES:
        rendered = written(calls, style)
        if rendered is None:
            continue
        text = f" \n{rendered.text}\n"
        assert repr(parse_calls(text, style)) == repr(tuple(calls)), style
        at = 0
        for call, part, start in zip(calls, rendered.calls, rendered.starts, strict=True):
            found = STYLES[style].find(text, at, len(text), call)
            moved = part.moved(start + 2, "")
            assert found and (found.name, found.arguments) == (
                moved.name_span,
                moved.argument_spans,
            )
            assert found.call == (start + 2, start + 2 + len(part.text))
            assert text[slice(*found.name)] == call.name
            at = found.call[1]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_damaged_call_is_calls_or_a_syntax_error(data):
    piece = data.draw(TEXT | st.just(""))
    cut, size = data.draw(st.floats(0, 1)), data.draw(st.integers(0, 5))
    for style in STYLES:
        text = render_calls([CALL, OTHER], style)
        start = int(cut * len(text))
        for parse in (parse_call, parse_calls):
            try:
                found = parse(text[:start] + piece + text[start + size :], style)
            except CallSyntaxError as error:
                assert error.reason in REASONS
                continue
            calls = (found,) if parse is parse_call else found
            again = written(calls, style)
            assert again is None or repr(parse_calls(again.text, style)) == repr(calls), style


@pytest.mark.parametrize("style", STYLES)
def test_a_call_is_whole_and_nothing_follows_it(style):
    text = render_calls([CALL], style)
    assert parse_call(text, style) == CALL
    # The last mark of Apertus is a stop token, which the text of a reply does not have.
    whole = len(text) - len("<|tools_suffix|>" if style == "apertus" else "")
    for size in range(whole):
        with pytest.raises(CallSyntaxError):
            parse_calls(text[:size], style)
    for rest in ("ok", "\nDone.", ")", "}", "]", "<|im_end|>", "```", "\u00a0"):
        with pytest.raises(CallSyntaxError) as error:
            parse_calls(text + rest, style)
        assert error.value.position >= len(text), (style, rest)
    with pytest.raises(CallSyntaxError) as error:
        parse_call(render_calls([CALL, OTHER], style), style)
    assert error.value.reason == "trailing_text"
    value = "x"
    for _ in range(MAX_DEPTH):
        value = [value]
    deep = ToolCall("f", {"a": value})
    assert parse_calls(render_calls([deep], style), style) == (deep,)
    with pytest.raises(ValueError, match="deeper"):
        render_calls([ToolCall("f", {"a": [value]})], style)


@pytest.mark.parametrize("style", STYLES)
def test_hostile_text_is_read_or_refused_quickly(style):
    text = render_calls([ToolCall("f", {"a": "b", "n": [1, {}]}), OTHER], style)
    units = ["[", '"', "\\", "<", " ", "a", "{'k':", text, STYLES[style].mark or "f("]
    for cut in (0, len(text) // 4, len(text) // 2):
        for unit in units:
            hostile = (text[:cut] + unit * (500_000 // len(unit)))[:500_000]
            for candidate in (hostile, hostile[:MAX_LENGTH]):
                assert seconds(candidate, style) < SECONDS, (cut, unit)


def seconds(text, style):
    """Least processor time of up to four readings; other work on the machine disturbs one."""
    best = float("inf")
    for _ in range(4):
        start = time.process_time()
        try:
            parse_calls(text, style)
        except CallSyntaxError as error:
            assert error.reason in REASONS
        best = min(best, time.process_time() - start)
        if best < SECONDS:
            break
    return best


TAIL = "<｜tool▁call▁end｜>"
TEXTS = {
    "json": [
        '[{"name": "f", "arguments": {"a": "x y", "n": 7}}, {"name": "g", "parameters": {}}]',
        '{"name": "f", "parameters": {"a": "x y", "n": 7}}{"name": "g", "parameters": {}}',
        '{"name": "f", "arguments": {"a": "x y", "n": 7}},{"name": "g", "arguments": {}}',
    ],
    "tool_calls": [
        '<tool_calls>[{"name": "f", "arguments": {"a": "x y", "n": 7}}, '
        '{"name": "g", "arguments": {}}]</tool_calls>',
        '<tool_calls>\n{"name": "f", "arguments": {"a": "x y", "n": 7}}\n'
        '{"name": "g", "arguments": {}}\n</tool_calls>',
    ],
    "command": [
        '<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "f", "parameters": '
        '{"a": "x y", "n": 7}},\n    {"tool_call_id": "1", "tool_name": "g", "parameters": {}}\n'
        "]<|END_ACTION|>"
    ],
    "apertus": ['<|tools_prefix|>[{"f": {"a": "x y", "n": 7}}, {"g": {}}]<|tools_suffix|>'],
    "internlm": [
        '<|action_start|><|plugin|>\n{"name": "f", "parameters": {"a": "x y", "n": 7}}'
        '<|action_end|><|action_start|><|plugin|>\n{"name": "g", "parameters": {}}<|action_end|>'
    ],
    "deepseek_v3": [
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n"
        '{"a": "x y", "n": 7}\n```' + TAIL + "\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n"
        "```json\n{}\n```" + TAIL + "<｜tool▁calls▁end｜>"
    ],
    "kimi": [
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>"
        '{"a": "x y", "n": 7}<|tool_call_end|><|tool_call_begin|>functions.g:1'
        "<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>"
    ],
    "functionary_v31": ['<function=f>{"a": "x y", "n": 7}</function><function=g>{}</function>'],
    "functionary_v32": ['f\n{"a": "x y", "n": 7}>>>g\n{}'],
    "harmony": [
        'to=functions.f <|constrain|>json<|message|>{"a": "x y", "n": 7}<|call|><|start|>assistant'
        "<|channel|>commentary to=functions.g <|constrain|>json<|message|>{}",
    ],
    "qwen_xml": [
        "<tool_call>\n<function=f>\n<parameter=a>\nx y\n</parameter>\n<parameter=n>\n7\n"
        "</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=g>\n</function>\n</tool_call>"
    ],
    "function_xml": [
        "<function=f>\n<parameter=a>\nx y\n</parameter>\n<parameter=n>7</parameter>\n</function>\n"
        "\n<function=g>\n</function>"
    ],
    "invoke": [
        '<function_calls>\n<invoke name="f">\n<parameter name="a">x y</parameter>\n'
        '<parameter name="n">7</parameter>\n</invoke>\n<invoke name="g">\n</invoke>\n'
        "</function_calls>"
    ],
    "phi": [
        '<|tool_call|>[{"name": "f", "arguments": {"a": "x y", "n": 7}}, '
        '{"name": "g", "arguments": {}}]<|/tool_call|>'
    ],
    "function_call_tags": [
        '<function_call>{"name": "f", "arguments": {"a": "x y", "n": 7}}</function_call>\n'
        '<function_call>\n{"name": "g", "parameters": {}}\n</function_call>'
    ],
    "seed": [
        "<seed:tool_call>\n<function=f>\n<parameter=a>x y</parameter>\n<parameter=n>7</parameter>\n"
        "</function>\n</seed:tool_call>\n<seed:tool_call>\n<function=g>\n</function>\n"
        "</seed:tool_call>"
    ],
    "glm": [
        "<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>x y</arg_value>\n<arg_key>n</arg_key>\n"
        "<arg_value>7</arg_value>\n</tool_call>\n<tool_call>g\n</tool_call>",
        "<tool_call>f<arg_key>a</arg_key><arg_value>x y</arg_value><arg_key>n</arg_key>"
        "<arg_value>7</arg_value></tool_call><tool_call>g</tool_call>",
    ],
    "minimax": [
        '<minimax:tool_call>\n<invoke name="f">\n<parameter name="a">x y</parameter>\n'
        '<parameter name="n">7</parameter>\n</invoke>\n<invoke name="g">\n</invoke>\n'
        "</minimax:tool_call>"
    ],
    "dsml": [
        f'<｜DSML｜{tag}>\n<｜DSML｜invoke name="f">\n<｜DSML｜parameter name="a" string="true">x y'
        '</｜DSML｜parameter>\n<｜DSML｜parameter name="n" string="false">7</｜DSML｜parameter>\n'
        f'</｜DSML｜invoke>\n<｜DSML｜invoke name="g">\n</｜DSML｜invoke>\n</｜DSML｜{tag}>'
        for tag in ("function_calls", "tool_calls")
    ],
    "minicpm": [
        '<function name="f"><param name="a"><![CDATA[x y]]></param><param name="n">7</param>'
        '</function>\n<function name="g"></function>'
    ],
    "kimi_k3": [
        '<|open|>tools<|sep|><|open|>call tool="f" index="1"<|sep|><|open|>argument key="a" '
        'type="string"<|sep|>x y<|close|>argument<|sep|><|open|>argument key="n" type="number"'
        '<|sep|>7<|close|>argument<|sep|><|close|>call<|sep|><|open|>call tool="g" index="2"'
        f"<|sep|><|close|>call<|sep|><|close|>tools<|sep|>{end}"
        for end in ("", "<|close|>message<|sep|>")
    ],
    "gemma": [
        '<|tool_call>call:f{a:<|"|>x y<|"|>,n:7}<tool_call|>\n<|tool_call>call:g{}<tool_call|>'
    ],
    "function_gemma": [
        "<start_function_call>call:f{a:<escape>x y<escape>,n:<escape>7<escape>}<end_function_call>"
        "<start_function_call>call:g{}<end_function_call>",
        "<start_function_call>call:f{a:<escape>x y<escape>, n:7}<end_function_call>"
        "<start_function_call>call:g{}<end_function_call>",
    ],
    "lfm": ["<|tool_call_start|>[f(a='x y', n=7), g()]<|tool_call_end|>"],
    "olmo": ['<function_calls>\nf(a="x y", n=7)\ng()\n</function_calls>'],
    "pythonic": ['[f(a="x y", n=7), g()]', "[f(a=x y, n=7), g()]"],
}  # fmt: skip


@pytest.mark.parametrize("style", TEXTS)
def test_calls_are_read_as_the_families_write_them(style):
    for text in TEXTS[style]:
        assert parse_calls(text, style) == (ONE, TWO)
        found = (STYLES[style].find(text, 0, len(text), call) for call in (ONE, TWO))
        spans = [span for span in found if span is not None]
        assert [text[slice(*span.name)] for span in spans] == ["f", "g"]
        assert [text[slice(*key)] for key, _ in spans[0].arguments] == ["a", "n"]
        assert text[slice(*spans[0].arguments[1][1])] == "7"
        assert text[slice(*spans[0].arguments[0][1])].strip("\"'") == "x y"


TOOL = tool_from_schema(
    {
        "name": "f",
        "parameters": {
            "properties": {
                "text": {"type": "string"},
                "maybe": {"type": ["string", "null"]},
                "any": {},
                "choice": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
                "listed": {"enum": ["1", "2"]},
            }
        },
    }
)


@pytest.mark.parametrize("style", [name for name, style in STYLES.items() if style.typed_by_tools])
@pytest.mark.parametrize("text", ["7", "null", "true", '{"a": 1}', "1e3", "'x'", "x y", ""])
def test_the_type_that_a_tool_declares_says_whether_a_value_is_a_text(style, text):
    """Where the form itself does not say so."""
    names = ("text", "maybe", "any", "choice", "listed")
    written = render_calls([ToolCall("f", dict.fromkeys(names, "mark"))], style)
    call = parse_call(written.replace("mark", text), style, [TOOL])
    assert call.arguments["text"] == call.arguments["listed"] == text
    says = style in ("dsml", "kimi_k3", "gemma")
    guessed = {"7": 7, "null": None, "true": True, '{"a": 1}': {"a": 1}, "1e3": 1000.0}
    assert call.arguments["maybe"] == (None if text == "null" and not says else text)
    value = text if says else guessed.get(text, text)
    assert call.arguments["any"] == call.arguments["choice"] == value
    # What is written for a text is read back, whatever is known.
    for tools in ([], [TOOL]):
        again = render_calls([ToolCall("f", {"text": text})], style)
        assert parse_call(again, style, tools).arguments == {"text": text}


def test_names_that_cannot_stand_without_quotes_are_not_written():
    for style in ("kimi", "qwen_xml", "glm", "gemma", "lfm", "functionary_v32"):
        with pytest.raises(ValueError, match="cannot be written"):
            render_calls([ToolCall("a b")], style)
    for style in ("qwen_xml", "gemma", "lfm"):
        with pytest.raises(ValueError, match="cannot be written"):
            render_calls([ToolCall("f", {"<a>": 1})], style)
    assert parse_calls(render_calls([ToolCall("a b", {"<a>": 1})], "apertus"), "apertus")
