"""Reward training and evaluation on two processes give what one process gives."""

import dataclasses
import json
import re
import shutil

import cluster
import jax
import pytest
from rich.console import Console

from tl_jax.config import (
    CheckpointConfig,
    DataConfig,
    EvaluateConfig,
    MeshConfig,
    OptimConfig,
    PpoConfig,
    RunConfig,
)
from tl_jax.config.fields import to_dict
from tl_jax.evaluate import run as evaluate
from tl_jax.parallel.mesh import make_mesh
from tl_jax.run import prepare
from tl_jax.run.directory import Run
from tl_jax.train import ppo

STEPS, ROWS = 2, 4
CONFIG = RunConfig(
    model=cluster.MODEL,
    data=DataConfig(
        samples="per_turn",
        batch_size=2,
        max_length=640,
        packing_bins=4,
        synthetic_trajectories=40,
    ),
    # With gold trajectories beside the rollouts, and a price that follows the divergence.
    ppo=PpoConfig(
        steps=STEPS,
        prompts_per_step=2,
        samples_per_prompt=2,
        max_prompt_length=640,
        max_new_tokens=48,
        kl_target=0.01,
        # All samples of so small a model are wrong: only the place of a token sets them apart.
        gae_lambda=0.9,
        critic_warmup_steps=0,
        ce_coef=0.5,
    ),
    ppo_optim=OptimConfig(learning_rate=1e-2, schedule="constant", warmup_steps=0),
    evaluate=EvaluateConfig(
        synthetic_trajectories=2, max_tasks=3, batch_size=2, max_new_tokens=8, max_prompt_length=640
    ),
    checkpoint=CheckpointConfig(every_steps=10),
    mesh=MeshConfig(data=1, fsdp=2, tensor=1),
)

pytestmark = pytest.mark.slow  # several processes, a minute and more

PROGRAM = f"""{cluster.BEGIN}
from tl_jax.evaluate import run as evaluate
from tl_jax.train import ppo
ppo.train(workspace)
result = evaluate.evaluate_phase(workspace, "reward")
print("items", {{name: found["items"] for name, found in result["sets"].items()}})
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Directories of the same run on one process with two devices, and on two with one each."""
    folder = tmp_path_factory.mktemp("runs")
    alone, together = (
        dataclasses.replace(CONFIG, run_dir=str(folder / name)) for name in ("alone", "together")
    )
    workspace = Run(alone)
    workspace.__dict__["mesh"] = make_mesh(alone.mesh, jax.devices()[:2])
    prepare.make_model(workspace, Console(quiet=True))
    prepare.prepare(workspace)
    shutil.copytree(folder / "alone", folder / "together")
    running = cluster.start(PROGRAM, 2, json.dumps(to_dict(together)))
    try:
        ppo.train(workspace)
        evaluate.evaluate_phase(workspace, "reward")
    finally:
        printed = cluster.finish(running)
    assert printed[0].splitlines()[-1] == printed[1].splitlines()[-1] != "items {}"
    return folder / "alone", folder / "together"


def rows(run_dir, name):
    lines = (run_dir / name).read_text(encoding="utf-8").splitlines()
    clock = re.compile("time_s|.*tokens_per_s|seconds/.*|goodput|host_.*")
    return [{k: v for k, v in json.loads(line).items() if not clock.fullmatch(k)} for line in lines]


def test_metrics_are_those_of_the_global_batch(runs):
    alone, together = (rows(run_dir, "metrics.jsonl") for run_dir in runs)
    assert [row["step"] for row in together] == list(range(1, STEPS + 1))
    assert len({row["loss"] for row in together}) == STEPS
    for ours, theirs in zip(together, alone, strict=True):
        assert ours.pop("stage") == theirs.pop("stage")
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)


def test_samples_of_all_prompts_are_written_once_in_order(runs):
    alone, together = (rows(run_dir, "samples.jsonl") for run_dir in runs)
    assert len(together) == STEPS * ROWS and len({row["sampled"] for row in together}) > ROWS
    for ours, theirs in zip(together, alone, strict=True):
        assert ours.pop("advantage") == pytest.approx(theirs.pop("advantage"), abs=1e-3)
        assert ours == theirs


def test_replies_and_scores_are_written_once_and_the_same(runs):
    suites = [f"results/reward/synthetic-{split}" for split in ("seen", "reworded", "unseen")]
    alone, together = (
        [row for suite in suites for row in rows(run_dir, f"{suite}.replies.jsonl")]
        for run_dir in runs
    )
    assert together == alone
    (ours, theirs) = (
        {
            name: found
            for suite in suites
            for name, found in json.loads((run_dir / f"{suite}.json").read_text())["sets"].items()
        }
        for run_dir in runs
    )
    assert len(together) == sum(found["items"] for found in theirs.values()) > 0
    clock = ("seconds", "tokens_per_s")
    for name, found in theirs.items():
        assert {k: v for k, v in ours[name].items() if k not in clock} == {
            k: v for k, v in found.items() if k not in clock
        }
    names = [{path.name for path in (run_dir / "results").rglob("*.json*")} for run_dir in runs]
    assert names[0] == names[1]
