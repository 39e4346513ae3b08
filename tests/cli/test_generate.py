"""A request is answered with the reply, the call in it and what is wrong with it."""

import dataclasses
import json

import jax
import pytest

from tl_jax.calls.call import Parameter, ToolCall, ToolSpec, tool_from_schema
from tl_jax.cli import generate
from tl_jax.config import EvaluateConfig, MeshConfig, ModelSourceConfig, RunConfig
from tl_jax.data.mae.schema_checks import problems_of
from tl_jax.data.render.renderer import Renderer
from tl_jax.data.trajectory import Message
from tl_jax.errors import ConfigError
from tl_jax.parallel.mesh import make_mesh
from tl_jax.run import chat
from tl_jax.run.directory import Run
from tl_jax.sampling.sampler import Generation

TRAINS = {
    "name": "find_train",
    "description": "Find a train.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "seats": {"type": "integer"}},
        "required": ["city"],
    },
}


@pytest.fixture
def tools(tmp_path):
    path = tmp_path / "tools.json"
    path.write_text(json.dumps([TRAINS]))
    return str(path)


@pytest.fixture
def workspace(model_dir, tmp_path):
    config = RunConfig(
        run_dir=str(tmp_path / "run"),
        model=ModelSourceConfig(path=str(model_dir)),
        evaluate=EvaluateConfig(max_new_tokens=4),
    )
    workspace = Run(config)
    workspace.__dict__["mesh"] = make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1])
    return workspace


def answer(workspace, console, tools, prompt="A train to Rome, please"):
    generate.main(workspace, console, tools=tools, prompt=prompt)
    return console.file.getvalue().splitlines()


def replying(workspace, monkeypatch, text, seen=None):
    """Let the model reply with ``text``, or with each of several texts in turn."""

    texts = iter([text] * 9 if isinstance(text, str) else text)

    def fake(sample, params, prompts, keys, **_):
        if seen is not None:
            seen.extend(prompts)
        ids, _ = workspace.tokenizer.encode_continuation(next(texts))
        return [Generation([*ids, workspace.tokenizer.eos_id], [0.0], True)]

    monkeypatch.setattr(chat, "generate", fake)


def test_the_model_of_the_run_replies(workspace, console, tools):
    reply, verdict = answer(workspace, console, tools)
    assert reply.startswith("reply: ") and verdict == "not a call"


def test_reply_call_and_checks_are_printed(workspace, console, tools, monkeypatch):
    seen = []
    replying(workspace, monkeypatch, " find_train(city='Rome', seats=2)", seen)
    assert answer(workspace, console, tools) == [
        "reply: find_train(city='Rome', seats=2)",
        "call:  find_train {'city': 'Rome', 'seats': 2}",
        "checks: fits its tool",
    ]
    [prompt] = [workspace.tokenizer.decode(ids) for ids in seen]
    assert "find_train" in prompt and "A train to Rome, please" in prompt
    assert prompt.endswith("Assistant:")


def test_a_control_token_inside_a_call_is_shown_and_spoils_it(
    workspace, console, tools, monkeypatch
):
    def fake(*_, **__):
        ids, _ = workspace.tokenizer.encode_continuation(" find_train(city='Rome')")
        return [Generation([*ids[:-1], workspace.tokenizer.pad_id, ids[-1]], [0.0], False)]

    monkeypatch.setattr(chat, "generate", fake)
    reply, verdict = answer(workspace, console, tools)
    assert verdict == "not a call" and "<|pad|>)" in reply


def typing(console, monkeypatch, *lines):
    """Type lines at the terminal, then end the input; return what was asked for."""
    waiting, asked = list(lines), []

    def read(question, **_):
        asked.append(question)
        if not waiting:
            raise EOFError
        return waiting.pop(0)

    monkeypatch.setattr(console, "input", read)
    return asked


def test_in_a_chat_every_turn_sees_the_calls_and_outputs_before_it(
    workspace, console, tools, monkeypatch
):
    seen = []
    call = " find_train(city='Rome')"
    replying(workspace, monkeypatch, [call, " It leaves at 9.", call], seen)
    asked = typing(console, monkeypatch, "to Rome", "9:00", "and back?", "", "")
    lines = answer(workspace, console, tools, prompt="")
    assert lines.count("checks: fits its tool") == 2 and "not a call" in lines
    assert asked == [
        "request: ",
        "output of find_train: ",
        "request: ",
        "output of find_train: ",
        "request: ",
    ]
    prompts = [workspace.tokenizer.decode(ids) for ids in seen]
    assert len(prompts) == 3 and prompts[0].endswith("User: to Rome\nAssistant:")
    turns = "User: to Rome\nAssistant: find_train(city = 'Rome') \nOutput: 9:00\nAssistant:"
    assert prompts[1].endswith(turns)
    assert prompts[2].endswith(f"{turns} It leaves at 9.\nUser: and back?\nAssistant:")


def test_in_a_chat_a_turn_reads_only_what_is_new(workspace):
    tools = (tool_from_schema(TRAINS),)
    read = []
    sampler = workspace.sampler(4, 0.0, 1.0)

    def counted(params, rows, prompts):
        read.append(int(prompts.counts.sum()))
        return sampler.programs.read(params, rows, prompts)

    programs = sampler.programs._replace(read=counted)
    watched = dataclasses.replace(sampler, programs=programs)
    workspace.__dict__["sampler"] = lambda *_, **__: watched
    messages = [Message("user", "A train to Rome, please")]
    with jax.set_mesh(workspace.mesh):
        ask = chat.make_answer(workspace, tools)
        first = ask(messages)
        before = sum(read)
        messages += [Message("assistant", first.text), Message("user", "And back?")]
        again = ask(messages)
        assert again == chat.make_answer(workspace, tools)(messages)
    whole = len(workspace.renderer.prompt_ids(tools, messages))
    # Of the second prompt what the first begins with is held; the third, in a chat of its own, is
    # read whole.
    new = sum(read) - before - (whole - 1)
    assert 0 < new <= whole - 1 - before


def test_several_calls_of_a_reply_are_shown_and_asked_for(workspace, console, tools, monkeypatch):
    replying(workspace, monkeypatch, [" find_train(city='Rome')\nbook(n=1)", " Done."])
    asked = typing(console, monkeypatch, "to Rome", "9:00", "yes")
    lines = answer(workspace, console, tools, prompt="")
    assert "checks: no tool book is offered" in lines and "reply: Done." in lines
    assert asked[1:3] == ["output of find_train: ", "output of book: "]


@pytest.mark.parametrize(
    ("outputs", "statuses"),
    [
        (("", "yes"), ["missing", ""]),
        (("9:00", ""), ["", "missing"]),
        (("9:00", "yes"), ["", ""]),
        (("", ""), []),
    ],
)
def test_an_output_stands_at_the_place_of_its_call(console, monkeypatch, outputs, statuses):
    calls = (ToolCall("find_train", {"city": "Rome"}), ToolCall("book", {"n": 1}))
    replies = iter([generate.Reply("two", "", calls), *[generate.Reply("Done.", "", ())] * 2])
    heard = []

    def reply(messages):
        heard.append(list(messages))
        return next(replies)

    typing(console, monkeypatch, "to Rome", *outputs, "and?")
    with pytest.raises(EOFError):
        generate.chat(reply, (), console)
    tools = [message for message in heard[1] if message.role == "tool"]
    assert [message.content for message in tools] == list(outputs)[: len(tools)]
    assert [message.status for message in tools] == statuses


def test_a_dialogue_that_grows_too_long_is_refused(workspace, console, tools, monkeypatch):
    replying(workspace, monkeypatch, " find_train(city='Rome')")
    typing(console, monkeypatch, "to Rome", "x" * 2000)
    with pytest.raises(ConfigError, match="more than config.evaluate.max_prompt_length"):
        answer(workspace, console, tools, prompt="")


def test_a_constrained_reply_begins_with_the_name_of_a_tool(workspace, console, tools):
    limits = dataclasses.replace(workspace.config.evaluate, constrained=True)
    strict = Run(dataclasses.replace(workspace.config, evaluate=limits))
    strict.__dict__["mesh"] = workspace.mesh
    reply, _ = answer(strict, console, tools)
    assert "find_train(".startswith(reply.removeprefix("reply: ")[:11])


def test_a_style_that_cannot_be_constrained_is_refused(workspace, monkeypatch):
    monkeypatch.setattr(Renderer, "call_style", "mistral")
    with pytest.raises(ConfigError, match="constrained holds python, hermes.* writes mistral"):
        workspace.constraints()


@pytest.mark.parametrize(
    ("call", "problems"),
    [
        (ToolCall("find_train", {"city": "Rome"}), []),
        (ToolCall("book", {}), ["no tool book is offered"]),
        (ToolCall("find_train", {}), ["city is missing"]),
        (
            ToolCall("find_train", {"town": "Rome", "seats": "two"}),
            ["town is no parameter", "seats: wrong type, not integer", "city is missing"],
        ),
        (ToolCall("find_train", {"city": "R", "seats": True}), ["seats: wrong type, not integer"]),
        (ToolCall("find_train", {"city": "Rome", "extra": [1]}), []),
    ],
)
def test_a_call_is_checked_against_the_schema_of_its_tool(call, problems):
    city, seats = Parameter("city", "string", "", True), Parameter("seats", "integer")
    tool = ToolSpec("find_train", "", (city, seats, Parameter("extra")))
    assert problems_of(call, (tool,)) == problems


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"--tools: no file '.*tools\.json'; give a JSON list of function objects"),
        ("[" * 100_000, r"--tools .*tools\.json: not JSON"),
        ("[{", r"--tools .*tools\.json: not JSON \(.*line 1 column 3"),
        ("{}", r"must be a JSON list of function objects"),
        ("[]", r"must be a JSON list of function objects"),
        ('[{"name": "a"}, "b"]', r"entry 2: a tool must be an object"),
        ('[{"description": "?"}]', r"entry 1: a tool needs a non-empty string 'name'"),
        ('[{"name": "a", "parameters": {"properties": []}}, {"name": ""}]', r"entry \d: "),
    ],
)
def test_tools_that_cannot_be_read_are_named(tmp_path, text, message):
    path = tmp_path / "tools.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        chat.read_tools(str(path))
