"""A stopped and resumed phase ends with the same bits as one that ran through."""

import dataclasses
import json
import os
import re
import shutil
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp
from rich.console import Console

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
from tl_jax.errors import Stopped
from tl_jax.parallel.mesh import make_mesh
from tl_jax.run import checkpoint, prepare
from tl_jax.run.directory import Run
from tl_jax.train import loop, sft
from tl_jax.train import ppo as ppo_lib

pytestmark = pytest.mark.filterwarnings("ignore:Sharding info not provided")

MODULES = {"supervised": sft, "reward": ppo_lib}
STEPS = 5
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
    data=DataConfig(
        samples="per_turn",
        batch_size=2,
        max_length=704,
        packing_bins=4,
        synthetic_trajectories=40,
        validation_fraction=0.1,
    ),
    train=TrainConfig(steps=STEPS, log_every=1, eval_every=2, eval_batches=1),
    optim=OptimConfig(warmup_steps=1),
    # With gold trajectories beside the rollouts, whose position must survive as well.
    ppo=PpoConfig(
        steps=STEPS,
        prompts_per_step=2,
        samples_per_prompt=2,
        max_prompt_length=640,
        max_new_tokens=48,
        kl_target=0.01,
        critic_warmup_steps=0,
        ce_coef=0.5,
    ),
    ppo_optim=OptimConfig(learning_rate=1e-3, schedule="constant", warmup_steps=0),
    checkpoint=CheckpointConfig(every_steps=2, keep=2),
)


def open_run(run_dir, config=CONFIG):
    """Return the workspace of a run directory on one device."""
    workspace = Run(dataclasses.replace(config, run_dir=str(run_dir)))
    workspace.__dict__["mesh"] = make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1])
    return workspace


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A run directory with model and data."""
    workspace = open_run(tmp_path_factory.mktemp("prepared") / "run")
    prepare.make_model(workspace, Console(quiet=True))
    prepare.prepare(workspace)
    return workspace.run_dir


@pytest.fixture(scope="module", params=MODULES)
def whole(request, prepared, tmp_path_factory):
    """The phase and the directory of a run that was not stopped."""
    phase = request.param
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    shutil.copytree(prepared, run_dir)
    MODULES[phase].train(open_run(run_dir))
    return phase, run_dir


def interrupt(monkeypatch, phase, step, act):
    """Make the phase call ``act`` while step ``step`` (from 1) is under way."""

    class Interrupted(loop.Loop):
        def __iter__(self):
            for number in super().__iter__():
                if number + 1 == step:
                    act()
                yield number

    monkeypatch.setattr(MODULES[phase], "Loop", Interrupted)


def final_state(run_dir, phase):
    """Return every saved array of the newest checkpoint by path, and its step."""
    directory = checkpoint.latest_step_dir(run_dir / "checkpoints" / phase)
    state = ocp.load_checkpointables(directory, {"state": None})["state"]
    leaves = jax.tree_util.tree_flatten_with_path(state)[0]
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}, directory.name


def rows(run_dir, name):
    lines = (run_dir / name).read_text(encoding="utf-8").splitlines()
    clock = re.compile("time_s|.*tokens_per_s|seconds/.*|goodput|host_.*")
    return [{k: v for k, v in json.loads(line).items() if not clock.fullmatch(k)} for line in lines]


def assert_same_run(phase, left, right):
    (ours, our_step), (theirs, their_step) = final_state(left, phase), final_state(right, phase)
    assert our_step == their_step == str(STEPS)
    assert ours.keys() == theirs.keys()
    kinds = ("params", "opt_state")
    assert all(any(kind in name for name in ours) for kind in kinds)
    for name, leaf in ours.items():
        assert leaf.dtype == theirs[name].dtype and leaf.tobytes() == theirs[name].tobytes(), name
    metrics = rows(left, "metrics.jsonl")
    assert [row["step"] for row in metrics] == list(range(1, STEPS + 1))
    assert metrics == rows(right, "metrics.jsonl")
    samples = rows(left, "samples.jsonl")
    assert len(samples) == (STEPS * 4 if phase == "reward" else 0)
    assert samples == rows(right, "samples.jsonl")


def test_the_runs_that_are_compared_do_train(whole, prepared):
    phase, run_dir = whole
    state, _ = final_state(run_dir, phase)
    start = dict(from_start(prepared))
    moved = {name for name, leaf in start.items() if np.any(state[f"['params']{name}"] != leaf)}
    assert moved == start.keys()
    metrics = rows(run_dir, "metrics.jsonl")
    assert all(row["skipped"] == 0 and row["ce_loss"] > 0 for row in metrics)
    assert len({row["ce_loss"] for row in metrics}) == STEPS


def from_start(run_dir):
    params = open_run(run_dir).params("before")
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        yield jax.tree_util.keystr(path), np.asarray(leaf)


def test_a_stop_signal_between_checkpoints_changes_nothing(whole, prepared, tmp_path, monkeypatch):
    phase, through = whole
    run_dir = shutil.copytree(prepared, tmp_path / "run")
    with monkeypatch.context() as patch:
        interrupt(patch, phase, 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Stopped, match=f"stopped at {phase} step 3 of {STEPS}"):
            MODULES[phase].train(open_run(run_dir))
    assert final_state(run_dir, phase)[1] == "3"
    MODULES[phase].train(open_run(run_dir))
    assert_same_run(phase, run_dir, through)


def test_steps_lost_in_a_crash_are_done_again_the_same_way(whole, prepared, tmp_path, monkeypatch):
    phase, through = whole
    run_dir = shutil.copytree(prepared, tmp_path / "run")

    def fail():
        raise OSError("power cut")

    with monkeypatch.context() as patch:
        interrupt(patch, phase, 4, fail)
        with pytest.raises(OSError, match="power cut"):
            MODULES[phase].train(open_run(run_dir))
    assert final_state(run_dir, phase)[1] == "2"
    MODULES[phase].train(open_run(run_dir))
    assert_same_run(phase, run_dir, through)


def test_a_damaged_final_step_can_be_made_anew_as_its_message_says(whole, tmp_path):
    phase, through = whole
    run_dir = shutil.copytree(through, tmp_path / "run")
    last = Path(checkpoint.latest_step_dir(run_dir / "checkpoints" / phase))
    array = max((last / "state").rglob("d/*"), key=lambda path: path.stat().st_size)
    array.write_bytes(bytes(reversed(array.read_bytes())))
    workspace = open_run(run_dir)
    told = f"has changed content .*; move {STEPS} out of .*/{phase} and run `tl-jax train` again"
    with pytest.raises(checkpoint.CheckpointError, match=told):
        workspace.trained(phase)
    assert workspace.phase_done(phase)
    shutil.move(last, tmp_path)
    assert workspace.saved_step(phase) == STEPS - 1 and not workspace.phase_done(phase)
    MODULES[phase].train(workspace)
    assert_same_run(phase, run_dir, through)
    workspace.trained(phase)
