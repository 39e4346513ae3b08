"""Configurations are found by name or file, and every word of the command line is read strictly."""

import dataclasses
import json
import pathlib

import pytest
import yaml

from tl_jax.cli.settings import load, read_config, shipped
from tl_jax.config import RunConfig
from tl_jax.config.fields import to_dict
from tl_jax.errors import ConfigError

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("*.py")))
def test_a_shipped_configuration_has_a_name(name):
    assert load(name) == load(str(CONFIGS / f"{name}.py")) and name in shipped()


def test_a_preset_stands_behind_a_colon():
    assert load("smollm2_135m:paper_code")["ppo"]["kl_coef"] == 0.4


@pytest.mark.parametrize(
    ("name", "write"),
    [("c.yaml", yaml.safe_dump), ("c.yml", yaml.safe_dump), ("c.json", json.dumps)],
)
def test_plain_files_hold_sections(tmp_path, name, write):
    path = tmp_path / name
    path.write_text(write({"train": {"steps": 12}, "data": {"sources": ["a.jsonl", "b.jsonl"]}}))
    config = read_config(str(path), "", [])
    assert config.train.steps == 12 and config.data.sources == ("a.jsonl", "b.jsonl")
    whole = dataclasses.replace(config, run_dir="runs/other")
    path.write_text(write(json.loads(json.dumps(to_dict(whole)))))
    assert read_config(str(path), "", []) == whole


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("--config.train.steps=7", ("train", "steps", 7)),
        ("--config.optim.learning_rate=1", ("optim", "learning_rate", 1.0)),
        ("--config.data.packing=false", ("data", "packing", False)),
        ("--noconfig.data.packing", ("data", "packing", False)),
        ("--config.data.sources=('a','b@2')", ("data", "sources", ("a", "b@2"))),
        ("--config.data.sources=a.jsonl", ("data", "sources", ("a.jsonl",))),
        ("--config.ppo.kl=loss_k2", ("ppo", "kl", "loss_k2")),
        ("--config.mae.action=drop", ("data", "samples", "per_turn")),
        ("--config.model.splash.block_q=256", ("model", "splash", None)),
    ],
)
def test_words_change_settings(word, found):
    section, name, value = found
    changed = read_config("quickstart", "", [word])
    plain = read_config("quickstart", "", [])
    assert changed != plain
    assert value is None or getattr(getattr(changed, section), name) == value


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("--config.train.steps=x", "config.train.steps=x"),
        ("--config.train.steps=1.5", "config.train.steps=1.5"),
        ("--config.data.packing=maybe", "config.data.packing=maybe"),
        ("--config.optim.learning_rate=abc", "could not convert string to float: 'abc'"),
        (
            "--config.ppo.kl=zz",
            "config.ppo.kl must be one of reward_k1, loss_k2, loss_k3, got 'zz'",
        ),
        ("--config.train.step=3", "did you mean config.train.steps?"),
        ("--config.trian.steps=3", "did you mean config.train?"),
        ("--config.train.steps.x=3", "config.train.steps is a value and has no x"),
        ("--config.train.steps=-1", "config.train.steps must be at least 0"),
        ("--config.train=3", "config.train=3"),
    ],
)
def test_a_word_that_cannot_be_is_refused_by_name(word, told):
    with pytest.raises(ConfigError) as refused:
        read_config("quickstart", "", [word])
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("c.py", "import nothing_like_it", "c.py is broken: ModuleNotFoundError"),
        ("c.py", "def get_config(:", "c.py is broken: SyntaxError"),
        ("c.py", "x = 1", "it must define get_config"),
        ("c.py", "def get_config():\n    return 3", "must hold sections with settings, got int"),
        ("c.json", "{", "c.json is broken"),
        ("c.json", "[" * 100_000, "c.json is broken"),
        ("c.yaml", "a: [", "c.yaml is broken"),
        ("c.json", "[1]", "must hold sections with settings, got list"),
        ("c.json", '{"train": {"step": 1}}', "did you mean config.train.steps?"),
        ("c.yaml", "train: {steps: many}", "config.train.steps must be int, got 'many'"),
    ],
)
def test_a_broken_file_is_named(tmp_path, name, text, told):
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError) as refused:
        read_config(str(tmp_path / name), "", [])
    assert told in str(refused.value)


def test_config_and_run_exclude_each_other():
    with pytest.raises(ConfigError, match="leave --config out"):
        read_config("quickstart", "runs/x", [])


def test_the_defaults_are_those_of_the_dataclasses(tmp_path):
    (tmp_path / "c.json").write_text("{}")
    assert read_config(str(tmp_path / "c.json"), "", []) == RunConfig()
