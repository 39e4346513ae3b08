"""Score a model of a run on the evaluation suites; each suite keeps results of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax

from tl_jax.config.fields import to_dict
from tl_jax.data.prepare.files import REPORT, source_hash
from tl_jax.errors import ConfigError, DataError
from tl_jax.evaluate.suites import SUITES, own_data
from tl_jax.evaluate.suites.choose import Chosen, chosen_suites, file_name
from tl_jax.evaluate.tasks import TaskSet, evaluate, task_set
from tl_jax.parallel import processes
from tl_jax.report.read import REPLIES, read_json
from tl_jax.run.directory import PHASES, Run
from tl_jax.run.progress import ProgressPrinter
from tl_jax.run.record import replace_text


def result_path(run: Run, phase: str, suite: str) -> Path:
    """Return the file with the scores of a phase on a suite; its replies lie beside it."""
    return run.results_dir / phase / f"{file_name(suite)}.json"


def outdated(run: Run, phase: str) -> list[Chosen]:
    """Return the chosen suites on which the newest model of a phase has not been scored so yet."""
    return [
        suite
        for suite in chosen_suites(run.config)
        if not is_result_of(run, phase, read_json(result_path(run, phase, suite.name)), suite)
    ]


def is_current(run: Run, phase: str) -> bool:
    """Whether the newest model of a phase has been scored with the configured settings."""
    return not outdated(run, phase)


def is_result_of(run: Run, phase: str, result: dict[str, Any], suite: Chosen | None = None) -> bool:
    """Whether a result file is of the newest model of a phase and of the settings it names.

    Args:
      run: The run.
      phase: The phase.
      result: Content of the file; empty if there is none.
      suite: Where given, the result must be of this version of it.
    """
    # As JSON has it: a tuple comes back as a list.
    limits = json.loads(json.dumps(to_dict(run.config.evaluate)))
    settings = result.get("settings", {})
    same = all(limits.get(name) == value for name, value in settings.items())
    version = suite is None or result.get("version") == suite.version
    return bool(result) and result.get("step") == run.model_step(phase) and same and version


def has_sets(run: Run) -> bool:
    """Whether any evaluation suite is configured."""
    return bool(chosen_suites(run.config))


def evaluate_phase(run: Run, phase: str = "") -> dict[str, Any]:
    """Score the newest model of a phase on the chosen suites and write what is new.

    A suite whose results are of this model and these settings is not scored again. With several
    processes all must call this: they sample together, and the first writes.

    Args:
      run: The run.
      phase: One of ``run.directory.PHASES``; empty: the last that has a model.

    Returns:
      ``{"name": phase, "sets": {name of a set: its summary}}``, of all chosen suites.

    Raises:
      ConfigError: No suite is chosen, or one cannot be used, or its rows cannot be spread.
    """
    limits, phase = run.config.evaluate, phase or run.newest_phase()
    if phase not in PHASES:
        raise ConfigError(f"the phase must be one of {', '.join(PHASES)}, got {phase}")
    suites = chosen_suites(run.config)
    if not suites:
        raise ConfigError(
            "nothing to evaluate; set config.evaluate.synthetic_trajectories, "
            "config.evaluate.rotbench_path or config.evaluate.suites"
        )
    run.check_sampled_rows(limits.batch_size, "config.evaluate.batch_size")
    names = {suite.name for suite in outdated(run, phase)}
    # All processes must sample the same.
    scored = [suite for suite in suites if not processes.agree(suite.name not in names)]
    tasks = [read_tasks(run, suite) for suite in scored]
    found: dict[str, Any] = {}
    if scored:
        sample = run.sampler(limits.max_new_tokens, 0.0, 1.0, stop_strings=limits.stop_strings)
        constrain = run.constraints() if limits.constrained else None
        with jax.set_mesh(run.mesh):
            params = run.params(phase)
            for suite, task in zip(scored, tasks, strict=True):
                with ProgressPrinter(f"evaluate {phase} {suite.name}", len(task.items)) as bar:
                    sets, scores, replies = evaluate(
                        task,
                        params,
                        sample=sample,
                        renderer=run.renderer,
                        batch_size=limits.batch_size,
                        constrain=constrain,
                        on_done=bar.update,
                    )
                found[suite.name] = sets
                if processes.is_first():
                    _write(run, phase, suite, sets, scores, replies)
    processes.wait_for_all("evaluate")
    sets: dict[str, Any] = {}
    for suite in suites:
        known = found.get(suite.name)
        sets |= known if known is not None else _kept(run, phase, suite)
    return {"name": phase, "sets": sets}


def _kept(run: Run, phase: str, suite: Chosen) -> dict[str, Any]:
    return read_json(result_path(run, phase, suite.name))["sets"]


def _write(
    run: Run,
    phase: str,
    suite: Chosen,
    sets: dict[str, Any],
    scores: dict[str, Any],
    replies: list[dict[str, Any]],
) -> None:
    of_others = {other.setting for other in SUITES.values()} - {suite.suite.setting}
    settings = to_dict(run.config.evaluate)
    result = {
        "name": phase,
        "suite": suite.name,
        # In tables the suites of the package come first, in their order.
        "position": [*SUITES, suite.name].index(suite.name),
        "version": suite.version,
        "step": run.model_step(phase),
        "prompt": run.renderer.described(),
        "seed": run.config.seed,
        "settings": {k: v for k, v in settings.items() if k != "suites" and k not in of_others},
        **overlap_checks(run),
        "sets": sets,
        **scores,
    }
    path = result_path(run, phase, suite.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in replies)
    replace_text(path.with_suffix(REPLIES), lines)
    replace_text(path, json.dumps(result, indent=1) + "\n")


def overlap_checks(run: Run) -> dict[str, Any]:
    """Return which evaluation sets the training data were checked against, and which not."""
    checked = read_json(run.data_dir / REPORT).get("checked_against", [])
    path = run.config.evaluate.rotbench_path
    missing = path and source_hash(path) not in {entry["sha256"] for entry in checked}
    return {"checked_against": checked, "not_checked_against": [path] if missing else []}


def read_tasks(run: Run, suite: Chosen) -> TaskSet:
    """Return the items of a suite that fit the limits of ``config.evaluate``, and those too long.

    Raises:
      ConfigError: A suite has no items, its data cannot be read, or the text form of the run has no
        place for them.
    """
    limits = run.config.evaluate
    try:
        items = suite.items()
        if suite.path == own_data.source(run.config):
            items = own_data.spread(items, limits.held_out_tasks)
        items = own_data.spread(items, limits.max_tasks or len(items))
        return task_set(
            suite.suite, items, run.renderer, max_prompt_length=limits.max_prompt_length
        )
    except (DataError, ValueError) as error:
        name = suite.suite.setting or "suites"
        raise ConfigError(f"config.evaluate.{name}: {error}") from error
