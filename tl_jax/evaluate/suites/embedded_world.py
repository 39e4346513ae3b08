"""The embedded tool world: held-out requests with seen tools, in new words, with unseen tools."""

from __future__ import annotations

import functools

from tl_jax.data import synthetic
from tl_jax.data.examples.build import Prompt, build_prompts
from tl_jax.data.mae.labels import label_turns
from tl_jax.evaluate.suites.run_suite import Suite, plain_score
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


SUITES = tuple(
    Suite(
        name=f"synthetic/{split}",
        prompts=functools.partial(synthetic_prompts, split=split),
        score=plain_score,
        group=kind_of_call,
        setting="synthetic_trajectories",
    )
    for split in ("seen", "reworded", "unseen")
)
