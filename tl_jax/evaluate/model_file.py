"""Ask a model the items of a data file, resumably: what it has replied to is not asked again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from tl_jax.errors import ConfigError, DataError
from tl_jax.evaluate.noise import CLEAN, Noisy
from tl_jax.evaluate.predictions import reply_line
from tl_jax.evaluate.results import TOO_LONG, Reply
from tl_jax.evaluate.suite_file import in_progress, noisy_items, write_result
from tl_jax.evaluate.suites.choose import Chosen
from tl_jax.evaluate.tasks import TaskSet, ask, task_set
from tl_jax.parallel import processes
from tl_jax.run.directory import Run
from tl_jax.run.progress import ProgressPrinter

_BATCHES = 8
"""Batches after which replies are kept: fewer would fill the last rows of each worse."""


def evaluate_files(
    run: Run,
    phase: str,
    chosen: Sequence[Chosen],
    paths: Sequence[Path],
    *,
    noise: str = CLEAN,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Score a model of a run on data files of suites and write the results.

    With several processes all must call this: they sample together, and the first writes. What was
    interrupted goes on after the last replies that were kept.

    Args:
      run: The run; ``config.evaluate`` has the limits of generation.
      phase: The phase of its model.
      chosen: The suites and their data.
      paths: The result file of each.
      noise: Which noise the items have, see ``noise``.
      seed: Seed of the noise.

    Returns:
      The results.

    Raises:
      ConfigError: Data that cannot be read, that the text form has no place for, or rows that
        cannot be spread.
    """
    config, limits = run.config, run.config.evaluate
    run.check_sampled_rows(limits.batch_size, "config.evaluate.batch_size")
    try:
        asked = [_asked(run, one, noise, seed) for one in chosen]
    except (DataError, ValueError) as error:
        raise ConfigError(str(error)) from error
    sample = run.sampler(limits.max_new_tokens, 0.0, 1.0, stop_strings=limits.stop_strings)
    constrain = run.constraints() if limits.constrained else None
    found = []
    with jax.set_mesh(run.mesh):
        params = run.params(phase)
        for one, (items, tasks), path in zip(chosen, asked, paths, strict=True):
            facts = {
                "replies": "model",
                "model": config.model.path,
                "phase": phase,
                "step": run.model_step(phase),
                "prompt": run.renderer.described(),
                "constrained": limits.constrained,
                "max_new_tokens": limits.max_new_tokens,
                "max_prompt_length": limits.max_prompt_length,
                "stop_strings": list(limits.stop_strings),
                "noise": noise,
                "seed": seed,
                "run_seed": config.seed,
            }
            draft = path.with_suffix(".in_progress.jsonl")
            kept = {"suite": one.name, "version": one.version, **facts}
            replies = in_progress(draft, kept)
            processes.wait_for_all("resume")
            if processes.is_first():
                _begin(draft, kept, replies, {item.id: item for item in tasks.items})
            parts = _parts(tasks, replies, limits.batch_size)
            with ProgressPrinter(
                f"evaluate {phase} {one.name}", len(tasks.items), start=len(replies)
            ) as bar:
                done = len(replies)
                bar.update(done)
                for part in parts:
                    made, _ = ask(
                        part,
                        params,
                        sample=sample,
                        renderer=run.renderer,
                        batch_size=limits.batch_size,
                        constrain=constrain,
                        on_done=lambda more, done=done: bar.update(done + more),
                    )
                    done += len(made)
                    pairs = list(zip(part.items, made, strict=True))
                    replies |= {item.id: reply for item, reply in pairs}
                    if processes.is_first():
                        with draft.open("a", encoding="utf-8") as stream:
                            stream.writelines(
                                json.dumps(reply_line(item, reply)) + "\n" for item, reply in pairs
                            )
            # What is not among the replies was too long to be asked.
            all_replies = [replies.get(x.item.id, Reply("", TOO_LONG)) for x in items]
            if processes.is_first():
                style = run.renderer.call_style
                found.append(write_result(one, items, all_replies, path, style=style, facts=facts))
                draft.unlink()
    processes.wait_for_all("evaluate_files")
    return found


def _asked(run: Run, chosen: Chosen, noise: str, seed: int) -> tuple[list[Noisy], TaskSet]:
    limits = run.config.evaluate
    items = noisy_items(chosen, noise, seed, limits.max_tasks)
    plain = [one.item for one in items]
    length = limits.max_prompt_length
    return items, task_set(chosen.suite, plain, run.renderer, max_prompt_length=length)


def _begin(draft: Path, facts: Any, replies: dict[str, Reply], items: dict[str, Any]) -> None:
    """Write the file of replies anew, without a line that was cut off."""
    lines = [facts, *(reply_line(items[name], reply) for name, reply in replies.items())]
    draft.parent.mkdir(parents=True, exist_ok=True)
    draft.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def _parts(tasks: TaskSet, done: dict[str, Reply], batch_size: int) -> list[TaskSet]:
    """Return the items that are left, the short prompts first, some batches each."""
    left = [at for at, item in enumerate(tasks.items) if item.id not in done]
    left.sort(key=lambda at: len(tasks.prompts[at]))
    size = _BATCHES * batch_size
    return [
        TaskSet(
            tasks.suite,
            tuple(tasks.items[at] for at in left[start : start + size]),
            tuple(tasks.prompts[at] for at in left[start : start + size]),
        )
        for start in range(0, len(left), size)
    ]
