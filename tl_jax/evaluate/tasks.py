"""Generate greedily for a set of prompts and score the calls."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.data.examples.build import Prompt
from tl_jax.data.render.renderer import Renderer
from tl_jax.evaluate.scores import TurnScore, summarise, summarise_groups
from tl_jax.sampling.sampler import Constraint, Sampler, generate, reply_text
from tl_jax.types import Params

Scorer = Callable[[ToolCall | None, Prompt], TurnScore]


@dataclasses.dataclass(frozen=True)
class TaskSet:
    """Prompts with gold calls and the rule that scores them.

    Attributes:
      name: Of the set, such as ``"synthetic/seen"``.
      prompts: What is generated from.
      score: The rule.
      skipped: Prompts that are too long to be generated from; they count as wrong.
      group: Names the group of a prompt, if groups are summarised apart.
      other_rules: Further rules for the same replies, by the name of their summary.
    """

    name: str
    prompts: tuple[Prompt, ...]
    score: Scorer
    skipped: tuple[Prompt, ...] = ()
    group: Callable[[Prompt], str] | None = None
    other_rules: Mapping[str, Scorer] = dataclasses.field(default_factory=dict)


def evaluate(
    task_set: TaskSet,
    params: Params,
    *,
    sample: Sampler,
    renderer: Renderer,
    batch_size: int,
    constrain: Callable[[Sequence[ToolSpec]], Constraint] | None = None,
    on_done: Callable[[int], None] = lambda done: None,
) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """Generate one reply per prompt and score it.

    Args:
      task_set: What to score.
      params: Model parameters.
      sample: Greedy sampler.
      renderer: Of the model; reads the replies.
      batch_size: Rows of the sampler.
      constrain: Makes the constraint of a prompt from its tools; None lets the model write what it
        likes.
      on_done: Told how many prompts are done, whenever some are.

    Returns:
      ``(summaries, records)``. Summaries by name, those of ``scores.summarise``; that of the set
      also holds its groups, the share of replies that are calls, the generated tokens, the
      seconds taken and the tokens per second. One JSON-ready record per prompt, first those that
      are skipped, whose replies are empty.
    """
    began = time.monotonic()
    # Each with its prompt; what is too long is never asked.
    replies: list[tuple[str, ToolCall | None, Prompt]] = [("", None, p) for p in task_set.skipped]
    generations = generate(
        sample,
        params,
        [prompt.ids for prompt in task_set.prompts],
        jax.random.split(jax.random.key(0), len(task_set.prompts)),
        batch_size=batch_size,
        constraints=[constrain(prompt.tools) for prompt in task_set.prompts] if constrain else (),
        on_done=on_done,
    )
    for prompt, generation in zip(task_set.prompts, generations, strict=True):
        # A control token inside a reply makes it no call, but for those of its style.
        text = reply_text(generation, renderer.tokenizer)
        call = renderer.parse_call(text, prompt.tools) if generation.finished else None
        replies.append((text, call, prompt))
    tokens = sum(len(generation.ids) for generation in generations)
    seconds = time.monotonic() - began
    scores = [task_set.score(call, prompt) for _, call, prompt in replies]
    summary = summarise(scores)
    if task_set.group is not None:
        groups = [task_set.group(prompt) for _, _, prompt in replies]
        summary["groups"] = summarise_groups(scores, groups)
    parsed = sum(call is not None for _, call, _ in replies)
    summary["parsed_percent"] = 100.0 * parsed / max(len(scores), 1)
    summary["too_long"] = len(task_set.skipped)
    summary |= {"tokens": tokens, "seconds": seconds, "tokens_per_s": tokens / seconds}
    others = {
        name: summarise([rule(call, prompt) for _, call, prompt in replies])
        for name, rule in task_set.other_rules.items()
    }
    records = [
        {
            "set": task_set.name,
            **({} if task_set.group is None else {"group": task_set.group(prompt)}),
            "prompt_id": prompt.id,
            "reply": text,
            "gold": [renderer.render_calls((gold,)) for gold in prompt.golds],
            "parsed": call is not None,
            **dataclasses.asdict(score),
        }
        for (text, call, prompt), score in zip(replies, scores, strict=True)
    ]
    return {task_set.name: summary, **others}, records
