"""From a command to what it is about there are few functions to walk through."""

import dataclasses
import json
import shutil
import traceback
from pathlib import Path

import jax
import pytest
from rich.console import Console

import tl_jax
from tl_jax.cli import main as main_lib
from tl_jax.config import (
    CheckpointConfig,
    DataConfig,
    MeshConfig,
    ModelSourceConfig,
    OptimConfig,
    PpoConfig,
    RunConfig,
    TrainConfig,
)
from tl_jax.config.fields import to_dict
from tl_jax.parallel.mesh import make_mesh
from tl_jax.rewards import rules
from tl_jax.rl import scoring
from tl_jax.run import prepare
from tl_jax.run.checkpoint import Checkpoints
from tl_jax.run.directory import Run
from tl_jax.train import step as step_lib

pytestmark = pytest.mark.filterwarnings("ignore:Sharding info not provided")

LOSS, REWARD, SAVE = 8, 11, 6
"""Most functions of the package on the way from the script ``tl-jax``, both ends included."""

PACKAGE = Path(tl_jax.__file__).parent
CONFIG = RunConfig(
    model=ModelSourceConfig(
        path="scratch",
        scratch_vocab_size=300,
        scratch_embed_dim=16,
        scratch_num_layers=1,
        scratch_num_heads=2,
        scratch_num_kv_heads=1,
        scratch_mlp_dim=32,
    ),
    data=DataConfig(batch_size=2, max_length=640, packing_bins=4, synthetic_trajectories=40),
    train=TrainConfig(steps=1, eval_batches=0),
    optim=OptimConfig(warmup_steps=0),
    ppo=PpoConfig(
        steps=1,
        prompts_per_step=1,
        samples_per_prompt=2,
        max_prompt_length=640,
        max_new_tokens=48,
        critic_warmup_steps=0,
    ),
    ppo_optim=OptimConfig(schedule="constant", warmup_steps=0),
    checkpoint=CheckpointConfig(every_steps=1),
)
NO_SUPERVISED = dataclasses.replace(CONFIG, train=TrainConfig(steps=0))


class Reached(Exception):
    """Raised at the end of the walk."""


def arrive(*_, **__):
    raise Reached


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A run directory with model and data."""
    run = open_run(tmp_path_factory.mktemp("prepared") / "run", CONFIG)
    prepare.make_model(run, Console(quiet=True))
    prepare.prepare(run)
    return run.run_dir


def open_run(run_dir, config):
    run = Run(dataclasses.replace(config, run_dir=str(run_dir)))
    run.__dict__["mesh"] = make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1])
    return run


@pytest.fixture
def walk(prepared, tmp_path, monkeypatch):
    """Return what walks to a function that raises, and gives the names of those on the way."""

    def walk(config, owner, name):
        monkeypatch.setattr(owner, name, arrive)
        one_device = make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1])
        monkeypatch.setattr("tl_jax.run.directory.make_mesh", lambda config: one_device)
        run_dir = shutil.copytree(prepared, tmp_path / "run")
        (run_dir / "config.json").write_text(json.dumps(to_dict(config)))
        with pytest.raises(Reached) as caught:
            main_lib.main(["train", f"--run={run_dir}"], Console(quiet=True))
        frames = traceback.extract_tb(caught.value.__traceback__)
        found = [
            f"{Path(frame.filename).relative_to(PACKAGE)}:{frame.name}"
            for frame in frames
            if Path(frame.filename).is_relative_to(PACKAGE)
        ]
        assert found[:2] == ["cli/main.py:main", "cli/train.py:main"]
        return ["cli/main.py:run", *found, name]  # run() would make an exit status of the exception

    return walk


def test_the_supervised_loss_is_near_the_command(walk):
    way = walk(CONFIG, step_lib, "token_logprobs")
    assert len(way) <= LOSS, way


def test_a_reward_is_near_the_command(walk, monkeypatch):
    # A model that knows nothing writes no call that could be judged.
    monkeypatch.setattr(scoring, "reply_text", lambda *_: " call(x = 1)")
    way = walk(NO_SUPERVISED, rules.strict, "judge")
    assert way[-2].startswith("rewards/")
    assert len(way) <= REWARD, way


@pytest.mark.parametrize("config", [CONFIG, NO_SUPERVISED], ids=["supervised", "reward"])
def test_a_save_is_near_the_command(walk, config):
    way = walk(config, Checkpoints, "save")
    assert len(way) <= SAVE, way
