"""Parsing of calls: what is read, what is refused and why, and at what cost."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.calls.call import ToolCall
from tl_jax.calls.parse import REASONS, CallSyntaxError, parse_call, parse_calls
from tl_jax.calls.syntax import MAX_DEPTH, MAX_LENGTH

READ = [
    ("f()", {}),
    (" \n f ( ) \n", {}),
    ("f(a = 'x', n = 1)", {"a": "x", "n": 1}),
    ('f(a="x",n=1,)', {"a": "x", "n": 1}),
    ("f(a=\n  'x',\n  b = 2\n)", {"a": "x", "b": 2}),
    (r"f(a='It\'s')", {"a": "It's"}),
    ('f(a="It\'s")', {"a": "It's"}),
    (r'f(a="say \"hi\"")', {"a": 'say "hi"'}),
    (r"f(a='\\', b='\n\t\x41\u00e9\U0001F600\101')", {"a": "\\", "b": "\n\tA\u00e9\U0001f600A"}),
    (r"f(a='C:\dir')", {"a": r"C:\dir"}),
    ("f(a='x' \"y\"\n'z')", {"a": "xyz"}),
    ("f(a='''xy''')", {"a": "xy"}),
    ("f(a='', b=\"\")", {"a": "", "b": ""}),
    ("f(a='), b=(', c='#x')", {"a": "), b=(", "c": "#x"}),
    ("f(a=-1, b=+2, c=1.5, d=.5, e=1., g=1e3, h=-2E-2)",
     {"a": -1, "b": 2, "c": 1.5, "d": 0.5, "e": 1.0, "g": 1000.0, "h": -0.02}),
    ("f(a=True, b=true, c=False, d=false, e=None, g=null)",
     {"a": True, "b": True, "c": False, "d": False, "e": None, "g": None}),
    ("f(a=[1, 'x', [true]], b=[], c=[1,])", {"a": [1, "x", [True]], "b": [], "c": [1]}),
    ("f(a=(1, 2), b=(1,), c=(1), d=())", {"a": [1, 2], "b": [1], "c": 1, "d": []}),
    ("f(a={'k': {'n': 1}, \"m\": [2]}, b={})", {"a": {"k": {"n": 1}, "m": [2]}, "b": {}}),
    ("f(from='x', class=1, user-id=2, filter.a=3, code: = 'y')",
     {"from": "x", "class": 1, "user-id": 2, "filter.a": 3, "code:": "y"}),
    ("f(a=12345678901234567890123)", {"a": 12345678901234567890123}),
]  # fmt: skip

REFUSED = [
    ("", "empty"),
    (" \n", "empty"),
    ("hello", "truncated"),
    ("hello there", "no_call"),
    ("I think f(a=1)", "no_call"),
    ("(a=1)", "no_call"),
    ("[f(a=1)]", "no_call"),
    ("```python\nf(a=1)\n```", "no_call"),
    ("await f()", "no_call"),
    ("f[0]()", "no_call"),
    ("\N{LEFT SINGLE QUOTATION MARK}f(a=1)", "no_call"),
    ("f(", "truncated"),
    ("f(a", "positional_argument"),
    ("f(a=", "truncated"),
    ("f(a=1", "truncated"),
    ("f(a=1,", "truncated"),
    ("f(a=[1", "truncated"),
    ("f(a={'k'", "truncated"),
    ("f(a={", "truncated"),
    ("f(a=1) ok", "trailing_text"),
    ("f(a=1))", "trailing_text"),
    ("f(a=1); g()", "trailing_text"),
    ("f(a=1)\ng()", "trailing_text"),
    ("f(a=1).g()", "trailing_text"),
    ("f(a=1) # right", "trailing_text"),
    ("f('Paris')", "positional_argument"),
    ("f(1)", "positional_argument"),
    ("f(a=1, 'x')", "positional_argument"),
    ("print(f())", "positional_argument"),
    ("f(**{'a': 1})", "unpacking"),
    ("f(*[1])", "unpacking"),
    ("f(a=1, a=2)", "duplicate_argument"),
    ("f(a={'k': 1, 'k': 2})", "duplicate_key"),
    ("f(a={1: 2})", "bad_key"),
    ("f(a={'x', 'y'})", "bad_key"),
    ("f(a={**b})", "bad_key"),
    ("f(a=Paris)", "unquoted_value"),
    ("f(a=g())", "unquoted_value"),
    ("f(a=f'{x}')", "unquoted_value"),
    ("f(a=b'x')", "unquoted_value"),
    ("f(a=lambda: 1)", "unquoted_value"),
    ("f(a=not True)", "unquoted_value"),
    ("f(a=Truely)", "unquoted_value"),
    ("f(a=None.__class__)", "missing_delimiter"),
    ("f(a=__import__('os').system('true'))", "unquoted_value"),
    ("f(a=[x for x in (1,)])", "unquoted_value"),
    ("f(a=...)", "bad_value"),
    ("f(a==1)", "bad_value"),
    ("f(a=,)", "bad_value"),
    ("f(a=\N{LEFT DOUBLE QUOTATION MARK}x\N{RIGHT DOUBLE QUOTATION MARK})", "bad_value"),
    ("f(a='x\ny')", "bad_string"),
    ("f(a='x)", "bad_string"),
    ("f(a='it's')", "missing_delimiter"),
    (r"f(a='\x4')", "bad_escape"),
    (r"f(a='C:\Users')", "bad_escape"),
    (r"f(a='\N{DASH}')", "bad_escape"),
    (r"f(a='\ud800')", "bad_escape"),
    (r"f(a='\U00110000')", "bad_escape"),
    ("f(a=02139)", "bad_number"),
    ("f(a=--1)", "bad_number"),
    ("f(a=~1)", "bad_number"),
    ("f(a=- 1)", "bad_number"),
    ("f(a=1+1)", "bad_number"),
    ("f(a=1+2j)", "bad_number"),
    ("f(a=2j)", "bad_number"),
    ("f(a=0x1F)", "bad_number"),
    ("f(a=1e)", "bad_number"),
    ("f(a=" + "9" * 5000 + ")", "bad_number"),
    ("f(a=1e999)", "non_finite"),
    ("f(a=NaN)", "non_finite"),
    ("f(a=-inf)", "non_finite"),
    ("f(a=-Infinity)", "non_finite"),
    ("f(a=1 b=2)", "missing_delimiter"),
    ("f(,)", "missing_delimiter"),
    ("f(a=[1 2])", "missing_delimiter"),
    ("f(a=(1])", "missing_delimiter"),
    ("f(a='x\0')", "bad_character"),
    ("f(a='\ud800')", "bad_character"),
    ("f(a=" + "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1) + ")", "too_deep"),
    ("f(a='" + "x" * MAX_LENGTH + "')", "too_long"),
]  # fmt: skip


@pytest.mark.parametrize("text,arguments", READ, ids=[text for text, _ in READ])
def test_the_grammar_is_read(text, arguments):
    call = parse_call(text)
    assert call == ToolCall("f", arguments)
    assert repr(call.arguments) == repr(arguments)  # types and order too


@pytest.mark.parametrize("text,reason", REFUSED, ids=[text[:40] for text, _ in REFUSED])
def test_everything_else_is_refused_with_its_reason(text, reason):
    with pytest.raises(CallSyntaxError) as error:
        parse_call(text)
    assert error.value.reason == reason
    assert 0 <= error.value.position <= len(text)


def test_every_documented_reason_occurs():
    elsewhere = {"unknown_field", "missing_field", "bad_name", "bad_arguments", "too_many_calls"}
    assert {reason for _, reason in REFUSED} == set(REASONS) - elsewhere


TWO = (ToolCall("f", {"a": 1}), ToolCall("g", {"b": ["x"]}))


@pytest.mark.parametrize(
    "text",
    [
        "f(a=1)\ng(b=['x'])",
        " f(a=1) \n\n g(b=['x']) \n",
        "[f(a=1), g(b=['x'])]",
        "[f(a=1),\n g(b=['x']),]\n",
    ],
)
def test_several_calls_stand_on_lines_or_in_a_list(text):
    assert parse_calls(text) == TWO
    with pytest.raises(CallSyntaxError):
        parse_call(text)


def test_one_call_is_also_several():
    assert parse_calls("f(a=1)") == parse_calls("[f(a=1)]") == TWO[:1]


@pytest.mark.parametrize(
    "text,reason,position",
    [
        ("", "empty", 0),
        ("[]", "no_call", 1),
        ("[", "truncated", 1),
        ("[f(a=1)", "truncated", 7),
        ("[f(a=1),", "truncated", 8),
        ("[f(a=1) g()]", "missing_delimiter", 8),
        ("[f(a=1)] ok", "trailing_text", 9),
        ("[f(a=1)]\ng()", "trailing_text", 9),
        ("[f(a=1), 'x']", "no_call", 9),
        ("[[f(a=1)]]", "no_call", 1),
        ("f(a=1) g()", "trailing_text", 7),
        ("f(a=1); g()", "trailing_text", 6),
        ("f(a=1)\nThat is all.", "trailing_text", 7),
        ("f(a=1)\ng(", "truncated", 9),
        ("f(a=1)\ng(1)", "positional_argument", 9),
    ],
)
def test_several_calls_are_refused_with_reason_and_place(text, reason, position):
    with pytest.raises(CallSyntaxError) as error:
        parse_calls(text)
    assert (error.value.reason, error.value.position) == (reason, position)


@pytest.mark.parametrize("name", ["a.b.c", "get-weather", "2fa", "/items", "\u00fcber", "a" * 5000])
def test_real_tool_names_are_read_as_written(name):
    assert parse_call(f"{name}(x=1)").name == name


def test_a_ligature_stays_itself():
    assert parse_call("f(\ufb01=1)").arguments == {"\ufb01": 1}


def test_the_position_counts_from_the_given_text():
    with pytest.raises(CallSyntaxError) as error:
        parse_call("  f(a=1) x")
    assert error.value.position == 9


def test_an_unknown_style_is_no_syntax_error():
    with pytest.raises(ValueError, match="known: python") as error:
        parse_call("f()", "yaml")
    assert not isinstance(error.value, CallSyntaxError)


HOSTILE = {
    "open brackets": "f(a=" + "[" * 500_000,
    "braces": "f(a=" + "{'k':" * 100_000,
    "signs": "f(a=" + "-" * 500_000,
    "escapes": "f(a='" + "\\" * 500_000,
    "quotes": "f(a=" + "'" * 500_001,
    "name": "a" * 500_000,
    "dots": ".a" * 250_000,
    "blanks": "f" + " " * 500_000,
    "equals": "f(" + "a=" * 250_000,
    "digits": "f(a=" + "9" * 500_000,
    "arguments": "f(" + ",".join(f"a{i}=1" for i in range(60_000)),
}


@pytest.mark.parametrize("size", [MAX_LENGTH, 500_000])
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_is_refused_quickly(text, size):
    start = time.process_time()
    with pytest.raises(CallSyntaxError):
        parse_call(text[:size])
    assert time.process_time() - start < 0.05


ALPHABET = st.sampled_from(list("fa.-_1e0'\"\\[](){}=,:*+ \n\tNnxTrue") + ["None", "\u00e9", "\0"])


@settings(max_examples=400, deadline=None)
@given(st.lists(ALPHABET, max_size=60).map("".join) | st.text(max_size=60))
def test_any_text_is_a_call_or_a_syntax_error(text):
    for candidate in (text, f"f({text})", f"f(a={text})"):
        try:
            assert isinstance(parse_call(candidate), ToolCall)
        except CallSyntaxError as error:
            assert error.reason in REASONS
