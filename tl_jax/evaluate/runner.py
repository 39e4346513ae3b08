"""Generate greedily for a set of prompts and score the calls."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax

from tl_jax.calls.call import ToolCall
from tl_jax.calls.parse import parse_call
from tl_jax.calls.render import render_call
from tl_jax.calls.syntax import CallSyntaxError
from tl_jax.data.examples import Prompt
from tl_jax.data.tokenizer import Tokenizer
from tl_jax.evaluate.scores import MISS, TurnScore, summarise
from tl_jax.rl.sampler import Sampler, generate
from tl_jax.types import Params

Scorer = Callable[[ToolCall | None, Prompt], TurnScore]


@dataclasses.dataclass(frozen=True)
class TaskSet:
    """Prompts with gold calls and the rule that scores them.

    ``skipped`` counts prompts that were too long to be generated from; they score zero.
    """

    name: str
    prompts: tuple[Prompt, ...]
    score: Scorer
    skipped: int = 0


def read_reply(text: str) -> ToolCall | None:
    """Return the call a reply consists of, or None if it is anything else."""
    try:
        return parse_call(text)
    except CallSyntaxError:
        return None


def evaluate(
    task_set: TaskSet,
    params: Params,
    *,
    sample: Sampler,
    tokenizer: Tokenizer,
    batch_size: int,
    on_batch: Callable[[int], None] = lambda done: None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Generate one reply per prompt and score it.

    Args:
      task_set: What to score.
      params: Model parameters.
      sample: Greedy sampler.
      tokenizer: Turns ids into text.
      batch_size: Rows per call of the sampler.
      on_batch: Told the number of prompts done after each batch.

    Returns:
      ``(summary, records)``: the summary of ``scores.summarise`` with the share of replies that
      are calls and the seconds taken; one JSON-ready record per prompt.
    """
    began = time.monotonic()
    records, scores = [], [MISS] * task_set.skipped
    # Prompts of similar length share a batch; many batches a chunk keeps that and shows progress.
    order = sorted(range(len(task_set.prompts)), key=lambda i: len(task_set.prompts[i].ids))
    for start in range(0, len(order), batch_size):
        prompts = [task_set.prompts[i] for i in order[start : start + batch_size]]
        keys = jax.random.split(jax.random.key(0), len(prompts))
        ids = [prompt.ids for prompt in prompts]
        generations = generate(sample, params, ids, keys, batch_size=batch_size)
        for prompt, generation in zip(prompts, generations, strict=True):
            reply = generation.ids[:-1] if generation.finished else generation.ids
            text = tokenizer.decode(reply)
            call = read_reply(text) if generation.finished else None
            score = task_set.score(call, prompt)
            scores.append(score)
            records.append(
                {
                    "set": task_set.name,
                    "prompt_id": prompt.id,
                    "reply": text,
                    "gold": [render_call(gold) for gold in prompt.golds],
                    "parsed": call is not None,
                    **dataclasses.asdict(score),
                }
            )
        on_batch(start + len(prompts))
    summary = summarise(scores)
    parsed = sum(record["parsed"] for record in records)
    summary["parsed_percent"] = 100.0 * parsed / max(len(scores), 1)
    summary["too_long"] = task_set.skipped
    summary["seconds"] = time.monotonic() - began
    return summary, records
