"""Reward training takes out of a model the faults of the embedded world that it was taught."""

import dataclasses
import json

import jax
import pytest
from rich.console import Console

from tl_jax.cli import train as train_stage
from tl_jax.config import (
    DataConfig,
    KeyTokenConfig,
    MeshConfig,
    ModelSourceConfig,
    OptimConfig,
    PpoConfig,
    RunConfig,
    TrainConfig,
)
from tl_jax.data.examples.build import build_examples, build_prompts
from tl_jax.data.examples.jsonl import prompt_lines
from tl_jax.data.examples.shards import write_examples
from tl_jax.data.mae.labels import label_turns
from tl_jax.data.prepare.files import EXAMPLES, FINGERPRINT, PROMPTS
from tl_jax.data.render.renderer import open_renderer
from tl_jax.data.synthetic import trajectories
from tl_jax.data.synthetic.faults import FAULTS
from tl_jax.data.synthetic.world import ASK
from tl_jax.parallel.mesh import make_mesh
from tl_jax.rewards import taxonomy
from tl_jax.run.directory import Run
from tl_jax.run.metrics import SAMPLES_FILE

TAUGHT = {
    "unknown_tool": taxonomy.TOOL_HALLUCINATION,
    "unexpected_keyword": taxonomy.PARAMETER_HALLUCINATION,
    "missing_argument": taxonomy.PARAMETER_MISSING,
}
"""Half of the faults of the world, with what the reward calls them."""

DOMAINS = ("weather",)
MAX_LENGTH = 256
CONFIG = RunConfig(
    model=ModelSourceConfig(remat="none"),
    mesh=MeshConfig(fsdp=1),
    data=DataConfig(max_length=MAX_LENGTH, batch_size=4),
    train=TrainConfig(steps=60, ce_chunk=256),
    optim=OptimConfig(learning_rate=1e-3, warmup_steps=5),
    ppo=PpoConfig(
        steps=8,
        prompts_per_step=12,
        samples_per_prompt=6,
        minibatches=2,
        max_prompt_length=64,
        max_new_tokens=40,
        advantage="rloo",
        kl_coef=0.01,
        value_coef=0.0,
    ),
    ppo_optim=OptimConfig(learning_rate=2e-4, schedule="constant", warmup_steps=0),
)


def dialogues(seed):
    """Dialogues of one service call; where it went wrong at first, with the fault before it."""
    for found in trajectories(6000, seed=seed, split="train"):
        tags, first = found.tags, found.messages[1].calls[0].name
        fits = tags["domain"] in DOMAINS and tags["steps"] == "1" and first != ASK.name
        if fits and tags["fault"] in ("", *TAUGHT):
            yield dataclasses.replace(found, messages=found.messages[: 5 if tags["fault"] else 3])


def write_data(workspace):
    """Write examples of dialogues, every second with a fault, and prompts of others without.

    No fault is masked, and so that texts are short they leave the tools out.
    """
    renderer = open_renderer(DataConfig(samples="per_turn"), workspace.tokenizer)
    found = list(dialogues(workspace.config.seed))
    faulty = [one for one in found if one.tags["fault"]]
    right = [one for one in found if not one.tags["fault"]]
    examples, prompts = [], []
    for one in (*faulty, *right[: len(faulty)]):
        examples += build_examples(
            dataclasses.replace(one, tools=()),
            label_turns(one, "off"),
            renderer,
            key_tokens=KeyTokenConfig(mode="off"),
            max_length=MAX_LENGTH,
        )[0][:1]
    for one in right[len(faulty) :]:
        short = dataclasses.replace(one, tools=())
        labels = label_turns(one, "structured")
        (prompt,), _ = build_prompts(short, labels, renderer, max_length=MAX_LENGTH)
        # The reward knows them.
        prompts.append(dataclasses.replace(prompt, tools=one.tools))
    write_examples(workspace.data_dir / EXAMPLES, examples)
    (workspace.data_dir / PROMPTS).write_text("".join(prompt_lines(prompts)))
    (workspace.data_dir / FINGERPRINT).write_text("{}")


def run(run_dir, config):
    """Teach the faults, train by the reward, and return the categories sampled by each rollout."""
    workspace = Run(dataclasses.replace(config, run_dir=str(run_dir)))
    workspace.__dict__["mesh"] = make_mesh(config.mesh, jax.devices()[:1])
    write_data(workspace)
    train_stage.main(workspace, Console(quiet=True))
    found = [[] for _ in range(config.ppo.steps)]
    seen = set()
    for line in (run_dir / SAMPLES_FILE).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found[row["step"] - 1].append(row["category"])
        seen.add(row["prompt_id"])
    # No rollout asks what an earlier one has learned from.
    assert len(seen) == config.ppo.steps * config.ppo.prompts_per_step
    return found


def share(samples, *categories):
    return sum(map(samples.count, categories)) / len(samples)


@pytest.mark.slow
def test_reward_training_halves_the_faults_that_a_model_was_taught(tmp_path):
    assert len(TAUGHT) == len(FAULTS) // 2
    rollouts = run(tmp_path, CONFIG)
    # The first is sampled before any update.
    before, after = rollouts[0], rollouts[-2] + rollouts[-1]
    assert share(before, *TAUGHT.values()) > 0.25
    assert share(after, *TAUGHT.values()) <= share(before, *TAUGHT.values()) / 2
    # What is no fault any more is right: not a call that nobody can read.
    assert share(after, taxonomy.ALL_RIGHT) > share(before, taxonomy.ALL_RIGHT) + 0.1
