"""Score a model of a run on the evaluation sets and keep the results."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from tl_jax.config.fields import to_dict
from tl_jax.data.prepare.files import REPORT, source_hash
from tl_jax.errors import ConfigError, DataError, RowError
from tl_jax.evaluate.suites import rotbench
from tl_jax.evaluate.suites.embedded_world import (
    kind_of_call,
    limited,
    plain_score,
    synthetic_prompts,
)
from tl_jax.evaluate.suites.rotbench_tasks import rotbench_prompts, rotbench_score
from tl_jax.evaluate.tasks import TaskSet, evaluate
from tl_jax.parallel import processes
from tl_jax.report.read import read_json
from tl_jax.run.directory import Run
from tl_jax.run.progress import ProgressPrinter


def result_path(run: Run, phase: str) -> Path:
    """Return the file with the scores of a phase."""
    return run.results_dir / f"evaluate_{phase}.json"


def is_current(run: Run, phase: str) -> bool:
    """Whether the newest model of a phase has been scored with the configured settings."""
    found = read_json(result_path(run, phase))
    # As JSON has it: a tuple comes back as a list.
    settings = json.loads(json.dumps(to_dict(run.config.evaluate)))
    wanted = (run.saved_step(phase), settings)
    return (found.get("step"), found.get("settings")) == wanted


def has_sets(run: Run) -> bool:
    """Whether any evaluation set is configured."""
    limits = run.config.evaluate
    return bool(limits.synthetic_trajectories or limits.rotbench_path)


def evaluate_phase(run: Run, phase: str) -> dict[str, Any]:
    """Score the newest model of a phase on every configured set and write the results.

    With several processes all must call this: they sample together, and the first writes.

    Raises:
      ConfigError: No set is configured, or its file cannot be read, or its rows cannot be spread.
    """
    limits = run.config.evaluate
    if not has_sets(run):
        raise ConfigError(
            "nothing to evaluate; set config.evaluate.synthetic_trajectories or "
            "config.evaluate.rotbench_path"
        )
    run.check_sampled_rows(limits.batch_size, "config.evaluate.batch_size")
    sets = list(task_sets(run))
    sample = run.sampler(limits.max_new_tokens, 0.0, 1.0, stop_strings=limits.stop_strings)
    guide = run.guide() if limits.constrained else None
    summaries: dict[str, Any] = {}
    replies = []
    with jax.set_mesh(run.mesh):
        params = run.params(phase)
        for tasks in sets:
            total = len(tasks.prompts)
            with ProgressPrinter(f"evaluate {phase} {tasks.name}", total) as bar:
                found, records = evaluate(
                    tasks,
                    params,
                    sample=sample,
                    renderer=run.renderer,
                    batch_size=limits.batch_size,
                    guide=guide,
                    on_done=bar.update,
                )
            summaries |= found
            replies.extend(records)
    seconds = sum(summary.get("seconds", 0.0) for summary in summaries.values())
    results = {
        "name": phase,
        "step": run.saved_step(phase),
        "settings": to_dict(limits),
        **overlap_checks(run),
        "tokens_per_s": sum(s.get("tokens", 0) for s in summaries.values()) / max(seconds, 1e-9),
        "sets": summaries,
    }
    if processes.is_first():
        _write(run, phase, results, replies)
    processes.wait_for_all("evaluate")
    return results


def _write(run: Run, phase: str, results: dict[str, Any], replies: list[dict[str, Any]]) -> None:
    run.results_dir.mkdir(parents=True, exist_ok=True)
    with open(run.results_dir / f"replies_{phase}.jsonl", "w", encoding="utf-8") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in replies)
    path = result_path(run, phase)
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)


def overlap_checks(run: Run) -> dict[str, Any]:
    """Return which evaluation sets the training data were checked against, and which not."""
    checked = read_json(run.data_dir / REPORT).get("checked_against", [])
    path = run.config.evaluate.rotbench_path
    missing = path and source_hash(path) not in {entry["sha256"] for entry in checked}
    return {"checked_against": checked, "not_checked_against": [path] if missing else []}


def task_sets(run: Run) -> Iterator[TaskSet]:
    """Yield the configured evaluation sets."""
    limits = run.config.evaluate
    if limits.synthetic_trajectories:
        for split in ("seen", "reworded", "unseen"):
            yield limited(
                run,
                synthetic_prompts(run, split),
                name=f"synthetic/{split}",
                score=plain_score,
                group=kind_of_call,
            )
    if limits.rotbench_path:
        if not Path(limits.rotbench_path).is_file():
            raise ConfigError(f"config.evaluate.rotbench_path: no file {limits.rotbench_path}")
        try:
            items = rotbench.read_items(limits.rotbench_path, noise="clean")
        except (RowError, DataError) as error:
            raise ConfigError(f"config.evaluate.rotbench_path: {error}") from error
        by_id = {item.id: item for item in items}
        released = functools.partial(rotbench_score, by_id, count_empty_arguments=False)
        yield limited(
            run,
            rotbench_prompts(run, items),
            name="rotbench/clean",
            score=functools.partial(rotbench_score, by_id),
            other_rules={"rotbench/clean (released rule)": released},
        )
