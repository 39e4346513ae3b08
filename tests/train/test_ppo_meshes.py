"""The reward phase on a mesh of 2 x 2 x 2 devices, with and without adapters, is that of one."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest

from tl_jax.calls.call import ToolCall
from tl_jax.config import (
    LoraConfig,
    MeshConfig,
    ModelConfig,
    ModelSourceConfig,
    OptimConfig,
    PpoConfig,
    RunConfig,
)
from tl_jax.convert import names, to_hf
from tl_jax.data.examples.build import Prompt
from tl_jax.data.examples.jsonl import prompt_lines
from tl_jax.data.prepare.files import FINGERPRINT, PROMPTS
from tl_jax.data.tokenize.tokenizer import train_byte_bpe
from tl_jax.models import critic, functional, lora
from tl_jax.parallel import memory
from tl_jax.parallel.mesh import make_mesh
from tl_jax.run import checkpoint
from tl_jax.run.directory import Run
from tl_jax.train import ppo as ppo_lib

MODEL = ModelConfig(
    vocab_size=264, embed_dim=32, num_layers=1, num_heads=4, num_kv_heads=2, head_dim=8, mlp_dim=64
)
ROLLOUTS, EPOCHS, ROWS = 2, 2, 8
PPO = PpoConfig(
    steps=ROLLOUTS,
    prompts_per_step=4,
    samples_per_prompt=2,
    max_prompt_length=64,
    max_new_tokens=12,
    kl_target=0.01,
    gae_lambda=0.9,
    epochs=EPOCHS,
    critic_warmup_steps=0,
)
# Adam divides by what may be rounding alone; this eps keeps such gradients small.
OPTIM = OptimConfig(
    learning_rate=1e-2, warmup_steps=0, schedule="constant", eps=1e-3, weight_decay=0.0
)
LORA = LoraConfig(rank=4, alpha=8.0)
WHOLE, ADAPTERS = "whole", "adapters"


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    """A random model whose replies end now and then."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = train_byte_bpe(["find a train to Rome"] * 9, 264, folder / "tokenizer")
    params = functional.init(MODEL, jax.random.key(0))
    kernel = params["lm_head"]["kernel"]
    params["lm_head"]["kernel"] = kernel.at[:, tokenizer.eos_id].multiply(5)
    to_hf.save(
        params,
        folder / "hf",
        config=MODEL,
        source=folder / "tokenizer",
        generation={"eos_token_id": tokenizer.eos_id},
    )
    return folder / "hf"


def prompts():
    """A reply in words is right, so that the reward asks for an end; or a call is."""
    rng = np.random.default_rng(0)
    for number in range(4 * ROLLOUTS):
        ids = rng.integers(8, 264, 4 + 3 * number).tolist()
        golds = () if number % 4 else (ToolCall("f"),)
        yield Prompt(f"prompt {number}", ids, "", (), golds, {})


@dataclasses.dataclass(frozen=True)
class RewardRun:
    """What a run of the reward phase left.

    Attributes:
      updates: The step metrics of every update.
      start: What is trained, before.
      trained: The same with the value head, after.
      loaded, frozen: What is not trained, as it was loaded and after the run.
    """

    run_dir: object
    updates: list
    start: dict
    trained: dict
    loaded: dict
    frozen: dict

    def rows(self, name):
        lines = (self.run_dir / name).read_text(encoding="utf-8").splitlines()
        clock = re.compile("time_s|.*tokens_per_s|seconds/.*|goodput|host_.*")
        return [
            {k: v for k, v in json.loads(line).items() if not clock.fullmatch(k)} for line in lines
        ]


def run_phase(run_dir, model_dir, mesh, adapters, ppo=PPO):
    config = RunConfig(
        run_dir=str(run_dir),
        model=ModelSourceConfig(path=str(model_dir)),
        lora=adapters,
        mesh=mesh,
        ppo=ppo,
        ppo_optim=OPTIM,
    )
    workspace = Run(config)
    sizes = (mesh.data, mesh.fsdp, mesh.tensor)
    workspace.__dict__["mesh"] = make_mesh(mesh, jax.devices()[: int(np.prod(sizes))])
    workspace.data_dir.mkdir(parents=True)
    (workspace.data_dir / PROMPTS).write_text("".join(prompt_lines(prompts())))
    updates, frozen = [], []

    def summary(values, summarised=ppo_lib.summary):
        updates.extend(dataclasses.asdict(jax.device_get(value)) for value in values)
        return summarised(values)

    def load(workspace, loaded=Run.frozen):
        frozen.append(loaded(workspace))
        return frozen[-1]

    (workspace.data_dir / FINGERPRINT).write_text("{}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ppo_lib, "summary", summary)
        patch.setattr(Run, "frozen", load)
        ppo_lib.train(workspace)
    declared = critic.abstract_params(workspace.model, separate=False)
    trained = checkpoint.restore_params(
        checkpoint.latest_step_dir(workspace.checkpoint_dir("reward")),
        workspace.placed(lora.split(declared, adapters)[0]),
    )
    start, loaded = workspace.trained("before"), workspace.frozen()
    return RewardRun(run_dir, updates, *map(jax.device_get, (start, trained, loaded, frozen[0])))


@pytest.fixture(scope="module")
def runs(tmp_path_factory, model_dir):
    """The same phase by what is trained and the number of devices."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        (what, int(np.prod(sizes))): run_phase(
            folder / f"{what}{sizes}", model_dir, MeshConfig(*sizes), adapters
        )
        for what, adapters in ((WHOLE, LoraConfig()), (ADAPTERS, LORA))
        for sizes in ((1, 1, 1), (2, 2, 2))
    }


def assert_rows(ours, theirs, **tolerance):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        numbers = {name: value for name, value in one.items() if isinstance(value, float)}
        wanted = {name: other[name] for name in numbers}
        assert numbers == pytest.approx(wanted, **tolerance)
        rest = [{k: v for k, v in row.items() if k not in numbers} for row in (one, other)]
        assert rest[0] == rest[1]


@pytest.mark.parametrize("what", [WHOLE, ADAPTERS])
def test_a_mesh_samples_the_same_replies_and_gives_them_the_same_rewards(runs, what):
    alone, spread = (runs[what, count].rows("samples.jsonl") for count in (1, 8))
    assert len(alone) == ROLLOUTS * ROWS
    for step in range(ROLLOUTS):
        found = {row["reward"] for row in alone if row["step"] == step + 1}
        assert len(found) > 1, "equal rewards would teach nothing"
    assert len({row["sampled"] for row in alone}) > ROWS
    assert_rows(spread, alone, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("what", [WHOLE, ADAPTERS])
def test_a_mesh_sees_the_same_losses_at_every_update(runs, what):
    alone, spread = runs[what, 1], runs[what, 8]
    assert len(alone.updates) == ROLLOUTS * EPOCHS
    assert len({float(update["loss"]) for update in alone.updates}) == ROLLOUTS * EPOCHS
    for ours, theirs in zip(spread.updates, alone.updates, strict=True):
        for name, value in theirs.items():
            np.testing.assert_allclose(ours[name], value, rtol=1e-3, atol=2e-5, err_msg=name)
    # The second rollout is scored by a policy that has moved.
    assert alone.rows("metrics.jsonl")[1]["kl_k3"] > 1e-4
    rows = (run.rows("metrics.jsonl") for run in (spread, alone))
    assert_rows(*rows, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("what", [WHOLE, ADAPTERS])
def test_a_mesh_ends_with_the_same_parameters(runs, what):
    alone, spread = runs[what, 1], runs[what, 8]
    before = dict(names.flatten(alone.start))
    for (path, ours), (_, theirs) in zip(
        names.flatten(spread.trained), names.flatten(alone.trained), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=2e-5, err_msg=str(path))
        # What moved by less than the tolerance would not show a difference.
        moved = np.abs(theirs - before.get(path, 0.0)).max()
        assert moved > 1e-3, path


@pytest.mark.parametrize("devices", [1, 8])
def test_adapters_leave_the_model_under_them_as_it_was(runs, devices):
    run = runs[ADAPTERS, devices]
    frozen = dict(names.flatten(run.frozen))
    assert frozen.keys() == dict(names.flatten(runs[WHOLE, devices].start)).keys()
    for path, leaf in names.flatten(run.loaded):
        np.testing.assert_array_equal(frozen[path], leaf, err_msg=str(path))
    assert {path[-1] for path, _ in names.flatten(run.start)} == {lora.A, lora.B}
    assert not runs[WHOLE, devices].frozen


@pytest.mark.parametrize("devices", [1, 8])
def test_new_adapters_see_the_first_rollout_as_the_whole_model_does(runs, devices):
    """New adapters add nothing, so replies, advantages and the first losses are the model's."""
    whole, adapters = (runs[what, devices] for what in (WHOLE, ADAPTERS))
    first = [run.rows("samples.jsonl")[:ROWS] for run in (adapters, whole)]
    assert_rows(*first, rel=1e-3, abs=1e-4)
    for name, value in whole.updates[0].items():
        if name == "grad_norm":  # of fewer parameters
            assert 0 < adapters.updates[0][name] != value
        else:
            ours = adapters.updates[0][name]
            np.testing.assert_allclose(ours, value, rtol=1e-4, atol=1e-5, err_msg=name)
    # From then on they are two models.
    assert abs(adapters.updates[-1]["loss"] - whole.updates[-1]["loss"]) > 1e-3


def test_what_waits_in_the_memory_of_the_host_changes_no_number(runs, tmp_path, model_dir):
    here = runs[WHOLE, 8]
    offloaded = []

    def record(tree, offload=memory.offloaded):
        offloaded.append(tree)
        return offload(tree)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "offloaded", record)
        ppo = dataclasses.replace(PPO, idle_memory="host")
        there = run_phase(tmp_path, model_dir, MeshConfig(2, 2, 2), LoraConfig(), ppo)
    assert len(offloaded) == ROLLOUTS
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(offloaded))
    for name in ("samples.jsonl", "metrics.jsonl"):
        assert there.rows(name) == here.rows(name)
    for ours, theirs in zip(there.updates, here.updates, strict=True):
        assert ours == theirs
    for (path, ours), (_, theirs) in zip(
        names.flatten(there.trained), names.flatten(here.trained), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs, err_msg=str(path))
