"""run: everything in order: prepare, evaluate, train, evaluate, reward, evaluate, export, report.

What is already done in config.run_dir is not done again, so the same command resumes after a stop;
with other config.evaluate settings the models are only evaluated anew (rotbench_path stays: the
training data were checked against it). Scores and export are made
anew if they are of an older step than the model.
"""

from __future__ import annotations

from rich.console import Console

from tl_jax.cli import evaluate, prepare, report
from tl_jax.evaluate import run as scoring
from tl_jax.parallel import processes
from tl_jax.publish.export import export_newest
from tl_jax.run.directory import PHASES, Run
from tl_jax.train import ppo, sft

TRAIN = {"supervised": sft.train, "reward": ppo.train}
"""What trains each phase."""

FLAGS = {"force": (False, "go on although weights, tokenizer or data are not those of before")}


def main(run: Run, console: Console) -> None:
    """Do everything that is not done yet, all processes together."""
    prepare.main(run, console)
    scored = scoring.has_sets(run)
    if not scored and processes.is_first():
        console.print(
            "evaluation is left out: neither config.evaluate.synthetic_trajectories nor "
            "config.evaluate.rotbench_path is set"
        )
    for phase in PHASES:
        if phase in TRAIN:
            if not run.steps(phase):
                continue
            TRAIN[phase](run)
        if scored and not scoring.is_current(run, phase):
            scoring.evaluate_phase(run, phase)
    export_newest(run, console)
    if scored and processes.is_first():
        evaluate.show(run, console)
    report.main(run, console)
    if processes.is_first():
        console.print(f"model:  {run.export_dir}", markup=False)
