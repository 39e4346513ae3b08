"""A signal to one process stops all at one step, and other numbers of processes go on from it."""

import dataclasses
import json
import os
import re
import shutil
import signal

import cluster
import jax
import numpy as np
import pytest
from rich.console import Console

from tl_jax.config import (
    CheckpointConfig,
    DataConfig,
    MeshConfig,
    OptimConfig,
    RunConfig,
    TrainConfig,
)
from tl_jax.config.fields import to_dict
from tl_jax.errors import Stopped
from tl_jax.parallel.mesh import make_mesh
from tl_jax.run import prepare
from tl_jax.run.directory import Run
from tl_jax.train import loop, sft

STEPS = 9
CONFIG = RunConfig(
    model=cluster.MODEL,
    data=DataConfig(
        samples="per_turn",
        batch_size=4,
        max_length=640,
        packing_bins=2,
        streams=2,
        synthetic_trajectories=40,
    ),
    train=TrainConfig(steps=STEPS, log_every=1, eval_batches=0),
    optim=OptimConfig(learning_rate=1e-2, warmup_steps=0),
    checkpoint=CheckpointConfig(every_steps=100),
    mesh=MeshConfig(data=1, fsdp=2, tensor=1),
)
# Arguments beside the settings: before which step (from 1) the second process is told to stop.
PROGRAM = f"""{cluster.BEGIN}
import os, signal, time
import jax
from tl_jax.train import loop, sft
from tl_jax.errors import Stopped

class Interrupted(loop.Loop):
    def __iter__(self):
        for number in super().__iter__():
            if number + 1 == int(sys.argv[2]) and jax.process_index() == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            if number + 1 >= int(sys.argv[2]):
                time.sleep(1)  # the service looks for signals once in a second
            yield number

sft.Loop = Interrupted
try:
    sft.train(workspace)
except Stopped as stopped:
    print(stopped)
"""


def open_run(run_dir, mesh):
    """Return the workspace of a run on two devices of this process."""
    workspace = Run(dataclasses.replace(CONFIG, run_dir=str(run_dir), mesh=mesh))
    workspace.__dict__["mesh"] = make_mesh(mesh, jax.devices()[:2])
    return workspace


def train_together(run_dir, stop_at):
    """Train on two processes with one device each and return what they print."""
    settings = to_dict(dataclasses.replace(CONFIG, run_dir=str(run_dir)))
    running = cluster.start(PROGRAM, 2, json.dumps(settings), str(stop_at))
    return ["".join(output.splitlines()[-1:]) for output in cluster.finish(running)]


def train_alone(run_dir, mesh, stop_at, monkeypatch):
    """Train in this process, told to stop while a step is under way."""

    class Interrupted(loop.Loop):
        def __iter__(self):
            for number in super().__iter__():
                if number + 1 == stop_at:
                    os.kill(os.getpid(), signal.SIGTERM)
                yield number

    with monkeypatch.context() as patch, pytest.raises(Stopped, match=f"step {stop_at} of {STEPS}"):
        patch.setattr(sft, "Loop", Interrupted)
        sft.train(open_run(run_dir, mesh))


def losses(run_dir):
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    return [row["loss"] for row in rows]


def final_params(run_dir):
    workspace = open_run(run_dir, CONFIG.mesh)
    assert workspace.saved_step("supervised") == STEPS
    return [np.asarray(leaf) for leaf in jax.tree.leaves(workspace.trained("supervised"))]


@pytest.mark.slow
def test_a_run_that_changes_hands_ends_like_one_that_ran_through(tmp_path, monkeypatch):
    through, changing = tmp_path / "through", tmp_path / "changing"
    workspace = open_run(through, CONFIG.mesh)
    prepare.make_model(workspace, Console(quiet=True))
    prepare.prepare(workspace)
    shutil.copytree(through, changing)

    told = train_together(changing, stop_at=2)
    assert told[0] == told[1]
    found = re.match(rf"stopped at supervised step (\d) of {STEPS}; the state is saved", told[0])
    assert found and 2 <= int(found[1]) <= 6
    saved = changing / "checkpoints" / "supervised"
    assert [p.name for p in saved.iterdir() if p.name.isdigit()] == [found[1]]
    positions = {path.name for path in (saved / found[1] / "data").iterdir()}
    assert {"stream_0-of-2.json", "stream_1-of-2.json"} <= positions

    train_alone(changing, MeshConfig(data=2, fsdp=1, tensor=1), 8, monkeypatch)
    train_together(changing, stop_at=STEPS + 1)

    sft.train(workspace)
    assert losses(changing) == pytest.approx(losses(through), rel=1e-4)
    assert len(set(losses(through))) == STEPS
    for ours, theirs in zip(final_params(changing), final_params(through), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-4)
