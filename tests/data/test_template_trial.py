"""A template is used only if it writes everything and ends its replies."""

import pytest
import template_cases as cases
from template_cases import FAMILIES, make_tokenizer

from tl_jax.data import template_trial
from tl_jax.data.schema import DataError
from tl_jax.data.template_trial import FALLBACK, call_style, open_template, stop_ids
from tl_jax.data.tokenizer import train_byte_bpe


@pytest.mark.parametrize(
    ("family", "style"),
    [
        ("chatml", "hermes"),
        ("thinking", "hermes"),
        ("headers", "llama_json"),
        ("brackets", "mistral"),
    ],
)
def test_style_and_stop_tokens_are_found_out(family, style):
    tokenizer = make_tokenizer(family)
    assert call_style("chat", tokenizer) == style
    assert stop_ids("chat", tokenizer) == (tokenizer.eos_id,)


def test_a_stop_token_that_is_not_the_end_of_sequence_is_found():
    source, special, _, _ = FAMILIES["chatml"]
    tokenizer = make_tokenizer("brackets", template=source, tags=special)
    stop = tokenizer.token_id("<|im_end|>")
    assert stop != tokenizer.eos_id
    assert stop_ids("chat", tokenizer) == (stop, tokenizer.eos_id)


def test_calls_may_end_with_a_token_of_their_own():
    source = FAMILIES["headers"][0].replace("'}<|eot_id|>'", "'}<|eom_id|>'")
    tokenizer = make_tokenizer("headers", template=source, tags=("<|eom_id|>",))
    assert open_template("chat", tokenizer).stops == ("<|eot_id|>", "<|eom_id|>")
    assert stop_ids("chat", tokenizer)[1] == tokenizer.token_id("<|eom_id|>")


@pytest.mark.parametrize("template", ["released", "script"])
def test_the_released_forms_need_no_trial(template):
    tokenizer = make_tokenizer("chatml", template=cases.WITHOUT_TOOLS)
    assert call_style(template, tokenizer) == "python"
    assert stop_ids(template, tokenizer) == (tokenizer.eos_id,)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("WITHOUT_TOOLS", "drops the tools"),
        ("WITHOUT_CALLS", "drops the calls"),
        ("WITHOUT_RESULTS", "drops the results"),
        ("WITHOUT_STOP", "no control token after a reply"),
        ("OTHER_CALLS", "none of the forms python, hermes, llama_json, mistral"),
    ],
)
def test_what_a_template_loses_is_told_with_the_way_out(template, message):
    tokenizer = make_tokenizer("chatml", template=getattr(cases, template))
    with pytest.raises(DataError, match=message) as error:
        open_template("chat", tokenizer)
    assert "data.template='chat'" in str(error.value)
    assert f"choose data.template='{FALLBACK}' or 'released'" in str(error.value)
    assert open_template(FALLBACK, tokenizer).call_style == "hermes"


def test_arguments_are_given_as_text_where_the_template_wants_text():
    tokenizer = make_tokenizer("chatml", template=cases.TEXT_ARGUMENTS)
    assert open_template("chat", tokenizer).text_arguments
    assert not open_template("chat", make_tokenizer("chatml")).text_arguments


def test_no_template_and_a_broken_one_are_told(tmp_path):
    plain = train_byte_bpe(["some text"] * 3, 300, tmp_path)
    with pytest.raises(DataError, match="has no chat template; choose"):
        open_template("chat", plain)
    with pytest.raises(DataError, match=r"needs the tokens <\|im_start\|>.*'released'"):
        open_template(FALLBACK, plain)
    with pytest.raises(DataError, match="unknown chat template 'fancy'"):
        open_template("fancy", plain)
    broken = make_tokenizer("chatml", template="{% for %}")
    with pytest.raises(DataError, match="TemplateSyntaxError"):
        open_template("chat", broken)


def test_a_template_cannot_reach_out_of_its_sandbox():
    for attack in (
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{% set _ = messages.append(1) %}",
    ):
        tokenizer = make_tokenizer("chatml", template=attack + cases.CHATML)
        with pytest.raises(DataError, match="SecurityError|drops|cannot be used"):
            open_template("chat", tokenizer)


def test_of_named_templates_the_one_for_tools_is_taken():
    tokenizer = make_tokenizer("chatml")
    tokenizer.fast.chat_template = {"default": cases.WITHOUT_TOOLS, "tool_use": cases.CHATML}
    assert open_template("chat", tokenizer).source == cases.CHATML


def test_a_template_is_tried_once_and_known_by_its_text(monkeypatch):
    tokenizer = make_tokenizer("chatml")
    first = open_template("chat", tokenizer)
    assert first.fingerprint == open_template("chat", make_tokenizer("chatml")).fingerprint
    assert first.fingerprint != open_template("chat", make_tokenizer("thinking")).fingerprint
    monkeypatch.setattr(template_trial, "_tried", None)
    assert open_template("chat", tokenizer) is first
