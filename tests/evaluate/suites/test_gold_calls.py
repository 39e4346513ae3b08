"""Gold calls as texts: arguments without names, arithmetic, and types as declared."""

import pytest

from tl_jax.calls.call import Parameter, ToolCall, ToolSpec
from tl_jax.calls.parse import CallSyntaxError
from tl_jax.evaluate.suites.gold_calls import read_gold_call

TOOL = ToolSpec(
    "fs.sort",
    "",
    (
        Parameter("name", "string", schema={"type": "string"}),
        Parameter("count", "integer", schema={"type": "integer"}),
        Parameter("share", "number", schema={"type": "number"}),
        Parameter("parts", "array", schema={"type": "array", "items": {"type": "integer"}}),
    ),
)


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("fs.sort('a b', 2)", {"name": "a b", "count": 2}),
        ("fs.sort('a=1, b', share=0.5)", {"name": "a=1, b", "share": 0.5}),
        ("fs.sort(name='(', parts=[1.0, 2])", {"name": "(", "parts": [1, 2]}),
        ("fs.sort(count=500*500, share=1/4)", {"count": 250_000, "share": 0.25}),
        ("fs.sort(count=2.0, share=2.0)", {"count": 2, "share": 2.0}),
        ("fs.sort()", {}),
    ],
)
def test_what_data_sets_write_is_read(text, arguments):
    call = read_gold_call(text, [TOOL])
    assert call == ToolCall("fs.sort", arguments)
    assert {k: type(v) for k, v in call.arguments.items()} == {
        k: type(v) for k, v in arguments.items()
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("fs.sort('a', 1, 2.5, [1], 5)", "positional_argument"),
        ("fs.unknown('a')", "positional_argument"),
        ("fs.sort(count=2**9)", "bad_number"),
        ("fs.sort(count=1/0)", "bad_number"),
        ("fs.sort(count=open('f'))", "unquoted_value"),
    ],
)
def test_whatever_else_is_refused_and_never_evaluated(text, reason):
    with pytest.raises(CallSyntaxError) as caught:
        read_gold_call(text, [TOOL])
    assert caught.value.reason == reason
