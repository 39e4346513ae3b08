"""evaluate: generate greedily for held-out tasks and score the calls (TS, PI, CF).

Scores the newest model of the run (or the phase given by --phase=before|supervised|reward) on
held-out dialogues of the embedded world (config.evaluate.synthetic_trajectories) and on RoTBench
(config.evaluate.rotbench_path). Writes <run_dir>/results/evaluate_<phase>.json and, beside it,
every reply with its gold call (replies_<phase>.jsonl).

TS: the right tool; PI: also the right argument names; CF: also the right values. The free text of
finish and ask_to_user is not compared, as in RoTBench.
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
from tl_jax.config import ConfigError, to_dict
from tl_jax.data import synthetic
from tl_jax.data.examples import Prompt, build_prompts, prompt_ids
from tl_jax.data.mae import label_turns
from tl_jax.data.schema import RowError
from tl_jax.evaluate import rotbench
from tl_jax.evaluate.runner import TaskSet, evaluate
from tl_jax.evaluate.scores import Policy, TurnScore, score_call
from tl_jax.train.metrics import ProgressPrinter


def main(workspace: Workspace, console: Console, *, phase: str = "") -> None:
    """Score one phase's model and print the table."""
    phase = phase or workspace.newest_phase()
    if phase not in PHASES:
        raise ConfigError(f"--phase must be one of {', '.join(PHASES)}, got {phase}")
    run(workspace, phase)
    show(workspace, console)


def result_path(workspace: Workspace, phase: str) -> Path:
    """Return the file with the scores of a phase."""
    return workspace.results_dir / f"evaluate_{phase}.json"


def is_current(workspace: Workspace, phase: str) -> bool:
    """Whether a phase has been evaluated with the settings of the configuration."""
    path = result_path(workspace, phase)
    if not path.exists():
        return False
    found = json.loads(path.read_text(encoding="utf-8"))
    return found.get("settings") == to_dict(workspace.config.evaluate)


def run(workspace: Workspace, phase: str) -> dict[str, Any]:
    """Score the model of a phase on every configured set and write the results."""
    limits = workspace.config.evaluate
    sets = list(task_sets(workspace))
    if not sets:
        raise ConfigError(
            "nothing to evaluate; set config.evaluate.synthetic_trajectories or "
            "config.evaluate.rotbench_path"
        )
    sample = workspace.sampler(limits.max_new_tokens, 0.0, 1.0)
    results: dict[str, Any] = {"name": phase, "settings": to_dict(limits), "sets": {}}
    replies = []
    with jax.set_mesh(workspace.mesh):
        params = workspace.params(phase)
        for tasks in sets:
            total = len(tasks.prompts)
            with ProgressPrinter(f"evaluate {phase} {tasks.name}", total) as bar:
                summary, records = evaluate(
                    tasks,
                    params,
                    sample=sample,
                    tokenizer=workspace.tokenizer,
                    batch_size=limits.batch_size,
                    on_batch=bar.update,
                )
            results["sets"][tasks.name] = summary
            replies.extend(records)
    workspace.results_dir.mkdir(parents=True, exist_ok=True)
    with open(workspace.results_dir / f"replies_{phase}.jsonl", "w", encoding="utf-8") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in replies)
    path = result_path(workspace, phase)
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)
    return results


def task_sets(workspace: Workspace) -> Iterator[TaskSet]:
    """Yield the configured evaluation sets."""
    limits = workspace.config.evaluate
    if limits.synthetic_trajectories:
        for split in ("seen", "unseen"):
            yield _limited(
                workspace, f"synthetic/{split}", synthetic_prompts(workspace, split), _plain
            )
    if limits.rotbench_path:
        if not Path(limits.rotbench_path).is_file():
            raise ConfigError(f"config.evaluate.rotbench_path: no file {limits.rotbench_path}")
        try:
            items = rotbench.read_items(limits.rotbench_path, noise="clean")
        except RowError as error:
            raise ConfigError(f"config.evaluate.rotbench_path: {error}") from error
        by_id = {item.id: item for item in items}
        score = functools.partial(_rotbench, by_id)
        yield _limited(workspace, "rotbench/clean", rotbench_prompts(workspace, items), score)


def synthetic_prompts(workspace: Workspace, split: str) -> list[Prompt]:
    """Return one prompt per assistant turn of held-out dialogues."""
    config = workspace.config
    prompts = []
    for trajectory in synthetic.trajectories(
        config.evaluate.synthetic_trajectories, seed=config.seed, split=f"test_{split}"
    ):
        found, _ = build_prompts(
            trajectory,
            label_turns(trajectory, "off"),
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


def _limited(workspace: Workspace, name: str, prompts: list[Prompt], score: Any) -> TaskSet:
    limits = workspace.config.evaluate
    prompts = prompts[: limits.max_tasks or len(prompts)]
    fitting = tuple(p for p in prompts if len(p.ids) <= limits.max_prompt_length)
    return TaskSet(name, fitting, score, skipped=len(prompts) - len(fitting))


def _plain(call: ToolCall | None, prompt: Prompt) -> TurnScore:
    return score_call(call, prompt.golds, tools=prompt.tools, policy=Policy())


def _rotbench(items: dict[str, rotbench.Item], call: ToolCall | None, prompt: Prompt) -> TurnScore:
    return rotbench.score_item(call, items[prompt.id])


def show(workspace: Workspace, console: Console) -> None:
    """Print the scores of every phase evaluated so far."""
    found = {}
    for phase in PHASES:
        path = result_path(workspace, phase)
        if path.exists():
            found[phase] = json.loads(path.read_text(encoding="utf-8"))["sets"]
    names = dict.fromkeys(name for sets in found.values() for name in sets)
    table = Table(title="tool selection / parameter identification / content filling, percent")
    table.add_column("set")
    for phase in found:
        table.add_column(phase, justify="right")
    for name in names:
        cells = [_cell(sets[name]) if name in sets else "" for sets in found.values()]
        table.add_row(name, *cells)
    console.print(table)


def _cell(summary: dict[str, Any]) -> str:
    values = (summary[metric]["percent"] for metric in ("ts", "pi", "cf"))
    return " / ".join(f"{value:.1f}" for value in values)
