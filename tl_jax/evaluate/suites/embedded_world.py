"""The embedded tool world: held-out requests with seen tools, in new words, with unseen tools."""

from __future__ import annotations

from typing import Any

from tl_jax.calls.call import ToolCall
from tl_jax.data import synthetic
from tl_jax.data.examples.build import Prompt, build_prompts
from tl_jax.data.mae.labels import label_turns
from tl_jax.evaluate.scores import Policy, TurnScore, score_call
from tl_jax.evaluate.tasks import TaskSet
from tl_jax.run.directory import Run


def synthetic_prompts(run: Run, split: str) -> list[Prompt]:
    """Return one prompt per right call of held-out dialogues, questions to the user included."""
    config = run.config
    prompts = []
    for trajectory in synthetic.trajectories(
        config.evaluate.synthetic_trajectories, seed=config.seed, split=f"test_{split}"
    ):
        found, _ = build_prompts(
            trajectory,
            label_turns(trajectory, "structured"),
            run.renderer,
            max_length=1 << 30,
        )
        prompts.extend(found)
    return prompts


def kind_of_call(prompt: Prompt) -> str:
    """Return ``"finish"``, ``"ask"`` (a question to the user) or ``"service"`` (all others)."""
    return {"finish": "finish", "ask_to_user": "ask"}.get(prompt.golds[0].name, "service")


def limited(run: Run, prompts: list[Prompt], **rules: Any) -> TaskSet:
    """Return the tasks that fit the limits of ``config.evaluate``, and those too long."""
    limits = run.config.evaluate
    prompts = prompts[: limits.max_tasks or len(prompts)]
    fits = [len(prompt.ids) <= limits.max_prompt_length for prompt in prompts]
    return TaskSet(
        prompts=tuple(p for p, fit in zip(prompts, fits, strict=True) if fit),
        skipped=tuple(p for p, fit in zip(prompts, fits, strict=True) if not fit),
        **rules,
    )


def plain_score(call: ToolCall | None, prompt: Prompt) -> TurnScore:
    """Score a call against the gold calls of its prompt."""
    return score_call(call, prompt.golds, tools=prompt.tools, policy=Policy())
