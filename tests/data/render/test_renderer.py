"""One renderer: what it trains is what it asks, and what it writes it reads."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from template_cases import FAMILIES, WITHOUT_TOOLS, make_tokenizer, renderer_of

from tl_jax.calls.call import Parameter, ToolCall, ToolSpec
from tl_jax.config import DataConfig
from tl_jax.data.render.probe import FALLBACK
from tl_jax.data.render.renderer import open_renderer
from tl_jax.data.trajectory import Message, Trajectory
from tl_jax.errors import DataError

TOOLS = (
    ToolSpec("find", "Finds.", (Parameter("what", "string", "What.", True), Parameter("n"))),
    ToolSpec("now", "The time."),
)
CALLS = (ToolCall("find", {"what": 'it\'s "here"', "n": 2}), ToolCall("now", {}))
TURNS = (
    Message("user", "Where?"),
    Message("assistant", "", CALLS[:1]),
    Message("tool", '{"found": "é"}'),
    Message("assistant", "", CALLS[1:]),
    Message("tool", "noon"),
    Message("assistant", "There."),
)
REPLIES = [i for i, turn in enumerate(TURNS) if turn.role == "assistant"]
FORMS = ("released", "script", FALLBACK, *FAMILIES)
"""Names of text forms: those of the paper, the fallback, and families with an own template."""
SAMPLES = ("per_turn", "per_trajectory")


def renderer_for(form, samples="per_turn"):
    if form in FAMILIES:
        return renderer_of(make_tokenizer(form), "chat", samples)
    return renderer_of(make_tokenizer("chatml", template=WITHOUT_TOOLS), form, samples)


@pytest.fixture(scope="module", params=FORMS)
def renderer(request):
    return renderer_for(request.param)


@pytest.mark.parametrize("samples", SAMPLES)
@pytest.mark.parametrize("form", FORMS)
def test_a_prompt_is_the_beginning_of_the_sample_that_trains_its_reply(form, samples):
    renderer = renderer_for(form, samples)
    for index in REPLIES:
        sample = renderer.encode(TOOLS, TURNS[: index + 1])
        prompt = renderer.prompt_ids(TOOLS, TURNS[:index])
        start, end = sample.borders[index]
        assert sample.ids[:start] == prompt
        assert end == len(sample.ids) and sample.ids[-1] in renderer.stop_ids
        assert (
            renderer.render_prompt(TOOLS, TURNS[:index]).text
            == (sample.rendered.text[: sample.rendered.replies[-1].start])
        )


@pytest.mark.parametrize("form", ["released", "script", FALLBACK, "chatml", "headers"])
def test_prompts_are_those_of_the_one_sample_of_a_trajectory(form):
    renderer = renderer_for(form, "per_trajectory")
    whole = renderer.encode_trajectory(Trajectory("t", TOOLS, (*TURNS, Message("user", "Thanks"))))
    assert sorted(whole.borders) == REPLIES
    for index in REPLIES:
        start, end = whole.borders[index]
        assert whole.ids[:start] == renderer.prompt_ids(TOOLS, TURNS[:index])
        assert whole.ids[end - 1] in renderer.stop_ids


@pytest.mark.parametrize("form", ["released", "script", FALLBACK, "chatml", "headers"])
def test_a_reply_and_its_feedback_make_the_next_prompt(form):
    renderer = renderer_for(form, "per_trajectory")
    replied = renderer.encode(TOOLS, TURNS[:2]).ids
    after = renderer.feedback_ids(TOOLS, TURNS[:1], CALLS[:1], [TURNS[2].content])
    assert replied + after == renderer.prompt_ids(TOOLS, TURNS[:3])


def test_only_the_released_forms_write_prompts_by_the_kind_of_sample():
    for form in FORMS:
        prompts = [renderer_for(form, samples).prompt_ids(TOOLS, TURNS[:3]) for samples in SAMPLES]
        assert (prompts[0] != prompts[1]) == (form in ("released", "script"))


def test_the_reply_of_a_sample_is_read_as_its_calls(renderer):
    for index in REPLIES[:2]:
        sample = renderer.encode(TOOLS, TURNS[: index + 1])
        start, end = sample.borders[index]
        reply = renderer.tokenizer.decode(sample.ids[start : end - 1], keep_control=True)
        assert renderer.parse(reply) == TURNS[index].calls
        assert renderer.parse_call(reply) == TURNS[index].calls[0]


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-999, 999) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
ARGUMENTS = st.dictionaries(st.sampled_from(["a", "b_c", "n1"]), VALUES, max_size=3)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["f", "g_h"]), ARGUMENTS), min_size=1, max_size=3))
def test_calls_that_are_written_are_read_back(renderer, drawn):
    calls = tuple(ToolCall(*call) for call in drawn)
    text = renderer.render_calls(calls)
    assert renderer.parse(text) == calls and renderer.call_text(text) == text
    assert renderer.parse_call(text) == (calls[0] if len(calls) == 1 else None)


def test_the_calls_of_the_renderer_are_those_of_its_samples():
    for form in ("released", "script", FALLBACK, "chatml"):
        renderer = renderer_for(form)
        assert renderer.render_calls(CALLS[:1]) in renderer.encode(TOOLS, TURNS[:2]).rendered.text


def test_a_reply_is_read_in_the_call_style_it_should_have():
    hermes, released = renderer_for("chatml"), renderer_for("released")
    assert (hermes.call_style, released.call_style) == ("hermes", "python")
    call = ToolCall("f", {"x": 1})
    text = '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>'
    assert hermes.parse_call(text) == call == released.parse_call("f(x = 1)")
    assert released.parse_call(text) is None and hermes.parse_call("f(x = 1)") is None
    thoughtful = f"I look it up.\n{text}"
    assert hermes.parse_call(thoughtful) == call and hermes.call_text(thoughtful) == text
    assert hermes.parse_call(f"{text} There.") is None and hermes.parse(f"{text} There.") == ()
    assert released.parse_call("I look it up.\nf(x = 1)") is None


def test_a_reply_in_words_holds_no_calls(renderer):
    for words in ("", "There.", "find(", "{"):
        assert renderer.parse(words) == () and renderer.parse_call(words) is None


def test_stop_tokens_are_those_of_the_template_and_the_end_of_sequence(renderer):
    eos = renderer.tokenizer.eos_id
    assert renderer.stop_ids == ((eos,) if renderer.chat is None else renderer.chat.stop_ids)
    assert eos in renderer.stop_ids and len(set(renderer.stop_ids)) == len(renderer.stop_ids)


def test_a_template_that_cannot_be_used_is_refused_when_it_is_opened():
    tokenizer = make_tokenizer("chatml", template=WITHOUT_TOOLS)
    with pytest.raises(DataError, match="drops the tools"):
        open_renderer(DataConfig(template="chat"), tokenizer)
