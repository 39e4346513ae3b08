"""Parsing of the JSON call formats: what is read, what is refused, why and where."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_jax.calls.call import ToolCall
from tl_jax.calls.parse import (
    REASONS,
    CallSyntaxError,
    parse_call,
    parse_calls,
    reply_call_text,
)
from tl_jax.calls.syntax import MAX_CALLS, MAX_DEPTH, MAX_LENGTH

F = ToolCall("f", {"a": 1})
G = ToolCall("g", {"b": ["x"]})
FJ = '{"name": "f", "arguments": {"a": 1}}'
GJ = '{"name": "g", "arguments": {"b": ["x"]}}'
FP = FJ.replace("arguments", "parameters")
GP = GJ.replace("arguments", "parameters")

READ = [
    ("hermes", f"<tool_call>\n{FJ}\n</tool_call>", [F]),
    ("hermes", f"<tool_call>{FJ}</tool_call>", [F]),
    ("hermes", f" \n<tool_call>\t{FJ}\r\n</tool_call>\n ", [F]),
    ("hermes", '<tool_call>{"arguments":{"a":1},"name":"f"}</tool_call>', [F]),
    ("hermes", f"<tool_call>\n{FJ}\n</tool_call>\n<tool_call>\n{GJ}\n</tool_call>", [F, G]),
    ("hermes", f"<tool_call>{FJ}</tool_call><tool_call>{GJ}</tool_call>", [F, G]),
    ("hermes", f"<tool_call>[{FJ}]</tool_call>", [F]),
    ("hermes", f"<tool_call>[\n{FJ} , {GJ} ]\n</tool_call>", [F, G]),
    ("llama_json", FP, [F]),
    ("llama_json", f" {FP} \n", [F]),
    ("llama_json", f"<|python_tag|>{FP}", [F]),
    ("llama_json", f"<|python_tag|>\n{FP}; {GP}", [F, G]),
    ("llama_json", f"{FP};{GP} ;\n{FP}", [F, G, F]),
    ("llama_json", FP.replace("{", '{"type": "function", ', 1), [F]),
    ("mistral", f"[TOOL_CALLS][{FJ}]", [F]),
    ("mistral", f"[TOOL_CALLS] [{FJ}]\n", [F]),
    ("mistral", f"[TOOL_CALLS][{FJ}, {GJ}]", [F, G]),
    ("mistral", "[TOOL_CALLS][" + FJ[:-1] + ', "id": "9Ab8"}]', [F]),
    ("mistral", '[TOOL_CALLS]f[ARGS]{"a": 1}', [F]),
    ("mistral", '[TOOL_CALLS] f [ARGS] {"a": 1} ', [F]),
    ("mistral", '[TOOL_CALLS]f[CALL_ID]9Ab8[ARGS]{"a": 1}', [F]),
    ("mistral", '[TOOL_CALLS]f[ARGS]{"a": 1}[TOOL_CALLS]g[ARGS]{"b": ["x"]}', [F, G]),
    ("mistral", "[TOOL_CALLS]user-id.get[ARGS]{}", [ToolCall("user-id.get")]),
]

VALUES = [
    ("1", 1),
    ("-0", 0),
    ("-12", -12),
    ("1.0", 1.0),
    ("-1.5e-3", -0.0015),
    ("1E+2", 100.0),
    ("12345678901234567890123", 12345678901234567890123),
    ("1e-999999", 0.0),
    ("true", True),
    ("false", False),
    ("null", None),
    ('""', ""),
    (r'"\"\\\/\b\f\n\r\t"', '"\\/\b\f\n\r\t'),
    (r'"\u00e9\u0000"', "\u00e9\0"),
    (r'"\ud83d\ude00"', "\U0001f600"),
    ('"\u2028\x7f"', "\u2028\x7f"),
    ("[ ]", []),
    ("[1 , [ 2 ] ]", [1, [2]]),
    ("{ }", {}),
    ('{ "k" : { "" : 0 } }', {"k": {"": 0}}),
    ('"</tool_call>"', "</tool_call>"),
    ('"[TOOL_CALLS]"', "[TOOL_CALLS]"),
    ('"; <|python_tag|>"', "; <|python_tag|>"),
]

REFUSED = [
    ("hermes", "", "empty", 0),
    ("hermes", " \n", "empty", 2),
    ("hermes", "I will look it up.", "no_call", 0),
    ("hermes", FJ, "no_call", 0),
    ("hermes", f"Let me. <tool_call>{FJ}</tool_call>", "no_call", 0),
    ("hermes", f"</tool_call>{FJ}<tool_call>", "no_call", 0),
    ("hermes", "<tool_call></tool_call>", "no_call", 11),
    ("hermes", "<tool_call>[]</tool_call>", "no_call", 12),
    ("hermes", '<tool_call>"f"</tool_call>', "no_call", 11),
    ("hermes", f"<tool_call><tool_call>{FJ}</tool_call>", "no_call", 11),
    ("hermes", "<tool_", "truncated", 0),
    ("hermes", "<tool_call>", "truncated", 11),
    ("hermes", f"<tool_call>{FJ}", "truncated", 47),
    ("hermes", f"<tool_call>{FJ}</tool", "truncated", 47),
    ("hermes", f"<tool_call>[{FJ}", "truncated", 48),
    ("hermes", f"<tool_call>[{FJ},", "truncated", 49),
    ("hermes", f"<tool_call>[{FJ}</tool_call>", "missing_delimiter", 48),
    ("hermes", f"<tool_call>{FJ}}}</tool_call>", "trailing_text", 47),
    ("hermes", f"<tool_call>{FJ}, {GJ}</tool_call>", "trailing_text", 47),
    ("hermes", f"<tool_call>{FJ}<tool_call>", "trailing_text", 47),
    ("hermes", f"<tool_call>{FJ}</tool_call> ok", "trailing_text", 60),
    ("hermes", f"<tool_call>{FJ}</tool_call></tool_call>", "trailing_text", 59),
    ("hermes", f"<tool_call>{FP}</tool_call>", "unknown_field", 11),
    ("hermes", '<tool_call>{"name": "f"}</tool_call>', "missing_field", 11),
    ("hermes", "<tool_call>{'name': 'f'}</tool_call>", "bad_key", 12),
    ("hermes", "<tool_call>" + FJ[:-1] + "</tool_call>", "missing_delimiter", 46),
    ("llama_json", "", "empty", 0),
    ("llama_json", "f(a=1)", "no_call", 0),
    ("llama_json", f"[{FP}]", "no_call", 0),
    ("llama_json", f"```json\n{FP}\n```", "no_call", 0),
    ("llama_json", "<|python_t", "truncated", 0),
    ("llama_json", "<|python_tag|>", "truncated", 14),
    ("llama_json", f"<|python_tag|>{FP}; <|python_tag|>{GP}", "no_call", 53),
    ("llama_json", f"{FP};", "truncated", 38),
    ("llama_json", f"{FP} ok", "trailing_text", 38),
    ("llama_json", f"{FP}\n{GP}", "trailing_text", 38),
    ("llama_json", f"{FP}, {GP}", "trailing_text", 37),
    ("llama_json", FJ, "unknown_field", 0),
    ("llama_json", FP.replace("{", '{"id": "1", ', 1), "unknown_field", 0),
    ("llama_json", FP.replace("{", '{"type": 1, ', 1), "unknown_field", 0),
    ("llama_json", FP.replace('"f"', "7"), "bad_name", 0),
    ("llama_json", FP.replace('"f"', '""'), "bad_name", 0),
    ("llama_json", FP.replace('{"a": 1}', '"{}"'), "bad_arguments", 0),
    ("llama_json", FP.replace('{"a": 1}', "null"), "bad_arguments", 0),
    ("llama_json", FP.replace("{", '{"name": "g", ', 1), "duplicate_key", 14),
    ("llama_json", "{", "truncated", 1),
    ("llama_json", '{"name"', "truncated", 7),
    ("mistral", "", "empty", 0),
    ("mistral", f"[{FJ}]", "no_call", 0),
    ("mistral", f"Sure. [TOOL_CALLS][{FJ}]", "no_call", 0),
    ("mistral", "[TOOL_CALLS][]", "no_call", 13),
    ("mistral", f"[TOOL_CALLS]{FJ}", "no_call", 12),
    ("mistral", "[TOOL_CALLS]f", "truncated", 13),
    ("mistral", "[TOOL_CALLS]f[AR", "truncated", 13),
    ("mistral", "[TOOL_CALLS]f[ARGS]", "truncated", 19),
    ("mistral", '[TOOL_CALLS]f{"a": 1}', "no_call", 13),
    ("mistral", "[TOOL_CALLS]f[ARGS]null", "bad_arguments", 19),
    ("mistral", '[TOOL_CALLS]f[ARGS]{"a": 1, "a": 2}', "duplicate_argument", 28),
    ("mistral", '[TOOL_CALLS]f[ARGS]{"a": 1} ok', "trailing_text", 28),
    ("mistral", "[TOOL_CALLS]f[ARGS]{}[TOOL_C", "truncated", 21),
    ("mistral", f"[TOOL_CALLS][{FJ}] ok", "trailing_text", 51),
    ("mistral", f"[TOOL_CALLS][{FJ}][TOOL_CALLS][{GJ}]", "trailing_text", 50),
    ("mistral", f"[TOOL_CALLS][{FJ},]", "no_call", 50),
    ("mistral", f"[TOOL_CALLS][{FJ}", "truncated", 49),
    ("mistral", "[TOOL_CALLS][" + FJ[:-1] + ', "id": 7}]', "unknown_field", 13),
]

# Argument values, with the place of the error inside them.
REFUSED_VALUES = [
    ("", "truncated", 0, ""),
    ("[1", "truncated", 2, ""),
    ("[", "truncated", 1, ""),
    ('{"k":', "truncated", 5, ""),
    ("NaN", "non_finite", 0, "}}"),
    ("[-Infinity]", "non_finite", 1, "}}"),
    ("1e999", "non_finite", 0, "}}"),
    ("-" * 60_000, "bad_number", 0, "}}"),
    ("+1", "bad_number", 0, "}}"),
    (".5", "bad_number", 0, "}}"),
    ("1.", "bad_number", 0, "}}"),
    ("1.e2", "bad_number", 0, "}}"),
    ("01", "bad_number", 0, "}}"),
    ("- 1", "bad_number", 0, "}}"),
    ("0x1F", "bad_number", 0, "}}"),
    ("1_000", "bad_number", 0, "}}"),
    ("9" * 4301, "bad_number", 0, "}}"),
    ("1e" + "0" * 4300, "bad_number", 0, "}}"),
    ("True", "unquoted_value", 0, "}}"),
    ("Paris", "unquoted_value", 0, "}}"),
    ("truely", "unquoted_value", 0, "}}"),
    ("'x'", "bad_value", 0, "}}"),
    ("(1,)", "bad_value", 0, "}}"),
    ("[1,]", "bad_value", 3, "}}"),
    ("[,]", "bad_value", 1, "}}"),
    ("[1 2]", "missing_delimiter", 3, "}}"),
    ("[1}", "missing_delimiter", 2, "}}"),
    ('{"k": 1,}', "bad_key", 8, "}}"),
    ("{1: 2}", "bad_key", 1, "}}"),
    ('{"k" 1}', "bad_key", 5, "}}"),
    ('{"k": 1, "k": 2}', "duplicate_key", 9, "}}"),
    (r'{"k": 1, "\u006b": 2}', "duplicate_key", 9, "}}"),
    ('"x', "bad_string", 0, ""),
    ('"x\ny"', "bad_string", 0, "}}"),
    ('"x\ty"', "bad_string", 0, "}}"),
    ('{"x', "bad_string", 1, ""),
    (r'"\x41"', "bad_escape", 1, "}}"),
    (r'"\'"', "bad_escape", 1, "}}"),
    (r'"\ud83d"', "bad_escape", 0, "}}"),
    (r'{"\udc00": 1}', "bad_escape", 1, "}}"),
    ("/* none */ 1", "bad_value", 0, "}}"),
    ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "too_deep", MAX_DEPTH, "}}"),
]


@pytest.mark.parametrize("style,text,calls", READ, ids=[f"{s}-{t[:50]}" for s, t, _ in READ])
def test_the_formats_are_read(style, text, calls):
    assert parse_calls(text, style) == tuple(calls)
    if len(calls) == 1:
        assert parse_call(text, style) == calls[0]
    else:
        with pytest.raises(CallSyntaxError) as error:
            parse_call(text, style)
        assert error.value.reason == "trailing_text"


@pytest.mark.parametrize("text,value", VALUES, ids=[text for text, _ in VALUES])
def test_json_values_are_read_with_their_types(text, value):
    parsed = parse_call(FP.replace("1}", text + "}"), "llama_json").arguments["a"]
    assert repr(parsed) == repr(value)


@pytest.mark.parametrize(
    "style,text,reason,position", REFUSED, ids=[f"{s}-{t[:50]}" for s, t, *_ in REFUSED]
)
def test_everything_else_is_refused_with_reason_and_place(style, text, reason, position):
    with pytest.raises(CallSyntaxError) as error:
        parse_calls(text, style)
    assert (error.value.reason, error.value.position) == (reason, position)


@pytest.mark.parametrize(
    "value,reason,offset,end", REFUSED_VALUES, ids=[value[:30] for value, *_ in REFUSED_VALUES]
)
def test_values_outside_json_are_refused_with_reason_and_place(value, reason, offset, end):
    head = FP[: FP.index("1}")]
    with pytest.raises(CallSyntaxError) as error:
        parse_call(head + value + end, "llama_json")
    assert (error.value.reason, error.value.position) == (reason, len(head) + offset)


@pytest.mark.parametrize("style", ["hermes", "llama_json", "mistral"])
def test_length_and_characters_are_checked_first(style):
    for text, reason in [("x" * (MAX_LENGTH + 1), "too_long"), ("\0", "bad_character")]:
        with pytest.raises(CallSyntaxError) as error:
            parse_calls(text, style)
        assert error.value.reason == reason


@pytest.mark.parametrize(
    "style,first,further",
    [
        ("hermes", f"<tool_call>{FJ}</tool_call>", f"<tool_call>{FJ}</tool_call>"),
        ("hermes", f"<tool_call>[{FJ}", f",{FJ}"),
        ("llama_json", FP, f";{FP}"),
        ("mistral", f"[TOOL_CALLS][{FJ}", f",{FJ}"),
        ("mistral", "[TOOL_CALLS]f[ARGS]{}", "[TOOL_CALLS]f[ARGS]{}"),
        ("python", "f()", "\nf()"),
        ("python", "[f()", ",f()"),
    ],
)
def test_there_is_a_limit_on_the_number_of_calls(style, first, further):
    end = {"<tool_call>[": "]</tool_call>", "[TOOL_CALLS][": "]", "[f": "]"}
    closing = next((mark for start, mark in end.items() if first.startswith(start)), "")
    text = first + further * (MAX_CALLS - 1)
    assert len(parse_calls(text + closing, style)) == MAX_CALLS
    with pytest.raises(CallSyntaxError) as error:
        parse_calls(text + further + closing, style)
    assert error.value.reason == "too_many_calls"


def test_every_documented_reason_occurs():
    found = {row[2] for row in REFUSED} | {row[1] for row in REFUSED_VALUES}
    of_python = {"positional_argument", "unpacking"}
    assert found | {"too_long", "bad_character", "too_many_calls"} == set(REASONS) - of_python


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(TEXT, JSON, max_size=4), st.booleans(), st.sampled_from([None, 0, 3, "\t"]))
def test_any_layout_of_json_reads_as_json_loads_reads_it(arguments, ascii_only, indent):
    text = json.dumps(
        {"parameters": arguments, "name": "f"}, ensure_ascii=ascii_only, indent=indent
    )
    call = parse_call(text, "llama_json")
    assert repr(call.arguments) == repr(json.loads(text)["parameters"])


@pytest.mark.parametrize(
    ("style", "call"),
    [
        ("hermes", f"<tool_call>\n{FJ}\n</tool_call>"),
        ("mistral", f"[TOOL_CALLS][{FJ}]"),
        ("mistral", '[TOOL_CALLS]f[ARGS]{"a": 1}'),
    ],
)
def test_a_thought_may_stand_before_the_first_mark_and_nothing_after_the_call(style, call):
    for thought in ("", "I look it up.\n", f"<think>\n{FJ}?\n</think>\n\n", "\0"):
        assert reply_call_text(thought + call, style) == call
        assert parse_call(reply_call_text(thought + call, style), style) == F
    for reply, reason in [
        (f"I look.\n{call} Done.", "trailing_text"),
        (f"I look.\n{call}\nAgain.\n{call}", "trailing_text"),
        ("I look.", "no_call"),
        (f"I look.\n{call[:20]}", "truncated"),
    ]:
        with pytest.raises(CallSyntaxError) as error:
            parse_call(reply_call_text(reply, style), style)
        assert error.value.reason == reason


@pytest.mark.parametrize(("style", "call"), [("llama_json", FP), ("python", "f(a = 1)")])
def test_a_style_without_a_mark_has_no_thoughts(style, call):
    quoting = call.replace("1", "'<tool_call> [TOOL_CALLS] <|python_tag|>'")
    for reply in (call, f"I look.\n{call}", quoting):
        assert reply_call_text(reply, style) == reply
