"""run: everything in order: prepare, evaluate, train, evaluate, reward, evaluate, export, report.

What is already done in config.run_dir is not done again, so the same command resumes after a stop;
with other config.evaluate settings the models are only evaluated anew.
"""

from __future__ import annotations

from rich.console import Console

from tl_jax.cli import convert, evaluate, prepare, report, train
from tl_jax.cli.workspace import PHASES, Workspace


def main(workspace: Workspace, console: Console) -> None:
    """Run every stage that is not done yet."""
    prepare.main(workspace, console)
    for phase in PHASES:
        if phase != "before":
            if not train.steps_of(workspace, phase):
                continue
            train.train_phase(workspace, phase)
        if not evaluate.is_current(workspace, phase):
            evaluate.run(workspace, phase)
    if not (workspace.export_dir / "config.json").exists():
        convert.export(workspace, convert.Request())
    evaluate.show(workspace, console)
    report.main(workspace, console)
    console.print(f"model:  {workspace.export_dir}")
