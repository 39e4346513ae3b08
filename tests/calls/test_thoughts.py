"""What a reply thinks before its calls is skipped, and what it quotes there is no call."""

import pytest

from tl_jax.calls.call import ToolCall
from tl_jax.calls.parse import CallSyntaxError, parse_calls, reply_call_text
from tl_jax.calls.render import render_calls
from tl_jax.calls.styles import STYLES

CALLS = (ToolCall("add", {"a": 1}),)


@pytest.mark.parametrize("style", STYLES)
def test_a_thought_is_skipped_whether_its_tag_stands_in_the_reply_or_in_the_prompt(style):
    opening, closing = STYLES[style].thoughts
    text = render_calls(CALLS, style)
    for quoted in ("", "I could.", text, f"Say {text} now"):
        for thought in (f"{opening}\n{quoted}\n{closing}\n\n", f"\n{quoted}{closing}"):
            assert reply_call_text(thought + text, style) == text, thought
    assert reply_call_text(f"{closing}\n{text}", style) == text


@pytest.mark.parametrize("style", STYLES)
def test_a_call_may_quote_the_tag_of_a_thought(style):
    _, closing = STYLES[style].thoughts
    text = render_calls([ToolCall("f", {"a": f"x {closing} y"})], style)
    assert reply_call_text(text, style) == text
    if STYLES[style].mark:
        assert reply_call_text(f"I look. {text}", style) == text


@pytest.mark.parametrize("style", STYLES)
def test_a_call_that_only_the_thought_has_is_none(style):
    opening, closing = STYLES[style].thoughts
    text = render_calls(CALLS, style)
    for reply in (
        f"{opening}{text}{closing}",
        f"{text}\n{closing}",
        f"{opening}{text}{closing}Ok.",
    ):
        with pytest.raises(CallSyntaxError):
            parse_calls(reply_call_text(reply, style), style)
