"""A run with a chat template is prepared, sampled, scored and exported in its own terms."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from rich.console import Console

from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.cli import prepare
from tl_jax.config import ModelConfig, RunConfig
from tl_jax.config.fields import from_dict
from tl_jax.convert import to_hf
from tl_jax.data.examples.jsonl import read_prompts
from tl_jax.data.examples.shards import open_shards
from tl_jax.data.prepare.files import EXAMPLES, FINGERPRINT, PROMPTS
from tl_jax.data.render import probe
from tl_jax.data.render.probe import open_template
from tl_jax.data.tokenize.tokenizer import load_tokenizer, train_byte_bpe
from tl_jax.data.trajectory import Message
from tl_jax.errors import ConfigError, DataError
from tl_jax.evaluate.suites import SUITES, embedded_world
from tl_jax.evaluate.tasks import task_set
from tl_jax.models import functional
from tl_jax.publish.export import Request, export
from tl_jax.run.directory import Run

EOS, STOP = "<|eos|>", "<|im_end|>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model whose tokenizer has ChatML tokens and a template that drops tools."""
    folder = tmp_path_factory.mktemp("chat")
    tokenizer = train_byte_bpe(["some text"] * 3, 300, folder / "tokenizer")
    tokenizer.fast.add_tokens(["<|im_start|>", STOP], special_tokens=True)
    tokenizer.fast.chat_template = "{{ messages[0].content }}"
    tokenizer.save(folder / "tokenizer")
    tokenizer = load_tokenizer(folder / "tokenizer")
    model = ModelConfig(tokenizer.vocab_size, 16, 1, 2, 1, 8, 32)
    params = jax.tree.map(
        lambda info: np.zeros(info.shape, info.dtype),
        functional.abstract_params(model),
        is_leaf=lambda leaf: hasattr(leaf, "axes"),
    )
    to_hf.save(params, folder / "model", config=model, source=folder / "tokenizer")
    return folder


def workspace(folder, name="run", **sections):
    data = {"synthetic_trajectories": 20, "max_length": 4096, "validation_fraction": 0.0}
    data["samples"] = "per_turn"
    values = {
        "run_dir": str(folder / name),
        "model": {"path": str(folder / "model")},
        "evaluate": {"synthetic_trajectories": 3},
        "train": {"steps": 0},
        "ppo": {"steps": 0},
        **sections,
    }
    values["data"] = {**data, "template": "chatml_tools", **sections.get("data", {})}
    return Run(from_dict(RunConfig, values))


@pytest.fixture(scope="module")
def prepared(folder):
    run = workspace(folder)
    return run, prepare.prepare(run)


def test_every_example_ends_with_its_trained_stop_token(prepared):
    run, report = prepared
    stop = run.tokenizer.token_id(STOP)
    assert report["bad_rows"] == 0 and report["examples"]["train"] > 20
    for row in open_shards(run.data_dir / EXAMPLES):
        assert row.ids[-1] == stop and row.weights[-1] > 0
        assert row.ids[: row.ids.index(stop)].count(stop) == 0
        trained = [i for i, weight in enumerate(row.weights) if weight]
        assert trained == list(range(trained[0], len(row.ids)))
        assert max(row.weights) > 1  # the tool's name has key tokens in this form, too


def test_prompts_of_rollouts_and_evaluation_end_with_the_generation_prompt(prepared):
    run, _ = prepared
    prompts = list(read_prompts(run.data_dir / PROMPTS))
    assert prompts
    for prompt in prompts:
        assert prompt.text.endswith("<|im_start|>assistant\n")
        assert run.tokenizer.decode(prompt.ids, keep_control=True) == prompt.text
    items = list(embedded_world.read("3", "seen"))
    tasks = task_set(SUITES["synthetic/seen"], items, run.renderer, max_prompt_length=9999)
    for ids in tasks.prompts:
        text = run.tokenizer.decode(ids, keep_control=True)
        assert text.endswith("<|im_start|>assistant\n")


def test_stop_tokens_and_call_style_follow_the_template(folder, prepared):
    run, _ = prepared
    stop, eos = run.tokenizer.token_id(STOP), run.tokenizer.eos_id
    assert run.renderer.call_style == "hermes" and stop != eos
    assert stops_of(run) == (stop, eos)
    released = workspace(folder, data={"template": "released"})
    assert released.renderer.call_style == "python" and stops_of(released) == (eos,)


def stops_of(run):
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "tl_jax.run.directory._sampler", lambda model, settings, *_: found.append(settings)
        )
        run.sampler(4, 0.0, 1.0)
    return found[0].stop_ids


def test_a_template_that_cannot_be_used_stops_prepare_before_it_reads(folder):
    run = workspace(folder, "chat", data={"template": "chat"})
    with pytest.raises(DataError, match="drops the tools; choose data.template='chatml_tools'"):
        prepare.prepare(run)
    assert not run.data_dir.exists()
    scratch = workspace(folder, "scratch", model={"path": "scratch"})
    with pytest.raises(ConfigError, match="a model from scratch has no chat tokens"):
        prepare.make_model(scratch, None)


def test_data_are_prepared_anew_when_the_template_changes(folder, prepared, monkeypatch):
    run, report = prepared
    before = (run.data_dir / FINGERPRINT).read_text()
    assert prepare.prepare(run) == report
    template = open_template("chatml_tools", run.tokenizer)
    changed = dataclasses.replace(template, source=template.source.replace("You can", "You may"))
    monkeypatch.setattr(probe, "open_template", lambda *_, **__: changed)
    prepare.prepare(run)
    assert (run.data_dir / FINGERPRINT).read_text() != before
    text = next(read_prompts(run.data_dir / PROMPTS)).text
    assert "You may call these functions" in text


def test_the_exported_model_writes_the_same_prompts_and_stops_alike(folder, prepared):
    run, _ = prepared
    target = folder / "export"
    export(run, Request(target=str(target)), Console(quiet=True))
    exported = load_tokenizer(target)
    assert "tools" in exported.fast.chat_template
    settings = json.loads((target / "generation_config.json").read_text())
    assert settings["eos_token_id"] == [run.tokenizer.token_id(STOP), run.tokenizer.eos_id]
    tools, messages = dialogue()
    chat = [
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"function": {"name": "f", "arguments": '{"a": 1}'}}],
        },
        {"role": "tool", "content": "1"},
    ]
    schema = {"type": "function", "function": {"name": "f", "description": "F.", "parameters": {}}}
    schema["function"]["parameters"] = {"type": "object", "properties": {}, "required": []}
    text = exported.fast.apply_chat_template(
        chat, tools=[schema], tokenize=False, add_generation_prompt=True
    )
    ids = run.renderer.prompt_ids(tools, messages)
    assert run.tokenizer.decode(ids, keep_control=True) == text


def dialogue():
    calls = (ToolCall("f", {"a": 1}),)
    turns = (Message("user", "hi"), Message("assistant", "", calls), Message("tool", "1"))
    return (ToolSpec("f", "F."),), turns
