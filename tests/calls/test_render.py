"""Rendering of Python calls: the two forms, their spans, and that parsing undoes them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.calls.call import ToolCall
from tl_jax.calls.parse import CallSyntaxError, parse_call
from tl_jax.calls.render import PYTHON_STYLES, render_call, render_call_spans
from tl_jax.calls.syntax import MAX_DEPTH, MAX_LENGTH

NAMES = st.from_regex(r"[A-Za-z_0-9\u00e9.\-]{1,12}", fullmatch=True)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=30)
    | st.sampled_from(["'", '"', "\\", "\\'", "a)b(", "\n\r\t\0\x7f", "\u2028\x85", "f(x='y')"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
CALLS = st.builds(ToolCall, NAMES, st.dictionaries(NAMES, VALUES, max_size=5))


@pytest.mark.parametrize("style", PYTHON_STYLES)
@settings(max_examples=300, deadline=None)
@given(call=CALLS)
def test_parsing_undoes_rendering(style, call):
    parsed = parse_call(render_call(call, style))
    assert parsed == call
    assert repr(parsed) == repr(call)  # 1 is not 1.0 is not True, and the order is kept


@pytest.mark.parametrize("style", PYTHON_STYLES)
@settings(max_examples=150, deadline=None)
@given(call=CALLS)
def test_spans_cut_out_the_parts(style, call):
    rendered = render_call_spans(call, style)
    start, end = rendered.name_span
    assert rendered.text[start:end] == call.name
    for (name, value), (name_span, value_span) in zip(
        call.arguments.items(), rendered.argument_spans, strict=True
    ):
        assert rendered.text[slice(*name_span)] == name
        literal = rendered.text[slice(*value_span)]
        assert repr(parse_call(f"f(a={literal})").arguments["a"]) == repr(value)


@pytest.mark.parametrize("style", PYTHON_STYLES)
@settings(max_examples=60, deadline=None)
@given(call=CALLS, data=st.data())
def test_no_proper_prefix_is_that_call(style, call, data):
    text = render_call(call, style)
    prefix = text[: data.draw(st.integers(0, len(text) - 1))]
    with pytest.raises(CallSyntaxError):
        parse_call(prefix)


CALL = ToolCall(
    "get_papers",
    {"query": "it's \u00e9", "limit": 1, "tags": ["a", True, None], "sort": {"k": 1.5}},
)


def test_the_released_form():
    assert render_call(CALL) == (
        "get_papers(query = 'it\\'s \u00e9', limit = 1,"
        " tags = ['a', True, None], sort = {'k': 1.5})"
    )


def test_the_call_style_is_written_in_the_released_form():
    assert render_call(CALL, "python") == render_call(CALL, "released")


def test_the_script_form():
    assert render_call(CALL, "script") == (
        'get_papers(query="it\'s \u00e9", limit=1, tags=["a", true, null], sort={"k": 1.5})'
    )


@pytest.mark.parametrize("style", PYTHON_STYLES)
def test_a_call_without_arguments(style):
    assert render_call(ToolCall("random_advice"), style) == "random_advice()"


@pytest.mark.parametrize("style", PYTHON_STYLES)
def test_a_tuple_is_written_as_a_list(style):
    text = render_call(ToolCall("f", {"a": (1, ("x",))}), style)
    assert parse_call(text).arguments == {"a": [1, ["x"]]}


def nested(depth):
    value = "x"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("style", PYTHON_STYLES)
@pytest.mark.parametrize(
    "call,message",
    [
        (ToolCall("get user"), "tool name 'get user'"),
        (ToolCall(""), "tool name ''"),
        (ToolCall("f", {"a=b": 1}), "f: parameter name 'a=b'"),
        (ToolCall("f", {"a": float("nan")}), "f.a: nan"),
        (ToolCall("f", {"a": [float("-inf")]}), "f.a: -inf"),
        (ToolCall("f", {"a": {1: 2}}), "keys must be strings"),
        (ToolCall("f", {"a": {"x"}}), "f.a: set"),
        (ToolCall("f", {"a": b"x"}), "f.a: bytes"),
        (ToolCall("f", {"a": ["\ud800"]}), "f.a: a lone surrogate"),
        (ToolCall("f", {"a": nested(MAX_DEPTH + 1)}), "nested deeper"),
        (ToolCall("f", {"a": "x" * MAX_LENGTH}), "longer than"),
    ],
)
def test_what_cannot_be_read_back_is_not_written(call, message, style):
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        render_call(call, style)


@pytest.mark.parametrize("style", PYTHON_STYLES)
def test_the_deepest_value_comes_back(style):
    value = nested(MAX_DEPTH)
    assert parse_call(render_call(ToolCall("f", {"a": value}), style)).arguments["a"] == value


def test_an_unknown_rendering_is_named():
    with pytest.raises(ValueError, match="known: released, script"):
        render_call(CALL, "yaml")
