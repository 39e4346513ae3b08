"""Known calls are found in foreign JSON, and only where they really stand."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.calls.call import ToolCall
from tl_jax.calls.render import render_calls_spans
from tl_jax.data.render.call_spans import find_calls

CALL = ToolCall("find", {"b": "x{y", "a": [1, {"c": None}]})

values = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=6)
calls = st.builds(ToolCall, names, st.dictionaries(names, values, max_size=3))


def texts(text, span):
    arguments = [(text[slice(*name)], text[slice(*value)]) for name, value in span.arguments]
    return text[slice(*span.call)], text[slice(*span.name)], arguments


@settings(max_examples=60, deadline=None)
@given(
    st.lists(calls, min_size=1, max_size=3), st.sampled_from(["hermes", "llama_json", "mistral"])
)
def test_what_render_writes_is_found_where_render_says(made, style):
    rendered = render_calls_spans(made, style)
    found = find_calls(f"so: {rendered.text}", 4, 4 + len(rendered.text), made, style)
    for span, call, start in zip(found, rendered.calls, rendered.starts, strict=True):
        at = 4 + start
        assert span.call == (at, at + len(call.text))
        assert span.name == (at + call.name_span[0], at + call.name_span[1])
        moved = [((a + at, b + at), (c + at, d + at)) for (a, b), (c, d) in call.argument_spans]
        assert list(span.arguments) == moved


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
@pytest.mark.parametrize("sort", [False, True])
def test_blanks_escapes_and_order_are_the_writers(indent, separators, sort):
    call = ToolCall("find", {"b": "é\n", "a": 1.5})
    text = json.dumps(
        {"parameters": call.arguments, "name": "find"},
        indent=indent,
        separators=separators,
        sort_keys=sort,
    )
    whole, name, arguments = texts(text, *find_calls(text, 0, len(text), [call], "llama_json"))
    assert (whole, name) == (text, "find")
    assert arguments == [("b", '"\\u00e9\\n"'), ("a", "1.5")]


def test_a_thought_that_looks_like_the_call_is_passed_over():
    right = '{"name": "find", "arguments": {"b": "x{y", "a": [1, {"c": null}]}}'
    wrong = right.replace("null", "0")
    text = f'{{ {{"name": "find"}} {wrong} {{"name": "other", "arguments": {{}}}} {right}'
    (span,) = find_calls(text, 0, len(text), [CALL], "hermes")
    assert text[slice(*span.call)] == right and span.call[1] == len(text)


def test_tags_belong_to_a_call_that_has_its_own():
    one = '{"name": "now", "arguments": {}}'
    now = ToolCall("now")
    text = f"<tool_call> {one}\n\n</tool_call>"
    assert find_calls(text, 0, len(text), [now], "hermes")[0].call == (0, len(text))
    text = f"<tool_call>[{one}, {one}]</tool_call>"
    spans = find_calls(text, 0, len(text), [now, now], "hermes")
    assert [text[slice(*span.call)] for span in spans] == [one, one]
    assert spans[0].call != spans[1].call


def test_the_named_form_of_mistral_is_found():
    text = '[TOOL_CALLS]now[ARGS]{}[TOOL_CALLS]find[CALL_ID]call00001[ARGS]{"b": 1}'
    found = find_calls(text, 0, len(text), [ToolCall("now"), ToolCall("find", {"b": 1})], "mistral")
    assert [texts(text, span) for span in found] == [
        ("[TOOL_CALLS]now[ARGS]{}", "now", []),
        ('[TOOL_CALLS]find[CALL_ID]call00001[ARGS]{"b": 1}', "find", [("b", "1")]),
    ]


def test_python_calls_are_found_in_either_form():
    call = ToolCall("find", {"a": "b", "n": 1})
    for text in ('[find(a="b", n=1)]', "find(a = 'b', n = 1)"):
        (span,) = find_calls(text, 0, len(text), [call], "python")
        assert text[slice(*span.call)] == text.strip("[]")
        assert [text[slice(*name)] for name, _ in span.arguments] == ["a", "n"]


@pytest.mark.parametrize("style", ["hermes", "llama_json", "mistral", "python"])
@pytest.mark.parametrize("text", ["", '{"name": "find"}', '{"name": "find", "arguments": "{}"}'])
def test_a_call_that_is_not_there_is_told(style, text):
    with pytest.raises(ValueError, match="the call of find is not in the text"):
        find_calls(text, 0, len(text), [CALL], style)


def test_a_call_beyond_the_end_is_not_taken():
    text = '{"name": "now", "arguments": {}}'
    with pytest.raises(ValueError, match="not in the text"):
        find_calls(text, 0, len(text) - 1, [ToolCall("now")], "llama_json")
