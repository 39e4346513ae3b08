"""In every call style the key tokens are those at which another whole reply would part."""

import pytest

from tl_jax.calls.call import Parameter, ToolCall, ToolSpec
from tl_jax.calls.render import render_calls
from tl_jax.calls.styles import STYLES
from tl_jax.data.examples.alternative_tokens import AlternativeNames, tokens_over
from tl_jax.data.examples.key_tokens import parting_positions, reply_weights
from tl_jax.data.render.call_spans import find_calls
from tl_jax.data.render.paper_template import ReplySpan

UNIT = Parameter("unit", "string", schema={"type": "string", "enum": ["metric", "metres", "yards"]})
DAYS = Parameter("days", "integer", schema={"type": "integer", "enum": [1, 10, 2]})
TOOLS = (
    ToolSpec("get_wind", "", (Parameter("city", "string"), UNIT, DAYS)),
    ToolSpec("get_wind_now"),
    ToolSpec("get_all"),
    ToolSpec("say"),
)
FIRST = ToolCall("get_all")
CALL = ToolCall("get_wind", {"city": "Oslo 'x'", "unit": "metric", "days": 1})


def encoded(tokenizer, call, style):
    text = "Q:" + render_calls([FIRST, call], style)
    ids, offsets = tokenizer.encode_continuation(text[2:])
    offsets = offsets.shifted(2)
    return text, ids, offsets, find_calls(text, 2, len(text), [FIRST, call], style)


@pytest.mark.parametrize("kind", ["tokenizer", "joining"])
def test_key_tokens_are_where_a_reply_written_anew_would_part(kind, request):
    tokenizer = request.getfixturevalue(kind)
    for style in STYLES:
        text, ids, offsets, spans = encoded(tokenizer, CALL, style)
        reply = ReplySpan(1, 1, 2, len(text), len(text), spans)
        _, found = reply_weights(
            text, reply, (FIRST, CALL), [*ids, tokenizer.eos_id], offsets, TOOLS,
            AlternativeNames(tokenizer), mode="extended", w_max=9.0,
        )  # fmt: skip
        due = {tokens_over(offsets, name).start for name, _ in spans[1].arguments}
        for call, span, others in (
            (FIRST, spans[0], [tool.name for tool in TOOLS]),
            (CALL, spans[1], [tool.name for tool in TOOLS]),
        ):
            gold = tokens_over(offsets, span.name)
            due.add(gold.start)
            for other in others:
                changed = ToolCall(other, call.arguments)
                due |= parted(tokenizer, style, call, changed, gold, ids, "name")
        for parameter in (UNIT, DAYS):
            number = list(CALL.arguments).index(parameter.name)
            gold = tokens_over(offsets, spans[1].arguments[number][1])
            for value in parameter.schema["enum"]:
                changed = ToolCall("get_wind", {**CALL.arguments, parameter.name: value})
                due |= parted(tokenizer, style, CALL, changed, gold, ids, number)
        assert found == sorted(due), style


def parted(tokenizer, style, call, changed, gold, ids, part):
    """Where the tokens of a part leave those of the same part in another whole reply."""
    calls = [changed, CALL] if call is FIRST else [FIRST, changed]
    text = "Q:" + render_calls(calls, style)
    other_ids, offsets = tokenizer.encode_continuation(text[2:])
    offsets = offsets.shifted(2)
    span = find_calls(text, 2, len(text), calls, style)[0 if call is FIRST else 1]
    over = tokens_over(offsets, span.name if part == "name" else span.arguments[part][1])
    tokens = ids[gold.start : gold.stop]
    others = [other_ids[over.start : over.stop]]
    return {gold.start + position for position in parting_positions(tokens, others)}
