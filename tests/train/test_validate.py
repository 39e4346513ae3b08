"""What needs no data is checked at the door: the message names setting, limit and mend."""

import dataclasses
import subprocess
import sys

import jax
import pytest

from tl_jax.config import ModelConfig, RunConfig
from tl_jax.config.fields import to_dict
from tl_jax.errors import ConfigError
from tl_jax.parallel.mesh import make_mesh
from tl_jax.run.directory import Run
from tl_jax.run.remote import check_all_local
from tl_jax.train.validate import check_inputs, checked, validate

MODEL = ModelConfig(
    vocab_size=64, embed_dim=16, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=8, mlp_dim=16
)


def changed(**sections):
    config = RunConfig()
    for name, values in sections.items():
        if isinstance(values, dict):
            values = dataclasses.replace(getattr(config, name), **values)
        config = dataclasses.replace(config, **{name: values})
    return config


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        (
            {"optim": {"warmup_steps": 20}, "train": {"steps": 2}},
            r"config.optim.warmup_steps is 20, .* supervised phase has only 2 steps .*"
            r"set config.optim.warmup_steps to 1 or less .*, or raise config.train.steps",
        ),
        (
            {"ppo_optim": {"warmup_steps": 9, "schedule": "cosine"}, "ppo": {"steps": 5}},
            r"config.ppo_optim.warmup_steps is 9, but the reward phase has only 3 steps",
        ),
        ({"optim": {"learning_rate": float("nan")}}, "config.optim.learning_rate must be finite"),
        ({"seed": -1}, "config.seed must be from 0"),
        (
            {"data": {"row_length": 512, "max_length": 1024}},
            "config.data.row_length 512 is less than config.data.max_length 1024",
        ),
        (
            {"model": {"path": "nowhere/at/all"}},
            "config.model.path: nowhere/at/all is no directory",
        ),
        ({"model": {"path": "nowhere.gguf"}}, "config.model.path: no file nowhere.gguf"),
        ({"model": {"path": __file__}}, "config.model.path: .*test_validate.py is a file; give th"),
        ({"model": {"path": ""}}, "config.model.path: an empty text is no directory"),
        ({"run_dir": ""}, "config.run_dir is empty"),
        ({"model": {"path": "scratch"}, "data": {"template": "chat"}}, "has no chat tokens"),
        ({"model": {"path": "scratch", "scratch_embed_dim": 12}}, "scratch_embed_dim 12 must be"),
        (
            {"model": {"adapter": "nowhere"}, "lora": {"rank": 2}},
            "config.model.adapter: no directory",
        ),
        ({"model": {"adapter": "."}}, "config.model.adapter is read with config.lora.rank"),
        ({"lora": {"rank": 2, "targets": "("}}, "config.lora.targets"),
        ({"run_dir": "runs/a[1]"}, r"path with \[ or \] could not be read back"),
        ({"mae": {"extra_rules": ("no category",)}}, "extra_rules"),
        (
            {"ppo": {"advantage": "grpo", "samples_per_prompt": 1}},
            "samples_per_prompt to 2 or more",
        ),
        ({"ppo": {"dual_clip": 0.5}}, "config.ppo.dual_clip must be 0 or above 1"),
        ({"environment": {"path": "nowhere.py"}}, "config.environment.path: no file nowhere.py"),
        ({"reward": {"path": "nowhere.py:f"}}, "config.reward.path: no file nowhere.py"),
        ({"evaluate": {"suites": ("nowhere.py",)}}, "config.evaluate.suites: no file nowhere.py"),
        ({"evaluate": {"suites": ("synthetic/sen",)}}, "did you mean 'synthetic/seen'"),
    ],
)
def test_settings_that_cannot_be_are_refused(sections, told):
    with pytest.raises(ConfigError, match=told):
        validate(changed(**sections))


def test_an_importer_that_is_not_there_is_refused(tmp_path):
    (tmp_path / "rows.jsonl").write_text("{}")
    data = {"path": str(tmp_path / "rows.jsonl"), "importer": "nowhere.py"}
    with pytest.raises(ConfigError, match="config.data.importer: no file nowhere.py"):
        check_inputs(changed(data=data))


def test_the_defaults_pass_with_model_and_mesh():
    model = dataclasses.replace(MODEL, max_position=4096)
    validate(RunConfig(), model, make_mesh(RunConfig().mesh, jax.devices()[:1]))


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"data": {"batch_size": 7}}, "config.data.batch_size 7 is not divisible by 8 mesh"),
        ({"ppo": {"prompts_per_step": 3}}, "= 6 rows is not divisible by 8 mesh rows"),
        ({"model": {"attention": "cudnn"}}, "config.model"),
    ],
)
def test_rows_and_kernels_must_fit_the_mesh(sections, told):
    config = changed(**sections)
    model = dataclasses.replace(MODEL, max_position=4096, attention=config.model.attention)
    with pytest.raises(ConfigError, match=told):
        validate(config, model, make_mesh(config.mesh, jax.devices()[:8]))


def test_a_phase_without_steps_is_not_checked():
    long = {"warmup_steps": 500}
    validate(changed(optim=long, train={"steps": 0}))
    validate(changed(ppo_optim={**long, "schedule": "cosine"}, ppo={"steps": 0}))


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"data": {"path": "nowhere.jsonl"}}, "config.data.path: no file nowhere.jsonl"),
        ({"data": {"sources": ("no.jsonl",)}}, "config.data.sources: no file no.jsonl"),
        ({"data": {"tools_path": "no.json"}}, "config.data.tools_path: no file no.json"),
        ({"data": {"contamination_paths": ("no.json",)}}, "data.contamination_paths"),
        ({"evaluate": {"rotbench_path": "no.json"}}, "evaluate.rotbench_path"),
        ({"data": {"path": ""}}, "config.data.path is empty"),
        ({"data": {"template": "no.jinja"}}, "config.data.template: no file no.jinja"),
    ],
)
def test_files_that_are_not_there_are_refused(sections, told):
    with pytest.raises(ConfigError, match=told):
        check_inputs(changed(**sections))


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"run_dir": "gs://bucket/run"}, "config.run_dir: gs://bucket/run is a place of gs://"),
        ({"model": {"path": "s3://bucket/model"}}, "config.model.path: .*Mount the bucket"),
        ({"model": {"adapter": "S3A+x://b/a"}}, "config.model.adapter"),
        ({"data": {"path": "memory://rows.jsonl"}}, "config.data.path"),
        ({"data": {"sources": ("here.jsonl", "file:///a.jsonl")}}, "config.data.sources"),
        ({"evaluate": {"suites": ("rotbench=gs://b/clean.json",)}}, "config.evaluate.suites"),
        ({"run_dir": "~/runs/x"}, "config.run_dir: ~/runs/x would be a folder called ~; .*HOME"),
        ({"data": {"sources": ("~/a.jsonl@2",)}}, "config.data.sources: ~/a.jsonl"),
        ({"evaluate": {"suites": ("rotbench=~/clean.json",)}}, "config.evaluate.suites"),
    ],
)
def test_places_on_a_network_are_refused_before_a_folder_of_their_name_is_made(
    sections, told, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    run = Run(changed(**sections))
    with pytest.raises(ConfigError, match=told):
        checked(run, prepares=True, computes=False, writes=True).__enter__()
    assert not list(tmp_path.iterdir())
    check_all_local(to_dict(changed(evaluate={"stop_strings": ("http://", "~/")})))


def test_the_door_waits_for_nothing_that_only_training_needs():
    """torch is imported by tensorboardX where both are installed, and takes seconds."""
    program = "import sys, tl_jax.train.validate; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not {"torch", "tensorboardX", "matplotlib"} & set(done.stdout.split())
