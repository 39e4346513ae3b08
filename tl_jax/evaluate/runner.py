"""Generate greedily for a set of prompts and score the calls."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from tl_jax.calls.call import ToolCall
from tl_jax.calls.parse import CallSyntaxError, parse_call, reply_call_text
from tl_jax.calls.render import render_call
from tl_jax.data.examples import Prompt
from tl_jax.data.tokenizer import Tokenizer
from tl_jax.evaluate.scores import TurnScore, summarise, summarise_groups
from tl_jax.rl.sampler import Sampler, generate
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


def read_reply(text: str, style: str = "python") -> ToolCall | None:
    """Return the one call of a reply in a call style, or None if it is anything else.

    In the styles that mark their calls a thought may stand before the call.
    """
    try:
        return parse_call(reply_call_text(text, style), style)
    except CallSyntaxError:
        return None


def evaluate(
    task_set: TaskSet,
    params: Params,
    *,
    sample: Sampler,
    tokenizer: Tokenizer,
    batch_size: int,
    call_style: str = "python",
    on_batch: Callable[[int], None] = lambda done: None,
) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """Generate one reply per prompt and score it.

    Args:
      task_set: What to score.
      params: Model parameters.
      sample: Greedy sampler.
      tokenizer: Turns ids into text.
      batch_size: Rows per call of the sampler.
      call_style: Style of the calls, one of ``calls.parse.STYLES``.
      on_batch: Told the number of prompts done after each batch.

    Returns:
      ``(summaries, records)``. Summaries by name, those of ``scores.summarise``; that of the set
      also holds its groups, the share of replies that are calls, the generated tokens, the
      seconds taken and the tokens per second. One JSON-ready record per reply.
    """
    began = time.monotonic()
    records: list[dict[str, Any]] = []
    answers: list[tuple[ToolCall | None, Prompt]] = [(None, p) for p in task_set.skipped]
    tokens = 0
    # Prompts of similar length share a batch; many batches a chunk keeps that and shows progress.
    order = sorted(range(len(task_set.prompts)), key=lambda i: len(task_set.prompts[i].ids))
    for start in range(0, len(order), batch_size):
        prompts = [task_set.prompts[i] for i in order[start : start + batch_size]]
        keys = jax.random.split(jax.random.key(0), len(prompts))
        ids = [prompt.ids for prompt in prompts]
        generations = generate(sample, params, ids, keys, batch_size=batch_size)
        for prompt, generation in zip(prompts, generations, strict=True):
            reply = generation.ids[:-1] if generation.finished else generation.ids
            # A control token inside a reply makes it no call, but for those of its style.
            text = tokenizer.decode(reply, keep_control=True)
            call = read_reply(text, call_style) if generation.finished else None
            tokens += len(generation.ids)
            answers.append((call, prompt))
            records.append(
                {
                    "set": task_set.name,
                    "prompt_id": prompt.id,
                    "reply": text,
                    "gold": [render_call(gold, call_style) for gold in prompt.golds],
                    "parsed": call is not None,
                    **dataclasses.asdict(task_set.score(call, prompt)),
                }
            )
        on_batch(start + len(prompts))
    seconds = time.monotonic() - began
    scores = [task_set.score(*answer) for answer in answers]
    summary = summarise(scores)
    if task_set.group is not None:
        groups = [task_set.group(prompt) for _, prompt in answers]
        summary["groups"] = summarise_groups(scores, groups)
    parsed = sum(record["parsed"] for record in records)
    summary["parsed_percent"] = 100.0 * parsed / max(len(scores), 1)
    summary["too_long"] = len(task_set.skipped)
    summary |= {"tokens": tokens, "seconds": seconds, "tokens_per_s": tokens / seconds}
    others = {
        name: summarise([rule(*answer) for answer in answers])
        for name, rule in task_set.other_rules.items()
    }
    return {task_set.name: summary, **others}, records
