"""evaluate: generate greedily for held-out tasks and score the calls (TS, PI, CF).

Without --suite it scores the newest model of the run (or the phase given by
--phase=before|supervised|reward) on the suites of config.evaluate: held-out dialogues of the
embedded world (synthetic_trajectories), RoTBench (rotbench_path), the held-out part of the run's
own data, or those of config.evaluate.suites. For every suite it writes
<run_dir>/results/<phase>/<suite>.json and, beside it, every reply with its gold call
(<suite>.replies.jsonl); what has been scored with the same settings is not scored again. The
results say which sets the training data were checked against for overlaps.

  a model of a run     --run=DIR --suite=rotbench --data=FILE --out=FILE.json
  a model directory    --model=DIR --suite=rotbench,toolalpaca --data=FILE,FILE --out=DIR
  any other system     --suite=rotbench --data=FILE --out=FILE.json --predictions=FILE
  all sets of a folder --model=DIR --suite=all --data=FOLDER --out=DIR
  the gold answers     --suite=rotbench --data=FILE --out=FILE.json --oracle
  two systems          --compare=FIRST.json,SECOND.json

--suite names suites of the package, or Python files that define a SUITE; --data has the file of
each. The result has the scores in percent with 95 % intervals (Wilson), the error categories, the
version of the data, prompt form and seed; beside it lies FILE.items.jsonl with a line for each
reply. What was interrupted goes on. --predictions are JSON lines {"id", "reply"}, which need no
model, no run and no JAX; --style says how they write calls. --noise perturbs tools and dialogues of
any suite (slight, medium, heavy, union, distractors, timeout ...), drawn with --seed.
--template asks in another text form than that of the training, such as chat, the model's own.

--compare says whether two results on the same items differ (exact McNemar test). Either may be a
directory with results of several seeds, whose means have intervals over seeds and items.

TS: the right tool; PI: also the right argument names; CF: also the right values. The free text of
finish and ask_to_user is not compared, as in RoTBench; the calls of other tools, all of whose
values are compared, are therefore counted apart. RoTBench is scored thrice: by our rule, by the
same with a flaw of the released evaluator, for which a call without arguments is never right, and
by all of the released evaluator's rules.

With config.evaluate.constrained the model can only name offered tools and declared parameters; in
call styles without a mark it begins every reply with a call. The host is then asked before every
token, which is slower.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tl_jax.cli.evaluate_tables import show_comparison, show_results
from tl_jax.errors import ConfigError
from tl_jax.evaluate.compare_results import compare_results
from tl_jax.evaluate.reading import STYLES
from tl_jax.evaluate.suite_file import requested, result_paths, score_file
from tl_jax.report.more_scores import more_scores
from tl_jax.report.read import PHASE_TITLES, has_levels, labelled_sets, phase_results, too_long

if TYPE_CHECKING:
    from tl_jax.run.directory import Run

FLAGS = {
    "phase": ("", "before, supervised or reward"),
    "suite": ([], "suites to score, by name or Python file, in place of config.evaluate"),
    "data": ([], "the data file of each suite"),
    "out": ("", "result file (.json), or a directory for those of several suites"),
    "predictions": ("", "score these JSON lines {id, reply}, without a model"),
    "oracle": (False, "score the gold answers, without a model"),
    "style": ("hermes", "how the predictions write calls"),
    "noise": ("clean", "perturb the items of the suites"),
    "seed": (0, "seed of the noise"),
    "template": ("", "ask in this text form, as config.data.template"),
    "model": ("", "a Hugging Face directory to score, in place of a run"),
    "compare": ([], "two results, or directories of results, to compare"),
}
WITHOUT_RUN = ("predictions", "oracle", "compare", "model")


def main(run: Run | None, console: Console, **options: Any) -> None:
    """Score what the flags say and print the table."""
    if options["compare"]:
        show_comparison(compare_results(options["compare"]), console)
    elif options["suite"]:
        results = _score_suites(run, options)
        if results:
            show_results(results, console)
    elif run is None or options["model"] or options["predictions"] or options["oracle"]:
        raise ConfigError(
            "say what is scored: --suite=NAME --data=FILE --out=FILE; see `tl-jax evaluate --help`"
        )
    else:
        _score_run(run, console, options["phase"])


def _score_suites(run: Run | None, options: dict[str, Any]) -> list[dict[str, Any]]:
    chosen = requested(options["suite"], options["data"])
    paths = result_paths(chosen, options["out"])
    if options["predictions"] or options["oracle"]:
        style = options["style"]
        if style not in STYLES:
            raise ConfigError(f"--style={style} is unknown; there are {', '.join(STYLES)}")
        if options["template"] or options["phase"] or options["model"]:
            raise ConfigError("--template, --phase and --model are of a model, which is not asked")
        if options["predictions"] and (options["oracle"] or len(chosen) > 1):
            raise ConfigError("--predictions are replies to one suite, without --oracle")
        more = {name: options[name] for name in ("predictions", "noise", "seed")}
        return [
            score_file(one, path, style=style, **more)
            for one, path in zip(chosen, paths, strict=True)
        ]
    if run is None:
        raise ConfigError("give --run=DIR, --model=DIR, --predictions=FILE or --oracle")
    from tl_jax.evaluate.model_file import evaluate_files
    from tl_jax.run.directory import Run as RunDirectory

    if options["template"]:
        data = dataclasses.replace(run.config.data, template=options["template"])
        run = RunDirectory(dataclasses.replace(run.config, data=data))
    phase = "before" if options["model"] else _phase(run, options["phase"])
    return evaluate_files(run, phase, chosen, paths, noise=options["noise"], seed=options["seed"])


def _phase(run: Run, phase: str) -> str:
    phase = phase or run.newest_phase()
    if phase not in PHASE_TITLES:
        raise ConfigError(f"--phase must be one of {', '.join(PHASE_TITLES)}, got {phase}")
    return phase


def _score_run(run: Run, console: Console, phase: str) -> None:
    from tl_jax.evaluate.run import evaluate_phase
    from tl_jax.parallel import processes

    evaluate_phase(run, _phase(run, phase))
    if processes.is_first():
        show(run, console)


def show_plan(run: Run | None, console: Console, **options: Any) -> None:
    """Print which suites would be scored, after the same checks."""
    chosen = requested(options["suite"], options["data"])
    for one, path in zip(chosen, result_paths(chosen, options["out"]), strict=True):
        console.print(f"{one.name}: {len(one.items())} items, to {path}", markup=False)


def show(run: Run, console: Console) -> None:
    """Print the scores of every phase evaluated so far; those not current say of which step."""
    from tl_jax.evaluate.run import is_result_of

    found: dict[str, dict[str, str]] = {}
    long: dict[str, None] = {}
    unchecked: dict[str, None] = {}
    for phase in PHASE_TITLES:
        for result in phase_results(run.run_dir, phase):
            long |= dict.fromkeys(too_long(result))
            if phase != "before":
                unchecked |= dict.fromkeys(result.get("not_checked_against", ()))
            current = is_result_of(run, phase, result)
            title = phase if current else f"{phase} (outdated, step {result.get('step')})"
            sets = labelled_sets(result["sets"])
            cells = {name: _cell(entry) for name, entry in sets.items() if has_levels(entry)}
            more = {name: f"{more.score.percent:.1f}" for name, more in more_scores(result).items()}
            found.setdefault(title, {}).update(cells | more)
    names = dict.fromkeys(name for cells in found.values() for name in cells)
    table = Table(title="tool selection / parameter identification / content filling, percent")
    table.add_column("set", overflow="fold")  # names that were cut would be alike
    for title in found:
        table.add_column(title, justify="right")
    for name in names:
        table.add_row(escape(name), *(cells.get(name, "") for cells in found.values()))
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
