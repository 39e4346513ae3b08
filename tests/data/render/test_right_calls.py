"""What a template writes as the gold calls is right: in the reward, in evaluations and in chats."""

import pytest
import template_cases as cases
from template_cases import make_tokenizer, renderer_of

from tl_jax.calls.call import Parameter, ToolCall, ToolSpec
from tl_jax.calls.parse import STYLES, CallSyntaxError, parse_turn, reply_call_text
from tl_jax.calls.render import render_calls
from tl_jax.data.trajectory import Message
from tl_jax.evaluate.scores import MISS, score_calls
from tl_jax.rewards import rules, taxonomy

TOOLS = (
    ToolSpec(
        "trip.find",
        "Find trips.",
        (Parameter("to", "string"), Parameter("days", "integer"), Parameter("by", "array")),
    ),
    ToolSpec("now", "The time."),
)
FIND = ToolCall("trip.find", {"to": "São Tomé, it's", "days": 3, "by": ["sea", "air"]})
TURNS = ((FIND,), (ToolCall("now"),), (FIND, ToolCall("trip.find", {**FIND.arguments, "days": 4})))

_JSON_CALL = cases.CHATML[
    cases.CHATML.index("    {%- for c in m.tool_calls") : cases.CHATML.index(
        "    {{- '<|im_end|>\\n' }}"
    )
]
_IN_A_LIST = """\
    {{- OPENING }}{%- for c in m.tool_calls or [] %}
      {{- ('[' if loop.first else ', ') + c.function.name + '(' }}
      {%- for k, v in c.function.arguments.items() %}
        {{- (', ' if not loop.first else '') + k + '=' + v | tojson }}
      {%- endfor %}
      {{- ')' + (']' if loop.last else '') }}
    {%- endfor %}
    {{- CLOSING }}
"""
LISTED = {
    "pythonic": ("", ""),
    "lfm": ("<|tool_call_start|>", "<|tool_call_end|>"),
}


def is_right(text, golds, style):
    """The verdicts of reward and evaluation on one text."""
    rewards = {
        rules.score(text, rules.Parallel(golds), TOOLS, mode=mode, style=style).value
        for mode in ("strict", "graded")
    }
    try:
        found = score_calls(parse_turn(text, style, TOOLS), [golds], tools=TOOLS)
    except CallSyntaxError:
        found = MISS
    assert (rewards == {rules.RIGHT}) == found.cf, (rewards, found)
    return found.cf


@pytest.mark.parametrize("style", STYLES)
def test_the_gold_of_every_call_style_is_right(style):
    for golds in TURNS:
        try:
            text = render_calls(golds, style)
        except ValueError:
            continue  # some write one call a turn only
        assert is_right(reply_call_text(text, style), golds, style), text


@pytest.mark.parametrize("style", LISTED)
def test_a_template_that_writes_a_list_of_one_is_scored_as_it_writes(style):
    opening, closing = LISTED[style]
    written = _IN_A_LIST.replace("OPENING", f"'{opening}' if m.tool_calls else ''")
    written = written.replace("CLOSING", f"'{closing}' if m.tool_calls else ''")
    source = cases.CHATML.replace(_JSON_CALL, written)
    tokenizer = make_tokenizer(
        "chatml", template=source, tags=(opening, closing) if opening else ()
    )
    renderer = renderer_of(tokenizer, "chat")
    assert renderer.call_style == style
    for golds in TURNS:
        asked = (Message("user", "Where to?"), Message("assistant", "", golds))
        sample = renderer.encode(TOOLS, asked)
        start, end = sample.borders[1]
        reply = renderer.tokenizer.decode(sample.ids[start : end - 1], keep_control=True)
        assert reply.startswith(f"{opening}[") and reply.endswith(f"]{closing}")
        assert is_right(renderer.call_text(reply), golds, renderer.call_style)
        assert renderer.parse(reply, TOOLS) == golds
        if len(golds) == 1:
            assert renderer.parse_call(reply, TOOLS) == golds[0]


def test_brackets_are_a_form_error_where_the_style_writes_lines():
    assert is_right("[now()]", TURNS[1], "pythonic")
    assert not is_right("[now()]", TURNS[1], "python")
    # The same text among several calls that are due: no reader is more lenient than another.
    reward = rules.score("[now()]", rules.Parallel(TURNS[2]), TOOLS)
    assert reward.category == taxonomy.FORMAT_ERROR
