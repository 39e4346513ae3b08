"""A request is answered with the reply, the call in it and what is wrong with it."""

import json

import jax
import pytest

from tl_jax.calls.call import Parameter, ToolCall, ToolSpec
from tl_jax.cli import generate
from tl_jax.cli.workspace import Workspace
from tl_jax.config import EvaluateConfig, MeshConfig, ModelSourceConfig, RunConfig
from tl_jax.parallel.mesh import make_mesh
from tl_jax.rl.sampler import Generation
from tl_jax.settings import ConfigError

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
    workspace = Workspace(config)
    workspace.__dict__["mesh"] = make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1])
    return workspace


def answer(workspace, console, tools, prompt="A train to Rome, please"):
    generate.main(workspace, console, tools_path=tools, prompt=prompt)
    return console.file.getvalue().splitlines()


def replying(workspace, monkeypatch, text, seen=None):
    """Let the model reply with ``text``."""

    def fake(sample, params, prompts, keys, *, batch_size):
        if seen is not None:
            seen.extend(prompts)
        ids, _ = workspace.tokenizer.encode_continuation(text)
        return [Generation([*ids, workspace.tokenizer.eos_id], [0.0], True)]

    monkeypatch.setattr(generate, "generate", fake)


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

    monkeypatch.setattr(generate, "generate", fake)
    reply, verdict = answer(workspace, console, tools)
    assert verdict == "not a call" and "<|pad|>)" in reply


def test_requests_are_read_from_the_terminal_until_an_empty_line(
    workspace, console, tools, monkeypatch
):
    seen = []
    replying(workspace, monkeypatch, " find_train(city='Rome')", seen)
    lines = iter(["to Rome", "to Oslo", ""])
    monkeypatch.setattr(console, "input", lambda _: next(lines))
    assert answer(workspace, console, tools, prompt="").count("checks: fits its tool") == 2
    prompts = [workspace.tokenizer.decode(ids) for ids in seen]
    assert "to Rome" in prompts[0] and "to Oslo" in prompts[1]


@pytest.mark.parametrize(
    ("call", "problems"),
    [
        (ToolCall("find_train", {"city": "Rome"}), []),
        (ToolCall("book", {}), ["no tool book is offered"]),
        (ToolCall("find_train", {}), ["city is missing"]),
        (
            ToolCall("find_train", {"town": "Rome", "seats": "2"}),
            ["town is no parameter", "seats should be integer", "city is missing"],
        ),
        (ToolCall("find_train", {"city": "Rome", "seats": True}), ["seats should be integer"]),
        (ToolCall("find_train", {"city": "Rome", "extra": [1]}), []),
    ],
)
def test_a_call_is_checked_against_the_schema_of_its_tool(call, problems):
    city, seats = Parameter("city", "string", "", True), Parameter("seats", "integer")
    tool = ToolSpec("find_train", "", (city, seats, Parameter("extra")))
    assert generate.check(call, (tool,)) == problems


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"--tools: no file '.*tools\.json'; give a JSON list of function objects"),
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
        generate.read_tools(str(path))
