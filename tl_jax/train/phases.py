"""The training phases of a run in order, each from where it stopped."""

from __future__ import annotations

import jax

from tl_jax.data.prepare.files import FINGERPRINT
from tl_jax.errors import ConfigError
from tl_jax.parallel import processes
from tl_jax.run.directory import Run
from tl_jax.run.metrics import MetricsWriter
from tl_jax.train import ppo, sft

STAGES = {"supervised": sft.train, "reward": ppo.train}


def steps_of(run: Run, phase: str) -> int:
    """Return the configured steps of a phase; 0 leaves it out."""
    config = run.config
    return config.train.steps if phase == "supervised" else config.ppo.steps


def train_phase(run: Run, phase: str) -> None:
    """Run what is left of one phase.

    Raises:
      ConfigError: The data have not been prepared.
    """
    if not steps_of(run, phase) or run.phase_done(phase):
        return
    if not (run.data_dir / FINGERPRINT).exists():
        raise ConfigError(
            f"{run.data_dir} is not prepared; run `tl-jax prepare` with this configuration"
        )
    with MetricsWriter(run.run_dir) as metrics, jax.set_mesh(run.mesh):
        STAGES[phase](run, metrics)
    # What comes next reads the checkpoint that the first process has finished.
    processes.wait_for_all(phase)
