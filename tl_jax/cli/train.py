"""train: the supervised phase (MAE + PKT), then the reward phase (IRM by PPO).

Supervised training reads <run_dir>/data/examples.jsonl for config.train.steps steps; reward
training samples calls for <run_dir>/data/prompts.jsonl for config.ppo.steps rollouts. Zero steps
leave a phase out. With config.environment.path the sampled calls run, and each sample is a dialogue
with the tools of that file. State is saved to <run_dir>/checkpoints every
config.checkpoint.every_steps steps, at the end and on SIGTERM; the same command resumes. Metrics go
to metrics.jsonl and tensorboard/, sampled calls with gold call, category and reward to
samples.jsonl.
"""

from __future__ import annotations

import jax
from rich.console import Console

from tl_jax.cli import reward, supervised
from tl_jax.cli.workspace import Workspace
from tl_jax.data.prepared_files import FINGERPRINT
from tl_jax.parallel import processes
from tl_jax.settings import ConfigError
from tl_jax.train.metrics import MetricsWriter

STAGES = {"supervised": supervised.train, "reward": reward.train}


def main(workspace: Workspace, console: Console) -> None:
    """Train every configured phase, each from where it stopped."""
    for phase in STAGES:
        train_phase(workspace, phase)


def steps_of(workspace: Workspace, phase: str) -> int:
    """Return the configured steps of a phase; 0 leaves it out."""
    config = workspace.config
    return config.train.steps if phase == "supervised" else config.ppo.steps


def train_phase(workspace: Workspace, phase: str) -> None:
    """Run what is left of one phase.

    Raises:
      ConfigError: The data have not been prepared.
    """
    if not steps_of(workspace, phase) or workspace.phase_done(phase):
        return
    if not (workspace.data_dir / FINGERPRINT).exists():
        raise ConfigError(
            f"{workspace.data_dir} is not prepared; run `tl-jax prepare` with this configuration"
        )
    with MetricsWriter(workspace.run_dir) as metrics, jax.set_mesh(workspace.mesh):
        STAGES[phase](workspace, metrics)
    # What comes next reads the checkpoint that the first process has finished.
    processes.wait_for_all(phase)
