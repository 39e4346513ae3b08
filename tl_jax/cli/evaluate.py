"""evaluate: generate greedily for held-out tasks and score the calls (TS, PI, CF).

Scores the newest model of the run (or the phase given by --phase=before|supervised|reward) on
held-out dialogues of the embedded world (config.evaluate.synthetic_trajectories) and on RoTBench
(config.evaluate.rotbench_path). Writes <run_dir>/results/evaluate_<phase>.json and, beside it,
every reply with its gold call (replies_<phase>.jsonl). The results say which sets the training data
were checked against for overlaps.

TS: the right tool; PI: also the right argument names; CF: also the right values. The free text of
finish and ask_to_user is not compared, as in RoTBench; the calls of other tools, all of whose
values are compared, are therefore counted apart. RoTBench is scored twice, once by the rule of its
released evaluator, for which a call without arguments is never right.

With config.evaluate.constrained the model can only name offered tools and declared parameters; in
call styles without a mark it begins every reply with a call. The host is then asked before every
token, which is slower.
"""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from tl_jax.errors import ConfigError
from tl_jax.evaluate.run import evaluate_phase, is_current, result_path
from tl_jax.parallel import processes
from tl_jax.report.read import labelled_sets, read_json, too_long
from tl_jax.run.directory import PHASES, Run

FLAGS = {"phase": ("", "before, supervised or reward")}


def main(run: Run, console: Console, *, phase: str = "") -> None:
    """Score one phase's model and print the table."""
    phase = phase or run.newest_phase()
    if phase not in PHASES:
        raise ConfigError(f"--phase must be one of {', '.join(PHASES)}, got {phase}")
    evaluate_phase(run, phase)
    if processes.is_first():
        show(run, console)


def show(run: Run, console: Console) -> None:
    """Print the scores of every phase evaluated so far; those not current say of which step."""
    found = {}
    long: dict[str, None] = {}
    unchecked: dict[str, None] = {}
    for phase in PHASES:
        result = read_json(result_path(run, phase))
        if result:
            long |= dict.fromkeys(too_long(result))
            if phase != "before":
                unchecked |= dict.fromkeys(result.get("not_checked_against", ()))
            current = is_current(run, phase)
            title = phase if current else f"{phase} (outdated, step {result.get('step')})"
            found[title] = labelled_sets(result["sets"])
    names = dict.fromkeys(name for sets in found.values() for name in sets)
    table = Table(title="tool selection / parameter identification / content filling, percent")
    table.add_column("set")
    for title in found:
        table.add_column(title, justify="right")
    for name in names:
        cells = [_cell(sets[name]) if name in sets else "" for sets in found.values()]
        table.add_row(name, *cells)
    console.print(table)
    for sentence in long:
        console.print(sentence, markup=False)
    for path in unchecked:
        console.print(
            f"the training data were not checked for overlaps with {path}: it was not in "
            "config.evaluate.rotbench_path when they were prepared",
            markup=False,
        )


def _cell(summary: dict[str, Any]) -> str:
    values = (summary[metric]["percent"] for metric in ("ts", "pi", "cf"))
    return " / ".join(f"{value:.1f}" for value in values)
