"""run: everything in order: prepare, evaluate, train, evaluate, reward, evaluate, export, report.

What is already done in config.run_dir is not done again, so the same command resumes after a stop;
with other config.evaluate settings the models are only evaluated anew (rotbench_path stays: the
training data were checked against it). Scores and export are made
anew if they are of an older step than the model.
"""

from __future__ import annotations

import json

from rich.console import Console

from tl_jax.cli import convert, evaluate, prepare, report, train
from tl_jax.cli.workspace import PHASES, Workspace
from tl_jax.parallel import processes
from tl_jax.report.read import read_json


def main(workspace: Workspace, console: Console) -> None:
    """Run every stage that is not done yet, all processes together."""
    prepare.main(workspace, console)
    scored = evaluate.has_sets(workspace)
    if not scored and processes.is_first():
        console.print(
            "evaluation is left out: neither config.evaluate.synthetic_trajectories nor "
            "config.evaluate.rotbench_path is set"
        )
    for phase in PHASES:
        if phase != "before":
            if not train.steps_of(workspace, phase):
                continue
            train.train_phase(workspace, phase)
        if scored and not evaluate.is_current(workspace, phase):
            evaluate.run(workspace, phase)
    export(workspace, console)
    if scored and processes.is_first():
        evaluate.show(workspace, console)
    report.main(workspace, console)
    if processes.is_first():
        console.print(f"model:  {workspace.export_dir}", markup=False)


def export(workspace: Workspace, console: Console) -> None:
    """Export the newest model unless ``export.json`` says that it is exported already.

    The model card of an export that stays is brought up to date with new scores.
    """
    phase = workspace.newest_phase()
    wanted = {"phase": phase, "step": workspace.saved_step(phase)}
    record = workspace.run_dir / "export.json"
    done = read_json(record) == wanted and (workspace.export_dir / "config.json").exists()
    if not processes.agree(done):
        convert.export(workspace, convert.Request(force=True), console)
        if processes.is_first():
            record.write_text(json.dumps(wanted) + "\n", encoding="utf-8")
    elif processes.is_first():
        convert.renew_card(workspace)
