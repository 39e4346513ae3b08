"""An export says of its tokenizer what it takes to ask as in training, whatever the source says."""

import json

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tl_jax.calls.call import tool_from_schema
from tl_jax.config import DataConfig, ModelSourceConfig, RunConfig
from tl_jax.convert import hf_directory
from tl_jax.data.render.chatml_tools import CHATML_TOOLS, NEEDED_TOKENS
from tl_jax.data.tokenize.tokenizer import train_byte_bpe
from tl_jax.data.trajectory import Message
from tl_jax.publish import export
from tl_jax.run.directory import Run

TOOL = {"name": "find", "description": "Find it.", "parameters": {"type": "object"}}
DEFAULT = CHATML_TOOLS.replace("You can call", "You may call")


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A directory with a tokenizer that has the tokens of ChatML, and no template yet."""
    train_byte_bpe(["find a train to Rome"] * 9, 300, tmp_path / "plain")
    fast = PreTrainedTokenizerFast.from_pretrained(tmp_path / "plain")
    fast.add_tokens(list(NEEDED_TOKENS), special_tokens=True)
    fast.save_pretrained(tmp_path / "source")
    (tmp_path / "source" / "config.json").write_text('{"model_type": "llama"}')
    monkeypatch.setattr(Run, "newest_phase", lambda _: "supervised")
    return tmp_path / "source"


def change(directory, **settings):
    file = directory / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


@pytest.mark.parametrize(
    ("settings", "asked", "taken"),
    [
        ({"chat_template": DEFAULT}, "auto", "chat"),
        ({"chat_template": [{"name": "tool_use", "template": DEFAULT}]}, "auto", "chat"),
        # one of these alone is for nothing that is asked here
        ({"chat_template": [{"name": "rag", "template": "x"}]}, "auto", "chatml_tools"),
        ({"chat_template": DEFAULT}, "chatml_tools", "chatml_tools"),
        ({"chat_template": DEFAULT, "split_special_tokens": True}, "auto", "chat"),
        ({}, "auto", "chatml_tools"),
    ],
)
def test_an_export_is_asked_with_the_trained_prompt(source, tmp_path, settings, asked, taken):
    change(source, **settings)
    model = ModelSourceConfig(path=str(source))
    run = Run(RunConfig(model=model, data=DataConfig(template=asked)))
    assert run.renderer.template == taken
    out = tmp_path / "out"
    out.mkdir()
    hf_directory.copy_tokenizer(
        source, out, chat_template=export._chat_template(run), settings=export._trained_in(run)
    )
    (out / "config.json").write_text('{"model_type": "llama"}')
    served = AutoTokenizer.from_pretrained(out).apply_chat_template(
        [{"role": "user", "content": "Find a train."}],
        tools=[{"type": "function", "function": TOOL}],
        add_generation_prompt=True,
    )
    tools = (tool_from_schema(TOOL),)
    assert served["input_ids"] == run.renderer.prompt_ids(tools, [Message("user", "Find a train.")])
