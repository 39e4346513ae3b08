"""prepare: read trajectories, judge their calls (MAE), weigh their tokens (PKT), write token files.

Reads config.data.path (a file, a directory, a data set of the Hub, or "synthetic" for the embedded
tool world), or the weighted ones of config.data.sources, and leaves in <run_dir>/data: examples/,
validation/ (token ids and loss weights in ArrayRecord files; `tl-jax inspect` shows them),
prompts.jsonl (prompts with gold calls for reward training), quarantine.jsonl (rows that could not
be read, with file, line and reason), removed.jsonl (duplicates and overlaps with evaluation sets:
config.data.contamination_paths and config.evaluate.rotbench_path), mae_report.json (what was kept,
dropped, why, and from which source) and loader_report.json (how full the packed rows are).
config.data.workers processes share the work, as do all hosts of a run; a command that was killed
goes on where it stopped.
Running it again with the same inputs changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tl_jax.errors import ConfigError
from tl_jax.models import registry
from tl_jax.parallel import processes
from tl_jax.run.directory import Run
from tl_jax.run.prepare import checked_data, make_model, measure_loader, prepare
from tl_jax.train import prompt_pools

_ENTRIES_SHOWN = 6

FLAGS = {"force": (False, "go on although weights, tokenizer or data are not those of before")}


def main(run: Run, console: Console) -> None:
    """Prepare the model directory and the token files, and print the counts."""
    if processes.is_first():
        checked_data(run.config)  # before anything is converted or trained
        make_model(run, console)
        registry.check_lengths(run.config, run.model)
    processes.wait_for_all("make_model")
    report = prepare(run)
    if processes.is_first():
        console.print(report["text_form"], markup=False, highlight=False)
        for name, entry in report["sources"].items():
            if "read_as" in entry:
                text = f"{name} is read as {entry['read_as']}"
                console.print(text, markup=False, highlight=False)
        _show(report, console)
        _show_loader(measure_loader(run), console)
        if epochs := run.config.train.epochs:
            rows = f"{run.steps('supervised'):,} steps of {run.config.data.batch_size} rows"
            console.print(f"{epochs:g} epochs are {rows}", highlight=False)
        for warning in warnings(run, report):
            console.print(f"warning: {warning}", markup=False)
    processes.wait_for_all("prepare")


def warnings(run: Run, report: Mapping[str, Any]) -> list[str]:
    """Return what the data will mean for training, known before any of it is trained on."""
    config, found = run.config, []
    if config.ppo.steps:
        try:
            kept, dropped = prompt_pools.select(run)
        except ConfigError as error:
            found.append(str(error))  # reward training will refuse; its settings may still change
        else:
            found += [prompt_pools.left_out(kept, dropped)] if dropped else []
    held_out = report["trajectories"].get("validation", 0)
    if run.trains("supervised") and config.data.validation_fraction and held_out < 2:
        what = "one trajectory" if held_out else "nothing: no trajectory is held out"
        found.append(
            f"the validation loss rests on {what}; raise config.data.validation_fraction "
            f"({config.data.validation_fraction}) to see whether training helps"
        )
    return found


def _show(report: dict[str, Any], console: Console) -> None:
    table = Table(title="prepared data", show_header=False)
    for name, value in report.items():
        if name == "sources":
            name, value = "rows_by_source", {key: entry["rows"] for key, entry in value.items()}
        if name == "checked_against" and value:
            name = "evaluation_queries_compared"
            value = {entry["path"]: entry["queries"] for entry in value}
        label = name.replace("_", " ")
        if isinstance(value, int):
            table.add_row(label, f"{value:,}")
        elif isinstance(value, dict) and value:
            table.add_row(label, escape(_commonest(value)))
    console.print(table)


def _show_loader(report: dict[str, Any], console: Console) -> None:
    much = "an epoch has" if report["complete"] else "measured"
    console.print(
        f"{much} {report['rows']:,} rows, {100 * report['fill']:.1f} % full, "
        f"{100 * report['trained_token_share']:.1f} % of the tokens are trained",
        highlight=False,
    )
    if report["computed_tokens"] < report["tokens"]:
        console.print(
            f"samples that begin alike share tokens: {report['computed_tokens']:,} are computed "
            f"for {report['tokens']:,}",
            highlight=False,
        )


def _commonest(counts: dict[str, int]) -> str:
    """Return the largest counts in words, in the order given."""
    shown = set(sorted(counts, key=lambda key: -counts[key])[:_ENTRIES_SHOWN])
    words = [f"{key} {number:,}" for key, number in counts.items() if key in shown]
    more = len(counts) - len(shown)
    return ", ".join([*words, *([f"and {more} more"] if more else [])])
