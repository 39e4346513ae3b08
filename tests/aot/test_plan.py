"""The plan says what would be done and what it takes, also before there is a model."""

import dataclasses
import json

import jax
import pytest

from tl_jax.aot import plan
from tl_jax.config import (
    DataConfig,
    EvaluateConfig,
    LoraConfig,
    MeshConfig,
    ModelSourceConfig,
    PpoConfig,
    RunConfig,
    TrainConfig,
)
from tl_jax.errors import ConfigError
from tl_jax.parallel.mesh import make_mesh
from tl_jax.run import checkpoint
from tl_jax.run.directory import Run
from tl_jax.run.prepare import known_model

SCRATCH = ModelSourceConfig(
    path="scratch",
    scratch_vocab_size=300,
    scratch_embed_dim=16,
    scratch_num_layers=1,
    scratch_num_heads=2,
    scratch_num_kv_heads=1,
    scratch_mlp_dim=32,
)
COUNT = 300 * 16 + 2 * 16 * 16 + 2 * 16 * 8 + 3 * 16 * 32 + 3 * 16


@pytest.fixture
def workspace(tmp_path):
    config = RunConfig(
        run_dir=str(tmp_path / "[run]"),
        model=SCRATCH,
        data=DataConfig(max_length=64, batch_size=2),
        train=TrainConfig(steps=4),
        ppo=PpoConfig(steps=0),
    )
    return on_one_device(config)


def on_one_device(config):
    workspace = Run(config)
    workspace.__dict__["mesh"] = make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1])
    return workspace


def changed(workspace, **sections):
    return on_one_device(dataclasses.replace(workspace.config, **sections))


def test_a_model_from_scratch_has_parameters_and_memory_before_it_is_made(workspace, console):
    console.width = 300
    plan.show(workspace, "run", console)
    shown = console.file.getvalue()
    assert f"{COUNT:,}" in shown and "state per device" in shown and "[run]" in shown
    assert not workspace.run_dir.exists()


def test_a_run_goes_through_its_stages_in_order(workspace, monkeypatch):
    assert plan.steps(workspace, "run") == {
        "prepare": "to do",
        "evaluate before": "to do",
        "train supervised": "to do",
        "evaluate supervised": "to do",
        "train reward": "left out, 0 steps",
        "convert": f"to {workspace.export_dir}".replace("[", r"\["),
        "report": "to do",
    }
    workspace.data_dir.mkdir(parents=True)
    (workspace.data_dir / "fingerprint.json").write_text(json.dumps({}))
    here = workspace.checkpoint_dir("supervised") / "2"
    monkeypatch.setattr(
        checkpoint, "latest_step_dir", lambda path: here if path == here.parent else None
    )
    found = plan.steps(workspace, "run")
    assert found["prepare"] == "done" and found["train supervised"] == "to do from step 2"
    found = plan.steps(changed(workspace, train=TrainConfig(steps=2)), "train")
    assert found == {"train supervised": "done", "train reward": "left out, 0 steps"}
    no_sets = changed(workspace, evaluate=EvaluateConfig(synthetic_trajectories=0))
    assert plan.steps(no_sets, "run")["evaluate before"] == "left out, no sets"
    assert plan.steps(workspace, "evaluate") == {"evaluate": "with the supervised model"}


def test_half_precision_halves_the_parameters_and_nothing_else_of_the_state(workspace, monkeypatch):
    monkeypatch.setattr(plan, "GIB", 1)

    def state(workspace):
        return plan.memory(workspace, known_model(workspace))["state per device"]

    assert state(workspace) == f"{16 * COUNT:.2f} GiB"
    half = dataclasses.replace(SCRATCH, param_dtype="bfloat16")
    assert state(changed(workspace, model=half)) == f"{14 * COUNT:.2f} GiB"


def test_with_adapters_only_they_have_moments_and_gradients(workspace, monkeypatch):
    monkeypatch.setattr(plan, "GIB", 1)
    half = dataclasses.replace(SCRATCH, param_dtype="bfloat16")
    adapted = changed(workspace, model=half, lora=LoraConfig(rank=2, targets="attn/q|mlp/down"))
    found = plan.memory(adapted, known_model(adapted))
    adapters = 2 * (16 + 16) + 2 * (32 + 16)
    assert found["parameters"] == f"{COUNT + adapters:,}"
    assert found["trained parameters"] == f"{adapters:,}"
    assert found["state per device"] == f"{2 * COUNT + 16 * adapters:.2f} GiB"


@pytest.mark.parametrize(
    ("critic", "rank", "trunk"), [("shared", 0, 0), ("separate", 0, COUNT), ("separate", 2, 64)]
)
def test_reward_training_holds_a_reference_and_the_critic_too(
    workspace, monkeypatch, critic, rank, trunk
):
    monkeypatch.setattr(plan, "GIB", 1)
    ppo = PpoConfig(critic=critic, prompts_per_step=6, minibatches=3, samples_per_prompt=2)
    adapters = LoraConfig(rank=rank, targets="attn/q")
    both = changed(workspace, ppo=ppo, lora=adapters)
    found = plan.memory(both, known_model(both))
    head, trained, frozen = 16 + 1, 64 if rank else COUNT, COUNT if rank else 0
    supervised = 16 * trained + 4 * frozen
    assert found["state per device"] == f"{supervised:.2f} GiB"
    # Two trunks and the reference share what is frozen.
    assert (
        found["state per device, reward"]
        == f"{supervised + 16 * (trunk + head) + 4 * trained:.2f} GiB"
    )
    kept = float(found["activations per device"].split()[0]) / (2 * 64)
    tokens = 4 * (ppo.max_prompt_length + ppo.max_new_tokens) * (2 if trunk else 1)
    assert found["activations per device, reward"] == f"{kept * tokens:.2f} GiB"
    idle = changed(both, ppo=dataclasses.replace(ppo, idle_memory="host"))
    waiting = plan.memory(idle, known_model(idle))["state per device, reward"]
    assert waiting == f"{supervised + 16 * (trunk + head):.2f} GiB"
    joint = changed(both, ppo=dataclasses.replace(ppo, ce_coef=0.5))
    joined = plan.memory(joint, known_model(joint))["activations per device, reward"]
    assert joined == f"{kept * tokens * 6 / 4:.2f} GiB"
    alone = plan.memory(workspace, known_model(workspace))
    assert not [name for name in alone if "reward" in name]


def test_what_cannot_run_is_said_by_the_plan(workspace, model_dir, console):
    long = changed(workspace, model=ModelSourceConfig(path=str(model_dir)))
    long = changed(long, data=DataConfig(max_length=4096))
    with pytest.raises(ConfigError, match="max_length is 4096, but the model's context is 2048"):
        plan.show(long, "train", console)
    odd = changed(workspace, model=dataclasses.replace(SCRATCH, scratch_num_heads=3))
    with pytest.raises(ConfigError, match="scratch_embed_dim 16 must be a multiple of"):
        plan.show(odd, "run", console)
    odd = changed(workspace, model=dataclasses.replace(SCRATCH, scratch_num_kv_heads=3))
    with pytest.raises(ConfigError, match="scratch_num_heads 2 must be a multiple of"):
        plan.show(odd, "run", console)
