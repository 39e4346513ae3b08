"""train: the supervised phase (MAE + PKT), then the reward phase (IRM by PPO).

Supervised training reads <run_dir>/data/examples for config.train.steps steps, or as many as
config.train.epochs passes take; reward training samples calls for <run_dir>/data/prompts.jsonl for
config.ppo.steps rollouts. Zero of them leave a phase out; more of them later go on with it, of the
supervised phase until reward training has begun. With config.environment.path the sampled calls
run, and each sample is a dialogue with the tools of that file. State is saved to
<run_dir>/checkpoints every config.checkpoint.every_steps steps, at the end and on SIGTERM; the same
command resumes. Metrics go to metrics.jsonl and tensorboard/, sampled calls with gold call,
category and reward to samples.jsonl. Where ten steps in a row go badly, a phase goes back to its
newest good checkpoint and on with other data (config.checkpoint.rollbacks; rollbacks/ holds what is
passed over). What a run was trained from (weights, tokenizer, data) is told by inputs.json; where
it has changed, nothing goes on but with --force, which writes the change down.
"""

from __future__ import annotations

from rich.console import Console

from tl_jax.run.directory import Run
from tl_jax.train import ppo, sft
from tl_jax.train.rollback import Rollbacks

FLAGS = {"force": (False, "go on although weights, tokenizer or data are not those of before")}


def main(run: Run, console: Console) -> None:
    """Train every configured phase, each from where it stopped."""
    for attempt in Rollbacks(run, sft.PHASE):
        with attempt:
            sft.train(run)
    for attempt in Rollbacks(run, ppo.PHASE):
        with attempt:
            ppo.train(run)
