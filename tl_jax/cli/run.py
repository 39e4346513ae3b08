"""run: everything in order: prepare, evaluate, train, evaluate, reward, evaluate, export, report.

What is already done in config.run_dir is not done again, so the same command resumes after a stop;
with other config.evaluate settings the models are only evaluated anew (rotbench_path stays: the
training data were checked against it). Scores and export are made
anew if they are of an older step than the model.

With config.ablation.seeds it is every combination of MAE, PKT and IRM with each seed instead (the
configuration `ablation`): four runs a seed, each of which gives the cells with and without IRM, in
<run_dir>/parts. The cells are compared in <run_dir>/ablation.html, .png and .json, also while not
all are done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tl_jax.cli import evaluate, prepare, report
from tl_jax.evaluate import ablation
from tl_jax.evaluate import run as scoring
from tl_jax.parallel import processes
from tl_jax.publish.export import export_newest
from tl_jax.report.ablation import write_ablation
from tl_jax.report.read import METRICS
from tl_jax.run.directory import PHASES, Run
from tl_jax.train import ppo, sft
from tl_jax.train.rollback import Rollbacks
from tl_jax.train.validate import checked

TRAIN = {"supervised": sft.train, "reward": ppo.train}
"""What trains each phase."""

FLAGS = {"force": (False, "go on although weights, tokenizer or data are not those of before")}


def main(run: Run, console: Console) -> None:
    """Do everything that is not done yet, all processes together."""
    if run.config.ablation.seeds:
        _ablate(run, console)
        return
    scored = _train_and_score(run, console, PHASES)
    export_newest(run, console)
    if scored and processes.is_first():
        evaluate.show(run, console)
    report.main(run, console)
    if processes.is_first():
        console.print(f"model:  {run.export_dir}", markup=False)


def _train_and_score(run: Run, console: Console, phases: Sequence[str]) -> bool:
    """Prepare, train and evaluate what is not done; return whether there is an evaluation set."""
    prepare.main(run, console)
    scored = scoring.has_sets(run)
    if not scored and processes.is_first():
        console.print(
            "evaluation is left out: no suite of config.evaluate is set, and no turns of the data "
            "were held out"
        )
    for phase in phases:
        if phase in TRAIN:
            if not run.trains(phase):
                continue
            for attempt in Rollbacks(run, phase):
                with attempt:
                    TRAIN[phase](run)
        if scored and not scoring.is_current(run, phase):
            scoring.evaluate_phase(run, phase)
    return scored


def _ablate(run: Run, console: Console) -> None:
    todo = ablation.parts(run.config)
    for number, part in enumerate(todo, 1):
        if processes.is_first():
            name = f"{ablation.title(part.cell)}, seed {part.seed}"
            console.print(f"part {number} of {len(todo)}: {name}", markup=False)
        opened = Run(part.config, run.reward, run.force)
        with checked(opened, prepares=True, computes=True, writes=True):
            _train_and_score(opened, console, tuple(TRAIN))
        if processes.is_first():
            write_ablation(ablation.compare(run.config), run.run_dir / "ablation")
    if processes.is_first():
        content = ablation.compare(run.config)
        paths = write_ablation(content, run.run_dir / "ablation")
        _show(content, console)
        console.print(f"report: {', '.join(map(str, paths))}", markup=False)
    processes.wait_for_all("ablation")


def _show(content: Mapping[str, Any], console: Console) -> None:
    table = Table(title="what each component adds, in points")
    for heading in ("set", "component"):
        table.add_column(heading)
    for metric in METRICS:
        table.add_column(metric.upper(), justify="right")
    for name, entry in content["sets"].items():
        for component, effects in entry["components"].items():
            cells = [f"{effect['gain']:+.1f} {effect['verdict']}" for effect in effects.values()]
            table.add_row(escape(name), component, *cells)
    console.print(table)
