"""A template is used only if it writes everything and ends its replies."""

import pytest
import template_cases as cases
from template_cases import FAMILIES, make_tokenizer, renderer_of

from tl_jax.calls.call import ToolCall, ToolSpec, tool_from_schema
from tl_jax.convert.hf_directory import copy_tokenizer
from tl_jax.data.render import probe
from tl_jax.data.render.chat_template import render_chat
from tl_jax.data.render.probe import FALLBACK, choose, open_template
from tl_jax.data.tokenize import pretrained
from tl_jax.data.tokenize.tokenizer import load_tokenizer, train_byte_bpe
from tl_jax.data.trajectory import Message, Trajectory
from tl_jax.errors import DataError


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
    template = open_template("chat", tokenizer)
    assert template.call_style == style
    assert template.stop_ids == (tokenizer.eos_id,)


def test_a_stop_token_that_is_not_the_end_of_sequence_is_found():
    source, special, _, _ = FAMILIES["chatml"]
    tokenizer = make_tokenizer("brackets", template=source, tags=special)
    stop = tokenizer.token_id("<|im_end|>")
    assert stop != tokenizer.eos_id
    assert open_template("chat", tokenizer).stop_ids == (stop, tokenizer.eos_id)


def test_calls_may_end_with_a_token_of_their_own():
    source = FAMILIES["headers"][0].replace("'}<|eot_id|>'", "'}<|eom_id|>'")
    tokenizer = make_tokenizer("headers", template=source, tags=("<|eom_id|>",))
    assert open_template("chat", tokenizer).stops == ("<|eot_id|>", "<|eom_id|>")
    assert open_template("chat", tokenizer).stop_ids[1] == tokenizer.token_id("<|eom_id|>")


@pytest.mark.parametrize("template", ["released", "script"])
def test_the_released_forms_need_no_trial(template):
    tokenizer = make_tokenizer("chatml", template=cases.WITHOUT_TOOLS)
    renderer = renderer_of(tokenizer, template)
    assert renderer.call_style == "python"
    assert renderer.stop_ids == (tokenizer.eos_id,)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("WITHOUT_TOOLS", "drops the tools"),
        ("WITHOUT_CALLS", "drops the calls"),
        ("WITHOUT_RESULTS", "drops the results"),
        ("WITHOUT_STOP", "no control token after a reply"),
        ("OTHER_CALLS", "in no form that is known"),
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
    assert open_template("chat", tokenizer).form.text_arguments
    assert not open_template("chat", make_tokenizer("chatml")).form.text_arguments


def read_back(family, tokenizer=None, thought="I look it up."):
    """What the template writes for a turn with a thought and a call, and the call read of it."""
    tokenizer = tokenizer or make_tokenizer(family)
    turn = Message("assistant", thought, (ToolCall("find", {"what": "x"}),))
    rendered = render_chat(
        open_template("chat", tokenizer), (ToolSpec("find"),), (Message("user", "x?"), turn)
    )
    reply = rendered.text[rendered.replies[-1].start : rendered.replies[-1].stop]
    return reply, renderer_of(tokenizer, "chat").parse(reply) == turn.calls


def test_a_thought_is_written_only_where_it_can_be_told_from_the_call():
    chatml, read = read_back("chatml")
    assert read and chatml.startswith("I look it up.\n<tool_call>")
    # a thought that quotes the mark
    for thought in ("<tool_call>", "I write <tool_call> now."):
        chatml, read = read_back("chatml", thought=thought)
        assert read and chatml.count("<tool_call>") == 1
    # no mark before the call
    bare = FAMILIES["headers"][0].replace("('assistant') + '{", "('assistant') + m.content + '{")
    headers, read = read_back("headers", make_tokenizer("headers", template=bare))
    assert read and headers.startswith('{"name"')
    # the thought after the call
    late = cases.CHATML.replace("assistant\\n' + m.content }}", "assistant\\n' }}").replace(
        "{{- '<|im_end|>\\n' }}\n  {%- elif m.role == 'tool'",
        "{{- m.content + '<|im_end|>\\n' }}\n  {%- elif m.role == 'tool'",
    )
    assert (
        late.count("m.content + '<|im_end|>") == cases.CHATML.count("m.content + '<|im_end|>") + 1
    )
    chatml, read = read_back("chatml", make_tokenizer("chatml", template=late))
    assert read and chatml.endswith("</tool_call>")
    # a template that refuses it
    picky = cases.CHATML.replace(
        "{%- for c in m.tool_calls or [] %}",
        "{%- if m.content and m.tool_calls %}{{ raise_exception('not both') }}{% endif %}"
        "{%- for c in m.tool_calls or [] %}",
    )
    chatml, read = read_back("chatml", make_tokenizer("chatml", template=picky))
    assert read and chatml.startswith("<tool_call>")


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
    monkeypatch.setattr(probe, "tried", None)
    assert open_template("chat", tokenizer) is first


RECURSIVE = cases.CHATML.replace(
    "{%- for m in messages %}",
    "{%- macro kind(t) %}{{ t if t is string else kind(t) }}{% endmacro %}"
    "{%- for t in tools or [] %}{% for p in t.function.parameters.properties.values() %}"
    "{{- kind(p.type) }}{% endfor %}{% endfor %}"
    "{%- for m in messages %}",
    1,
)


def test_whatever_a_template_does_is_a_reason_and_no_end():
    renderer = renderer_of(make_tokenizer("chatml", template=RECURSIVE), "chat")
    assert set(renderer.chat.lacks) == {"types"}
    schema = {"properties": {"a": {"type": ["string", "null"]}}}
    typed = tool_from_schema({"name": "find", "parameters": schema})
    turns = (Message("user", "x?"), Message("assistant", "y"))
    with pytest.raises(ValueError, match="refuses the dialogue .RecursionError"):
        renderer.encode((typed,), turns)
    assert renderer.encode((), turns).ids


def test_what_a_template_does_not_take_is_a_property_of_it():
    lacks = {
        "parallel_calls": cases.HEADERS,
        "system": cases.CHATML.replace("lead = messages[0].content", "lead = ''"),
        "later_system": cases.CHATML.replace(
            "m.role == 'user' or not loop.first", "m.role == 'user' or loop.first"
        ),
        "several_results": cases.CHATML.replace(
            "{%- elif m.role == 'tool' %}",
            "{%- elif m.role == 'tool' and loop.previtem.role == 'tool' %}"
            "{%- elif m.role == 'tool' %}",
        ),
        "quotes": cases.CHATML.replace(
            "c.function.arguments | tojson",
            "c.function.arguments | tojson | replace('\\\\\"', '')",
        ),
    }
    calls = (ToolCall("find", {"what": "a"}), ToolCall("find", {"what": "b"}))
    user, system, words = Message("user", "x?"), Message("system", "s"), Message("assistant", "y")
    turns = {
        "parallel_calls": (user, Message("assistant", "", calls)),
        "system": (system, user, words),
        "later_system": (user, words, system, user, words),
        "several_results": (
            user,
            Message("assistant", "", calls),
            *(Message("tool", "1"), Message("tool", "2"), words),
        ),
        "quotes": (user, Message("assistant", "", (ToolCall("find", {"what": '"a"'}),))),
    }
    for part, source in lacks.items():
        family = "headers" if part == "parallel_calls" else "chatml"
        renderer = renderer_of(make_tokenizer(family, template=source), "chat", "per_trajectory")
        assert part in renderer.chat.lacks, part
        assert renderer.chat.lacks.keys() <= {part, "parallel_calls", "values"}
        tools = (ToolSpec("find"),)
        with pytest.raises(ValueError, match="has no place for|not in the text|are read as"):
            renderer.encode(tools, turns[part])
        first = next(i for i, turn in enumerate(turns[part]) if turn.role == "assistant")
        if part in ("later_system", "several_results"):  # the turn before it is trained
            row = Trajectory("t", tools, turns[part])
            assert sorted(renderer.encode_trajectory(row).borders) == [first]


def test_the_attempt_that_came_furthest_says_why():
    picky = cases.OTHER_CALLS.replace(
        "{%- for m in messages %}",
        "{%- if enable_thinking is defined and not enable_thinking %}"
        "{{ raise_exception('must think') }}{% endif %}{%- for m in messages %}",
        1,
    )
    with pytest.raises(DataError, match="in no form that is known"):
        open_template("chat", make_tokenizer("chatml", template=picky))


def test_calls_behind_the_end_of_a_reply_are_told_as_such():
    apart = cases.CHATML.replace(
        "assistant\\n' + m.content }}", "assistant\\n' + m.content + '<|im_end|>\\n' }}"
    )
    assert apart != cases.CHATML
    with pytest.raises(DataError, match="after '<.im_end.>', the token that ends a reply"):
        open_template("chat", make_tokenizer("chatml", template=apart))


def test_only_what_will_work_is_advised():
    source = cases.HEADERS.replace("{%- if loop.first and tools %}", "{%- if false %}")
    with pytest.raises(DataError, match="drops the tools; choose data.template='released' or"):
        open_template("chat", make_tokenizer("headers", template=source))


def test_a_file_is_a_template_like_any(tmp_path):
    file = tmp_path / "mine.jinja"
    file.write_text("\ufeff" + cases.CHATML, encoding="utf-8")
    tokenizer = make_tokenizer("chatml", template=cases.WITHOUT_TOOLS)
    assert open_template(str(file), tokenizer).source == cases.CHATML
    with pytest.raises(DataError, match="other.jinja' cannot be used: the file cannot be read"):
        open_template(str(tmp_path / "other.jinja"), tokenizer)


def test_settings_that_cannot_be_are_refused_whatever_form_is_taken():
    tokenizer = make_tokenizer("thinking")
    for name in ("auto", "chat", "chatml_tools"):
        for setting, told in (("enable_thinkin=false", "reads no variable"), ("a", "is not name=")):
            with pytest.raises(DataError) as refused:
                choose(name, tokenizer, (setting,))
            assert told in str(refused.value) and "choose" not in str(refused.value)
    with pytest.raises(DataError, match="no variable enable_thinkin; it reads enable_thinking"):
        choose("auto", tokenizer, ("enable_thinkin=false",))


def test_auto_takes_the_first_form_that_can_be_used(tmp_path):
    own = choose("auto", make_tokenizer("headers"))
    assert (own.name, own.chat.call_style) == ("chat", "llama_json")
    assert own.reason == (
        "the model's own chat template, which has no place for several calls in one turn"
    )
    fallback = choose("auto", make_tokenizer("chatml", template=cases.WITHOUT_TOOLS))
    assert fallback.name == FALLBACK and "drops the tools" in fallback.reason
    plain = train_byte_bpe(["some text"] * 3, 300, tmp_path)
    paper = choose("auto", plain)
    assert (paper.name, paper.chat) == ("released", None) and "no chat template" in paper.reason
    assert renderer_of(plain, "auto").described() == (
        "text form released with python calls: the form of the paper, as the model has no chat "
        "template"
    )


@pytest.mark.parametrize("note", ["released", "script", "no such form", None])
def test_a_model_is_asked_in_the_plain_form_that_its_directory_says_it_was_trained_in(
    note, tmp_path
):
    source, export = tmp_path / "source", tmp_path / "export"
    export.mkdir()
    fast = make_tokenizer("chatml").fast
    fast.save_pretrained(source)
    copy_tokenizer(source, export, chat_template="", settings={pretrained.TEXT_FORM: note})
    found = choose("auto", load_tokenizer(export))
    known = note in ("released", "script")
    assert found.name == (note if known else FALLBACK)
    assert ("was trained in" in found.reason) == known
    # What it is trained in next takes the place of the note.
    again = tmp_path / "again"
    again.mkdir()
    settings = {pretrained.TEXT_FORM: None}
    copy_tokenizer(export, again, chat_template=cases.CHATML, settings=settings)
    assert choose("auto", load_tokenizer(again)).name == "chat"
    assert pretrained.TEXT_FORM not in (again / "tokenizer_config.json").read_text()


@pytest.mark.parametrize(
    ("template", "setting", "message"),
    [
        ("chat", "no_such=1", "reads no variable no_such"),
        ("chat", "enable_thinking", "is not name=value with a JSON value"),
        ("chat", "enable_thinking=no", "is not name=value with a JSON value"),
        ("released", "enable_thinking=false", "text form released .as set. has none"),
    ],
)
def test_settings_that_nothing_reads_are_refused(template, setting, message):
    with pytest.raises(DataError, match=message):
        choose(template, make_tokenizer("thinking"), (setting,))
