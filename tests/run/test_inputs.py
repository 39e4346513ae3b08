"""What a run is trained from may not change unseen: weights, tokenizer, template and data."""

import dataclasses
import json
import os
import shutil

import pytest

from tl_jax.config import DataConfig, LoraConfig, ModelSourceConfig, RunConfig, TrainConfig
from tl_jax.convert import model_files
from tl_jax.data.examples.build import Example
from tl_jax.data.examples.order import write_order
from tl_jax.data.examples.shards import shard_name, write_examples
from tl_jax.data.prepare.dataset import settings_hash
from tl_jax.data.prepare.files import (
    EXAMPLES,
    FINGERPRINT,
    LINES,
    PROMPTS,
    REPORT,
    SHARDED,
    write_fingerprint,
)
from tl_jax.data.prepare.sources import identities, open_sources
from tl_jax.errors import ConfigError
from tl_jax.run import inputs
from tl_jax.run.directory import Run
from tl_jax.train import sft

WEIGHTS = "model.safetensors"


def write_data(folder, tokenizer, weight=1.0):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name in LINES:
        (folder / name).write_text("")
    for name in SHARDED:
        write_examples(folder / name, [Example("a", [1, 2], [0, weight], {})])
    (folder / REPORT).write_text("{}")
    write_order(folder / EXAMPLES)
    write_fingerprint(folder, {"tokenizer": tokenizer})


@pytest.fixture
def run(model_dir, tmp_path):
    """A run with adapters on a model of its own, its data prepared."""
    shutil.copytree(model_dir, tmp_path / "model")
    config = RunConfig(
        run_dir=str(tmp_path / "run"),
        model=ModelSourceConfig(path=str(tmp_path / "model")),
        data=DataConfig(template="released"),
        lora=LoraConfig(rank=2),
    )
    (tmp_path / "run").mkdir()
    run = Run(config)
    write_data(run.data_dir, run.tokenizer.fingerprint)
    return run


def begin(run):
    """Settle what the run is trained from, and leave a mark of training."""
    inputs.settle(run)
    step = run.checkpoint_dir("supervised") / "3"
    step.mkdir(parents=True)
    (step / "commit_success.txt").touch()
    return Run(run.config)


def flip(path, at=-1):
    """Change one byte, and neither the size nor, as a fault of the disk would, the time."""
    found, content = path.stat(), bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(bytes(content))
    return found


def other_tokenizer(run):
    file = run.model_dir / "tokenizer.json"
    found = json.loads(file.read_text())
    found["normalizer"] = {"type": "Lowercase"}
    file.write_text(json.dumps(found))


def other_settings(run):
    file = run.model_dir / "config.json"
    found = json.loads(file.read_text())
    file.write_text(json.dumps({**found, "rms_norm_eps": 0.01}))


def other_stops(run):
    file = run.model_dir / "generation_config.json"
    file.write_text('{"eos_token_id": [7, 8]}')


CHANGES = {
    "stop tokens": other_stops,
    WEIGHTS: lambda run: flip(run.model_dir / WEIGHTS),
    "config.json": other_settings,
    "tokenizer": other_tokenizer,
    f"{EXAMPLES}/index.json": lambda run: write_data(
        run.data_dir, run.tokenizer.fingerprint, weight=2.0
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_changed_since_training_began_is_refused_by_name_or_written_down(run, name):
    run = begin(run)
    inputs.settle(run)
    inputs.check(run)
    CHANGES[name](run)
    run = Run(run.config)
    with pytest.raises(ConfigError, match=f"has changed: {name}.*--force"):
        inputs.settle(run)
    if not name.startswith(EXAMPLES):
        with pytest.raises(ConfigError, match=name):
            inputs.check(run)
    forced = dataclasses.replace(run, force=True)
    inputs.check(forced)
    inputs.settle(forced)
    [change] = json.loads((run.run_dir / inputs.FILE).read_text())["changes"]
    assert change["what"][0] == name and change["steps"] == {"supervised": 3, "reward": None}
    inputs.settle(Run(run.config))
    inputs.check(Run(run.config))
    assert len(json.loads((run.run_dir / inputs.FILE).read_text())["changes"]) == 1


def test_initial_weights_that_no_model_is_made_of_any_more_may_go_where_a_model_is_read(run):
    run = begin(Run(dataclasses.replace(run.config, lora=LoraConfig())))
    flip(run.model_dir / WEIGHTS)
    inputs.check(run)
    with pytest.raises(ConfigError, match=WEIGHTS):
        inputs.settle(run)


def test_a_damaged_record_is_no_missing_one(run):
    """Else a flipped bit would let any other change through."""
    run = begin(run)
    file = run.run_dir / inputs.FILE
    for content in ("", "[]", '{"files": 3}', "[" * 100_000):
        file.write_text(content)
        flip(run.model_dir / WEIGHTS)
        for look in (inputs.settle, inputs.check):
            with pytest.raises(ConfigError, match=r"inputs\.json is damaged.*--force"):
                look(run)
    forced = dataclasses.replace(run, force=True)
    inputs.check(forced)
    inputs.settle(forced)
    [change] = json.loads(file.read_text())["changes"]
    assert change["what"] == [inputs.FILE]
    inputs.settle(run)


@pytest.mark.parametrize("section", ["reward", "environment"])
def test_the_code_that_reward_training_runs_is_held_to_once_it_has_begun(run, section, tmp_path):
    code = tmp_path / "mine.py"
    path = f"{code}:f" if section == "reward" else str(code)
    config = dataclasses.replace(
        run.config, **{section: dataclasses.replace(getattr(run.config, section), path=path)}
    )
    code.write_text("def f(reply, prompt):\n    return 1\n")
    run = begin(Run(config))
    code.write_text("def f(reply, prompt):\n    return 2\n")
    inputs.settle(run)  # while the supervised phase trains
    run.checkpoint_dir("supervised").rename(run.checkpoint_dir("reward"))
    inputs.settle(run)
    code.write_text("def f(reply, prompt):\n    return 3\n")
    with pytest.raises(ConfigError, match=rf"has changed: config\.{section}\.path.*--force"):
        inputs.settle(run)
    inputs.check(run)  # to score or export needs none of it
    inputs.settle(dataclasses.replace(run, force=True))
    inputs.settle(run)


def test_reward_training_goes_on_from_the_model_that_it_began_from(run):
    def of_steps(count):
        return Run(dataclasses.replace(run.config, train=TrainConfig(steps=count)))

    begin(of_steps(3))
    inputs.settle(of_steps(3))
    for phase, step in (("reward", 1), ("supervised", 5)):
        folder = run.checkpoint_dir(phase) / str(step)
        folder.mkdir(parents=True)
        (folder / "commit_success.txt").touch()
    with pytest.raises(ConfigError, match="has changed: the model it starts from"):
        inputs.settle(of_steps(5))
    with pytest.raises(ConfigError, match=r"has begun from supervised step 5.*train\.steps=5"):
        sft.train(of_steps(9))


def test_until_anything_is_trained_all_may_change_but_not_apart(run):
    inputs.settle(run)
    flip(run.model_dir / WEIGHTS)
    inputs.settle(run)
    other_tokenizer(run)
    with pytest.raises(ConfigError, match=r"prepared with another tokenizer.*prepare. again"):
        inputs.settle(Run(run.config))


def test_files_whose_size_and_time_are_known_are_not_read_again(run, monkeypatch):
    run = begin(run)
    monkeypatch.setattr(model_files, "sha256", lambda path: pytest.fail(f"read {path}"))
    inputs.settle(run)
    os.utime(run.model_dir / WEIGHTS)
    with pytest.raises(pytest.fail.Exception, match=WEIGHTS):
        inputs.settle(run)


@pytest.mark.parametrize("name", [PROMPTS, f"{EXAMPLES}/{shard_name(0)}", FINGERPRINT])
def test_training_does_not_begin_on_damaged_data(run, name):
    if name == PROMPTS:
        (run.data_dir / name).write_text("{}\n")
    elif name == FINGERPRINT:
        (run.data_dir / name).write_text("{")
    else:
        flip(run.data_dir / name)
    with pytest.raises(ConfigError, match="run `tl-jax prepare` again"):
        inputs.settle(run)


@pytest.mark.parametrize(
    ("section", "changes", "told"),
    [
        ("mae", {"rules": "static"}, "settings"),
        ("key_tokens", {"w_max": 3.0}, "settings"),
        ("data", {"max_length": 77}, "settings"),
        ("data", {"samples": "per_turn"}, "settings"),
        ("data", {"path": "other.jsonl"}, "sources"),
        ("data", {"path": "synthetic"}, "sources"),
        ("data", {"path": "synthetic", "sources": ("rows.jsonl@2",)}, "sources"),
        ("data", {"path": "synthetic", "sources": ("rows.jsonl", "b.jsonl")}, "sources"),
        ("data", {"path": "./rows.jsonl", "batch_size": 3, "packing": False}, ""),
        ("data", {"path": "synthetic", "sources": ("rows.jsonl:openai@1",)}, ""),
        ("data", {"path": "copy.jsonl"}, ""),
    ],
)
def test_training_begins_on_data_of_the_settings_that_it_has(
    run, section, changes, told, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    row = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    for name, rows in (("copy.jsonl", 1), ("other.jsonl", 2), ("rows.jsonl", 1), ("b.jsonl", 1)):
        (tmp_path / name).write_text(rows * (json.dumps(row) + "\n"))
    data = dataclasses.replace(run.config.data, path="rows.jsonl")
    config = dataclasses.replace(run.config, data=data)
    settings = settings_hash(data, config.mae, config.key_tokens, config.seed)
    (run.data_dir / REPORT).write_text(json.dumps({"sources": {"rows.jsonl": {}}}))
    made = {"tokenizer": run.tokenizer.fingerprint, "config": settings}
    made |= {"sources": identities(open_sources(data, config.seed))}
    write_fingerprint(run.data_dir, made)
    inputs.settle(Run(config))
    changed = dataclasses.replace(getattr(config, section), **changes)
    other = Run(dataclasses.replace(config, **{section: changed}))
    if not told:
        inputs.settle(other)
        return
    with pytest.raises(ConfigError, match=rf"with other {told}.* or run `tl-jax prepare` again"):
        inputs.settle(other)


def test_training_begins_on_as_much_of_the_embedded_world_as_is_set(run):
    data = dataclasses.replace(run.config.data, synthetic_trajectories=9)
    (run.data_dir / REPORT).write_text(json.dumps({"sources": {"synthetic": {}}}))
    made = {"tokenizer": run.tokenizer.fingerprint, "sources": [["synthetic/9/0", 1.0]]}
    write_fingerprint(run.data_dir, made)
    inputs.settle(Run(dataclasses.replace(run.config, data=data)))
    with pytest.raises(ConfigError, match="with other sources"):
        inputs.settle(run)
