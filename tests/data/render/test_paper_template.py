"""Both renderings, and spans that point at what they name."""

import pytest

from tl_jax.calls.call import Parameter, ToolCall, ToolSpec
from tl_jax.calls.parse import parse_call
from tl_jax.data.render.paper_template import STYLES, render_prompt, render_sample, render_tools
from tl_jax.data.trajectory import Message

TOOLS = (
    ToolSpec("roll", "Roll a die."),
    ToolSpec(
        "find",
        "Find.",
        (
            Parameter("limit", "integer", "How many."),
            Parameter("query", "string", "What."),  # optional ones come last
            Parameter("kind", "string", "Which.", required=True),
        ),
    ),
)
MESSAGES = (
    Message("user", "hi"),
    Message("assistant", "I look.", (ToolCall("find", {"kind": "a", "limit": 2}),)),
    Message("tool", "[]"),
    Message("assistant", "Nothing there."),
)

RELEASED = '''System: Function:
def roll():
    """
    Roll a die.
    """

Function:
def find(kind:str, limit:int = None, query:str = None):
    """
    Find.

    Args:
        kind (string): Which.
        limit (integer): How many.
        query (string): What.
    """

User: hi
Assistant: find(kind = 'a', limit = 2) 
Output: []
Assistant: Nothing there.</s>'''

SCRIPT = '''System: Function:
def roll():
    """
    Roll a die.

    Args:
    """

Function:
def find(kind: string, limit: integer = None, query: string = None):
    """
    Find.

    Args:
    kind (string): Which.
    limit (integer): How many.
    query (string): What.
    """
User: hi
Assistant: find(kind="a", limit=2)
Output: []
Assistant: Nothing there.</s>'''


@pytest.mark.parametrize(("style", "text"), [("released", RELEASED), ("script", SCRIPT)])
def test_the_whole_text(style, text):
    assert render_sample(TOOLS, MESSAGES, style, "</s>").text == text


@pytest.mark.parametrize("style", STYLES)
def test_a_prompt_is_the_sample_up_to_its_reply(style):
    sample = render_sample(TOOLS, MESSAGES, style, "</s>")
    prompt = render_prompt(TOOLS, MESSAGES[:3], style).text
    assert prompt.endswith("\nAssistant:")
    assert sample.text[: sample.replies[-1].start] == prompt


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("every", [False, True])
def test_spans_point_at_what_they_name(style, every):
    sample = render_sample(TOOLS, MESSAGES, style, "</s>", stop_after_every_reply=every)
    first, last = sample.replies
    text = sample.text
    (call,) = first.calls
    assert (first.message, first.turn, last.message, last.turn) == (1, 1, 3, 2)
    assert text[: first.start].endswith("\nAssistant:")
    assert text[slice(*call.name)] == "find"
    assert parse_call(text[slice(*call.call)]) == MESSAGES[1].calls[0]
    assert [text[slice(*name)] for name, _ in call.arguments] == ["kind", "limit"]
    assert text[slice(*call.arguments[1][1])] == "2"
    assert text[last.start : last.stop] == " Nothing there."
    assert text[first.stop : first.end] == ("</s>" if every else "")
    assert text[last.stop : last.end] == "</s>"


@pytest.mark.parametrize("style", STYLES)
def test_prompts_and_samples_agree_on_stops_after_every_reply(style):
    stops = dict(eos_text="</s>", stop_after_every_reply=True)
    sample = render_sample(TOOLS, MESSAGES, style, **stops)
    prompt = render_prompt(TOOLS, MESSAGES[:3], style, **stops)
    assert "</s>" in prompt.text and sample.text.startswith(prompt.text)
    assert prompt.replies == sample.replies[:-1]


def test_a_leading_system_turn_stands_before_the_tools():
    messages = (Message("system", "Be kind."), *MESSAGES)
    text = render_sample(TOOLS, messages).text
    assert text.startswith("System: Be kind.\n\nFunction:\ndef roll():")


def test_two_calls_of_one_turn_are_found_apart():
    calls = (ToolCall("roll", {}), ToolCall("find", {"kind": "x"}))
    sample = render_sample(TOOLS, (Message("user", "hi"), Message("assistant", "", calls)))
    texts = [sample.text[slice(*c.call)] for c in sample.replies[0].calls]
    assert texts == ["roll()", "find(kind = 'x')"]


def test_no_tools_leave_an_empty_system_text():
    prompt = render_prompt((), (Message("user", "hi"),))
    assert prompt.text == "System: \nUser: hi\nAssistant:"


def test_wrong_use_is_refused():
    with pytest.raises(ValueError, match="end with an assistant turn"):
        render_sample(TOOLS, MESSAGES[:3])
    with pytest.raises(ValueError, match="released, script"):
        render_tools(TOOLS, "fancy")
    with pytest.raises(ValueError, match="only the first"):
        render_prompt(TOOLS, (MESSAGES[0], Message("system", "x")))
