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

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from tl_jax.calls.call import ToolCall
from tl_jax.cli.workspace import PHASES, Workspace
from tl_jax.data import synthetic
from tl_jax.data.encoding import prompt_ids
from tl_jax.data.examples import Prompt, build_prompts
from tl_jax.data.mae import label_turns
from tl_jax.data.prepared_files import REPORT, source_hash
from tl_jax.data.schema import DataError, RowError
from tl_jax.evaluate import rotbench
from tl_jax.evaluate.runner import TaskSet, evaluate
from tl_jax.evaluate.scores import Policy, TurnScore, score_call
from tl_jax.parallel import processes
from tl_jax.report.read import labelled_sets, read_json, too_long
from tl_jax.settings import ConfigError, to_dict
from tl_jax.train.metrics import ProgressPrinter


def main(workspace: Workspace, console: Console, *, phase: str = "") -> None:
    """Score one phase's model and print the table."""
    phase = phase or workspace.newest_phase()
    if phase not in PHASES:
        raise ConfigError(f"--phase must be one of {', '.join(PHASES)}, got {phase}")
    run(workspace, phase)
    if processes.is_first():
        show(workspace, console)


def result_path(workspace: Workspace, phase: str) -> Path:
    """Return the file with the scores of a phase."""
    return workspace.results_dir / f"evaluate_{phase}.json"


def is_current(workspace: Workspace, phase: str) -> bool:
    """Whether the newest model of a phase has been scored with the configured settings."""
    found = read_json(result_path(workspace, phase))
    # As JSON has it: a tuple comes back as a list.
    settings = json.loads(json.dumps(to_dict(workspace.config.evaluate)))
    wanted = (workspace.saved_step(phase), settings)
    return (found.get("step"), found.get("settings")) == wanted


def has_sets(workspace: Workspace) -> bool:
    """Whether any evaluation set is configured."""
    limits = workspace.config.evaluate
    return bool(limits.synthetic_trajectories or limits.rotbench_path)


def run(workspace: Workspace, phase: str) -> dict[str, Any]:
    """Score the newest model of a phase on every configured set and write the results.

    With several processes all must call this: they sample together, and the first writes.

    Raises:
      ConfigError: No set is configured, or its file cannot be read, or its rows cannot be spread.
    """
    limits = workspace.config.evaluate
    if not has_sets(workspace):
        raise ConfigError(
            "nothing to evaluate; set config.evaluate.synthetic_trajectories or "
            "config.evaluate.rotbench_path"
        )
    workspace.check_sampled_rows(limits.batch_size, "config.evaluate.batch_size")
    sets = list(task_sets(workspace))
    sample = workspace.sampler(limits.max_new_tokens, 0.0, 1.0, stop_strings=limits.stop_strings)
    guide = workspace.guide() if limits.constrained else None
    summaries: dict[str, Any] = {}
    replies = []
    with jax.set_mesh(workspace.mesh):
        params = workspace.params(phase)
        for tasks in sets:
            total = len(tasks.prompts)
            with ProgressPrinter(f"evaluate {phase} {tasks.name}", total) as bar:
                found, records = evaluate(
                    tasks,
                    params,
                    sample=sample,
                    tokenizer=workspace.tokenizer,
                    batch_size=limits.batch_size,
                    call_style=workspace.call_style,
                    guide=guide,
                    on_done=bar.update,
                )
            summaries |= found
            replies.extend(records)
    seconds = sum(summary.get("seconds", 0.0) for summary in summaries.values())
    results = {
        "name": phase,
        "step": workspace.saved_step(phase),
        "settings": to_dict(limits),
        **overlap_checks(workspace),
        "tokens_per_s": sum(s.get("tokens", 0) for s in summaries.values()) / max(seconds, 1e-9),
        "sets": summaries,
    }
    if processes.is_first():
        _write(workspace, phase, results, replies)
    processes.wait_for_all("evaluate")
    return results


def _write(
    workspace: Workspace, phase: str, results: dict[str, Any], replies: list[dict[str, Any]]
) -> None:
    workspace.results_dir.mkdir(parents=True, exist_ok=True)
    with open(workspace.results_dir / f"replies_{phase}.jsonl", "w", encoding="utf-8") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in replies)
    path = result_path(workspace, phase)
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)


def overlap_checks(workspace: Workspace) -> dict[str, Any]:
    """Return which evaluation sets the training data were checked against, and which not."""
    checked = read_json(workspace.data_dir / REPORT).get("checked_against", [])
    path = workspace.config.evaluate.rotbench_path
    missing = path and source_hash(path) not in {entry["sha256"] for entry in checked}
    return {"checked_against": checked, "not_checked_against": [path] if missing else []}


def task_sets(workspace: Workspace) -> Iterator[TaskSet]:
    """Yield the configured evaluation sets."""
    limits = workspace.config.evaluate
    if limits.synthetic_trajectories:
        for split in ("seen", "reworded", "unseen"):
            yield _limited(
                workspace,
                synthetic_prompts(workspace, split),
                name=f"synthetic/{split}",
                score=_plain,
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
        released = functools.partial(_rotbench, by_id, count_empty_arguments=False)
        yield _limited(
            workspace,
            rotbench_prompts(workspace, items),
            name="rotbench/clean",
            score=functools.partial(_rotbench, by_id),
            other_rules={"rotbench/clean (released rule)": released},
        )


def synthetic_prompts(workspace: Workspace, split: str) -> list[Prompt]:
    """Return one prompt per right call of held-out dialogues, questions to the user included."""
    config = workspace.config
    prompts = []
    for trajectory in synthetic.trajectories(
        config.evaluate.synthetic_trajectories, seed=config.seed, split=f"test_{split}"
    ):
        found, _ = build_prompts(
            trajectory,
            label_turns(trajectory, "structured"),
            workspace.tokenizer,
            template=config.data.template,
            action=config.mae.action,
            max_length=1 << 30,
        )
        prompts.extend(found)
    return prompts


def rotbench_prompts(workspace: Workspace, items: list[rotbench.Item]) -> list[Prompt]:
    """Return one prompt per RoTBench item in the template of the run."""
    config = workspace.config
    return [
        Prompt(
            id=item.id,
            ids=prompt_ids(
                item.tools,
                item.messages,
                workspace.tokenizer,
                template=config.data.template,
                action=config.mae.action,
            ),
            text="",
            tools=item.tools,
            golds=item.golds,
            tags={},
        )
        for item in items
    ]


def kind_of_call(prompt: Prompt) -> str:
    """Return ``"finish"``, ``"ask"`` (a question to the user) or ``"service"`` (all others)."""
    return {"finish": "finish", "ask_to_user": "ask"}.get(prompt.golds[0].name, "service")


def _limited(workspace: Workspace, prompts: list[Prompt], **rules: Any) -> TaskSet:
    limits = workspace.config.evaluate
    prompts = prompts[: limits.max_tasks or len(prompts)]
    fits = [len(prompt.ids) <= limits.max_prompt_length for prompt in prompts]
    return TaskSet(
        prompts=tuple(p for p, fit in zip(prompts, fits, strict=True) if fit),
        skipped=tuple(p for p, fit in zip(prompts, fits, strict=True) if not fit),
        **rules,
    )


def _plain(call: ToolCall | None, prompt: Prompt) -> TurnScore:
    return score_call(call, prompt.golds, tools=prompt.tools, policy=Policy())


def _rotbench(
    items: dict[str, rotbench.Item],
    call: ToolCall | None,
    prompt: Prompt,
    *,
    count_empty_arguments: bool = True,
) -> TurnScore:
    return rotbench.score_item(call, items[prompt.id], count_empty_arguments=count_empty_arguments)


def show(workspace: Workspace, console: Console) -> None:
    """Print the scores of every phase evaluated so far; those not current say of which step."""
    found = {}
    long: dict[str, None] = {}
    unchecked: dict[str, None] = {}
    for phase in PHASES:
        result = read_json(result_path(workspace, phase))
        if result:
            long |= dict.fromkeys(too_long(result))
            if phase != "before":
                unchecked |= dict.fromkeys(result.get("not_checked_against", ()))
            current = is_current(workspace, phase)
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
