"""A tiny training in a process of its own, forked from one that has imported everything.

To import takes longer than to train, and nothing of interest can be killed meanwhile.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import hashlib
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import tensorboardX  # noqa: F401  # what training imports late
import transformers  # noqa: F401
from rich.console import Console

from tl_jax.config import (
    CheckpointConfig,
    DataConfig,
    ModelSourceConfig,
    OptimConfig,
    PpoConfig,
    RunConfig,
    TrainConfig,
)
from tl_jax.parallel import processes
from tl_jax.parallel.mesh import start_distributed
from tl_jax.run import prepare
from tl_jax.run.directory import Run
from tl_jax.train import sft
from tl_jax.train.validate import checked

STEPS = 8
DIGEST = "trained.sha256"
"""File in the run directory that a finished training leaves."""
_STACKS_S = 2.0


@dataclasses.dataclass(frozen=True)
class Training:
    """A training that was started.

    Attributes:
      process: It.
      said: File with what it wrote to its standard error.
    """

    process: Any
    said: Path

    def running(self) -> bool:
        """Return whether it has not ended."""
        return self.process.is_alive()

    def kill(self) -> None:
        """End it at once, as a machine that fails does."""
        self.process.kill()
        self.process.join()

    def end(self, seconds: float) -> bool:
        """Wait so long for its end, and return whether it has ended."""
        self.process.join(seconds)
        return not self.process.is_alive()

    def status(self) -> int:
        """Return the exit status of what has ended; negative if a signal ended it."""
        return self.process.exitcode

    def stop(self) -> str:
        """End it if it runs, and return the end of what it said and where it stood."""
        if self.running():
            os.kill(self.process.pid, signal.SIGUSR1)
            self.end(_STACKS_S)
        self.kill()
        text = self.said.read_text(errors="replace") if self.said.exists() else ""
        return f"status {self.status()}\n{text[-4000:]}"


def start(
    run: Path, compiled: Path, variables: Mapping[str, str] | None = None, name: str = ""
) -> Training:
    """Start to train what is left of a run.

    Args:
      run: Its directory.
      compiled: Directory of the programs that all trainings share.
      variables: Of the environment, beside those of this process.
      name: Tells apart processes of one run.
    """
    context = multiprocessing.get_context("forkserver")
    # The parent of all trainings finds what this process finds.
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    context.set_forkserver_preload(["__main__", __name__])
    said = run.with_name(f"{run.name}{name}.stderr")
    arguments = (str(run), str(compiled), dict(variables or {}), str(said))
    process = context.Process(target=_train, args=arguments, daemon=True)
    process.start()
    return Training(process, said)


def _train(folder: str, compiled: str, variables: dict[str, str], said: str) -> None:
    """Prepare and train what is left, and end the process."""
    with open(said, "wb") as errors, open(os.devnull, "wb") as nowhere:
        os.dup2(errors.fileno(), 2)
        os.dup2(nowhere.fileno(), 1)
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    os.environ.update(variables)
    # Quick to compile, and without the virtual devices of tests.
    os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_compilation_cache_dir", compiled)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    try:
        start_distributed()
        run = Run(config(folder))
        with checked(run, prepares=True, computes=False, writes=True):
            prepare.make_model(run, Console(quiet=True))
            prepare.prepare(run)
        with checked(run, prepares=False, computes=True, writes=True):
            sft.train(run)
        told = hashlib.sha256()
        for leaf in jax.tree.leaves(run.trained("supervised")):
            told.update(processes.gather(leaf).tobytes())
        Path(folder, DIGEST).write_text(told.hexdigest())
        if jax.distributed.is_initialized():
            jax.distributed.shutdown()  # what a program does when it ends, but not a fork of one
    except Exception as error:
        traceback.print_exception(error)
        processes.leave(1)


def config(folder: str) -> RunConfig:
    """Return the settings of a run in a directory."""
    return RunConfig(
        run_dir=folder,
        model=ModelSourceConfig(
            path="scratch",
            scratch_vocab_size=300,
            scratch_embed_dim=16,
            scratch_num_layers=1,
            scratch_num_heads=2,
            scratch_num_kv_heads=1,
            scratch_mlp_dim=32,
        ),
        data=DataConfig(synthetic_trajectories=8, max_length=2048, batch_size=4, workers=1),
        train=TrainConfig(steps=STEPS, eval_batches=0, log_every=1),
        optim=OptimConfig(warmup_steps=1),
        ppo=PpoConfig(steps=0),
        checkpoint=CheckpointConfig(every_steps=2, keep=3),
    )
