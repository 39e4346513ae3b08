"""What holds in a call format: round trips, spans, strictness and the cost of hostile text.

The styles of the paper and of the models that are trained most; ``test_forms`` has the others.
"""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.calls.call import ToolCall
from tl_jax.calls.parse import REASONS, CallSyntaxError, parse_call, parse_calls
from tl_jax.calls.render import (
    PYTHON_STYLES,
    render_call,
    render_call_spans,
    render_calls,
    render_calls_spans,
)
from tl_jax.calls.syntax import MAX_CALLS, MAX_DEPTH, MAX_LENGTH

PARSED = ("python", "hermes", "llama_json", "mistral")
STYLES = ("released", "script", *PARSED)
MARKS = [
    "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "<|python_tag|>", ";",
    "'", '"', "\\", "\\'", '\\"', "\\u0041", "a)b(", "]}", "\n\r\t\0\x7f", "\u2028\x85",
    "\U0001f600", "e\u0301", "f(x='y')", '{"name": "f", "arguments": {}}', "NaN", "null",
]  # fmt: skip
TEXT = st.text(max_size=20) | st.sampled_from(MARKS)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**400), 10**400)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
PYTHON_NAMES = st.from_regex(r"[A-Za-z_0-9\u00e9.\-]{1,12}", fullmatch=True)


def calls_of(style):
    """Calls that the style can write: JSON takes any name, Python those without blanks."""
    names = PYTHON_NAMES if style in PYTHON_STYLES else TEXT.filter(bool)
    keys = PYTHON_NAMES if style in PYTHON_STYLES else TEXT
    return st.builds(ToolCall, names, st.dictionaries(keys, VALUES, max_size=4))


def parsed_as(style):
    return "python" if style in PYTHON_STYLES else style


def literal(style, text):
    """Read the text of one value."""
    if style in PYTHON_STYLES:
        return parse_call(f"f(a={text})").arguments["a"]
    return json.loads(text)


def name(style, text):
    return text if style in PYTHON_STYLES else json.loads(f'"{text}"')


@pytest.mark.parametrize("style", STYLES)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_parsing_undoes_rendering_of_one_call(style, data):
    call = data.draw(calls_of(style))
    text = render_call(call, style)
    assert text == text.strip(" \t\r\n")
    parsed = parse_call(f"\n {text} \n", parsed_as(style))
    assert repr(parsed) == repr(call)  # 1 is not 1.0 is not True, and the order is kept


@pytest.mark.parametrize("style", STYLES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_parsing_undoes_rendering_of_several_calls(style, data):
    calls = data.draw(st.lists(calls_of(style), min_size=1, max_size=4))
    text = render_calls(calls, style)
    assert repr(parse_calls(text, parsed_as(style))) == repr(tuple(calls))
    if len(calls) == 1:
        assert text == render_call(calls[0], style)


@pytest.mark.parametrize("style", STYLES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_spans_cut_out_the_parts(style, data):
    calls = data.draw(st.lists(calls_of(style), min_size=1, max_size=3))
    rendered = render_calls_spans(calls, style)
    whole = render_call_spans(calls[0], style)
    end = 0
    for call, part, start in zip(calls, rendered.calls, rendered.starts, strict=True):
        assert end <= start
        end = start + len(part.text)
        assert rendered.text[start:end] == part.text
        check_spans(style, call, part)
    check_spans(style, calls[0], whole)


def check_spans(style, call, part):
    assert name(style, part.text[slice(*part.name_span)]) == call.name
    for (key, value), (name_span, value_span) in zip(
        call.arguments.items(), part.argument_spans, strict=True
    ):
        assert name(style, part.text[slice(*name_span)]) == key
        assert repr(literal(style, part.text[slice(*value_span)])) == repr(value)


CALL = ToolCall("get_papers", {"query": 'a "\u00e9"\n', "tags": [1.5, True, None], "sort": {}})
ARGUMENTS = '{"query": "a \\"\u00e9\\"\\n", "tags": [1.5, true, null], "sort": {}}'
OTHER = ToolCall("now")


@pytest.mark.parametrize(
    "style,text",
    [
        (
            "hermes",
            '<tool_call>\n{"name": "get_papers", "arguments": %s}\n</tool_call>\n'
            '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>',
        ),
        (
            "llama_json",
            '{"name": "get_papers", "parameters": %s}; {"name": "now", "parameters": {}}',
        ),
        (
            "mistral",
            '[TOOL_CALLS][{"name": "get_papers", "arguments": %s},'
            ' {"name": "now", "arguments": {}}]',
        ),
    ],
)
def test_the_text_of_each_json_format(style, text):
    assert render_calls([CALL, OTHER], style) == text.replace("%s", ARGUMENTS)


def test_python_calls_stand_on_lines_of_their_own():
    assert render_calls([OTHER, OTHER], "script") == "now()\nnow()"


@pytest.mark.parametrize("style", STYLES)
def test_every_style_reads_back_the_same_call(style):
    call = ToolCall("f", {"a": MARKS, "b": {mark: 1e-7 for mark in MARKS}, "c": -0.0})
    parsed = parse_call(render_call(call, style), parsed_as(style))
    assert repr(parsed) == repr(call)


@pytest.mark.parametrize("style", STYLES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_proper_prefix_is_a_call(style, data):
    text = render_call(data.draw(calls_of(style)), style)
    prefix = text[: data.draw(st.integers(0, len(text) - 1))]
    for parse in (parse_call, parse_calls):
        with pytest.raises(CallSyntaxError):
            parse(prefix, parsed_as(style))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("rest", ["ok", "\nDone.", ")", "}", "]", "<|im_end|>", "```", "\u00a0"])
def test_text_after_a_call_is_an_error_of_its_own(style, rest):
    text = render_call(CALL, style)
    for parse in (parse_call, parse_calls):
        with pytest.raises(CallSyntaxError) as error:
            parse(text + rest, parsed_as(style))
        assert error.value.reason == "trailing_text"
        assert error.value.position == len(text) + len(rest) - len(rest.lstrip("\n"))


@pytest.mark.parametrize("style", STYLES)
def test_a_second_call_is_trailing_text_where_one_is_due(style):
    for calls in ([CALL, OTHER], [OTHER, CALL, OTHER]):
        with pytest.raises(CallSyntaxError) as error:
            parse_call(render_calls(calls, style), parsed_as(style))
        assert error.value.reason == "trailing_text"


def nested(depth):
    value = "x"
    for _ in range(depth):
        value = {"k": value} if depth % 2 else [value]
    return value


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH - 1])
def test_the_deepest_value_comes_back(style, depth):
    call = ToolCall("f", {"a": nested(depth)})
    assert parse_call(render_call(call, style), parsed_as(style)) == call


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    "call,message",
    [
        (ToolCall(""), "tool name ''"),
        (ToolCall("f", {"a": float("nan")}), "f.a: nan"),
        (ToolCall("f", {"a": {1: 2}}), "keys must be strings"),
        (ToolCall("f", {"a": b"x"}), "f.a: bytes"),
        (ToolCall("f", {"a": ["\ud800"]}), "f.a: a lone surrogate"),
        (ToolCall("f", {"a": nested(MAX_DEPTH + 1)}), "nested deeper"),
        (ToolCall("f", {"a": "x" * MAX_LENGTH}), "longer than"),
        (ToolCall("f", {"a": 10**5000}), "digits"),
    ],
)
def test_what_cannot_be_read_back_is_not_written(call, message, style):
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        render_call(call, style)


@pytest.mark.parametrize("style", ["hermes", "llama_json", "mistral"])
def test_a_lone_surrogate_in_a_name_is_not_written(style):
    for call in (ToolCall("\ud800"), ToolCall("f", {"\ud800": 1})):
        with pytest.raises(ValueError, match="lone surrogate"):
            render_call(call, style)


@pytest.mark.parametrize("style", STYLES)
def test_no_calls_have_no_text(style):
    with pytest.raises(ValueError, match="no call"):
        render_calls([], style)


@pytest.mark.parametrize("style", STYLES)
def test_no_more_calls_are_written_than_are_read(style):
    text = render_calls([OTHER] * MAX_CALLS, style)
    assert len(parse_calls(text, parsed_as(style))) == MAX_CALLS
    with pytest.raises(ValueError, match="calls in one turn"):
        render_calls([OTHER] * (MAX_CALLS + 1), style)


HEADS = {
    "python": ("", "f(a=", "f(a='", "f("),
    "hermes": ("", "<tool_call>", '<tool_call>{"name": "f", "arguments": {"a": '),
    "llama_json": ("", "{", '{"name": "f", "parameters": {"a": ', '{"name": "'),
    "mistral": ("", "[TOOL_CALLS]", "[TOOL_CALLS]f[ARGS]", '[TOOL_CALLS]f[ARGS]{"a": '),
}
UNITS = [
    "[", "{", "(", "]", '"', "'", "\\", '\\"', "-", "+", ".", "9", "1e", ".a", "a", " ", "\n", ",",
    ":", ";", "{'k':", '{"k":', '["', "[1,", "<tool_call>", "</tool_call>", "[TOOL_CALLS]",
    "[TOOL_CALLS]f[ARGS]", "[ARGS]", "<|python_tag|>", "\\u0041", "\\ud800", "f(", "f()\n", "a=",
    '{"name":', "{}", "[]", "\u00e9", "\U0001f600", "Infinity", "null ",
]  # fmt: skip


@pytest.mark.parametrize("style", PARSED)
@pytest.mark.parametrize("unit", UNITS, ids=ascii)
def test_hostile_text_is_read_or_refused_quickly(style, unit):
    for head in HEADS[style]:
        text = head + unit * (500_000 // len(unit))
        # The cut one just fits the limit on the length, so all of it may be scanned.
        for candidate in (text, text[:MAX_LENGTH]):
            assert seconds(candidate, style) < 0.05


def seconds(text, style):
    """Least processor time of up to three readings; other work on the machine disturbs one."""
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        try:
            parse_calls(text, style)
        except CallSyntaxError as error:
            assert error.reason in REASONS
        best = min(best, time.process_time() - start)
        if best < 0.05:
            break
    return best


PIECES = st.sampled_from([*MARKS, *UNITS, '"name"', '"arguments"', '"parameters"', ": ", ", "])


@pytest.mark.parametrize("style", PARSED)
@settings(max_examples=200, deadline=None)
@given(st.lists(PIECES, max_size=25).map("".join) | st.text(max_size=60))
def test_any_text_is_calls_or_a_syntax_error(style, text):
    for head in HEADS[style]:
        check_outcome(head + text, style)


@pytest.mark.parametrize("style", PARSED)
@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_a_damaged_call_is_calls_or_a_syntax_error(style, data):
    text = render_calls(data.draw(st.lists(calls_of(style), min_size=1, max_size=2)), style)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(start + 5, len(text))))
    check_outcome(text[:start] + data.draw(PIECES | st.just("")) + text[end:], style)


def check_outcome(text, style):
    for parse in (parse_call, parse_calls):
        try:
            found = parse(text, style)
        except CallSyntaxError as error:
            assert error.reason in REASONS
            assert 0 <= error.position <= len(text)
        else:
            calls = (found,) if parse is parse_call else found
            assert calls
            # Whatever is read can be written, and means the same again.
            assert repr(parse_calls(render_calls(calls, style), style)) == repr(calls)
