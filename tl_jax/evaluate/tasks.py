"""Generate greedily for the items of a suite and judge the replies."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from tl_jax.calls.call import ToolSpec
from tl_jax.data.render.renderer import Renderer
from tl_jax.evaluate import results
from tl_jax.evaluate.results import NOT_ENDED, TOO_LONG, Reply
from tl_jax.evaluate.suites.suite import Item, Suite
from tl_jax.sampling.sampler import Constraint, Sampler, generate, reply_text
from tl_jax.types import Params

Constrain = Callable[[Sequence[ToolSpec]], Constraint]


@dataclasses.dataclass(frozen=True)
class TaskSet:
    """Items of a suite as one model is asked them.

    Attributes:
      suite: What judges the replies.
      items: What is generated from.
      prompts: The token ids of each.
      skipped: Items that are too long to be generated from; they count as wrong.
    """

    suite: Suite
    items: tuple[Item, ...]
    prompts: tuple[Sequence[int], ...]
    skipped: tuple[Item, ...] = ()


def task_set(
    suite: Suite, items: Sequence[Item], renderer: Renderer, *, max_prompt_length: int
) -> TaskSet:
    """Write the prompts of items, but for those that were prepared, and part off the too long.

    Raises:
      ValueError: The text form has no place for a dialogue; the message names the item.
    """
    prompts = []
    for item in items:
        try:
            prompts.append(item.ids or renderer.prompt_ids(item.tools, item.messages))
        except ValueError as error:
            raise ValueError(f"{suite.name}: item {item.id}: {error}") from error
    fits = [len(ids) <= max_prompt_length for ids in prompts]
    return TaskSet(
        suite,
        tuple(item for item, fit in zip(items, fits, strict=True) if fit),
        tuple(ids for ids, fit in zip(prompts, fits, strict=True) if fit),
        tuple(item for item, fit in zip(items, fits, strict=True) if not fit),
    )


def ask(
    tasks: TaskSet,
    params: Params,
    *,
    sample: Sampler,
    renderer: Renderer,
    batch_size: int,
    constrain: Constrain | None = None,
    on_done: Callable[[int], None] = lambda done: None,
) -> tuple[list[Reply], int]:
    """Generate one reply per item.

    Args:
      tasks: What to ask.
      params: Model parameters.
      sample: Greedy sampler.
      renderer: Of the model.
      batch_size: Rows of the sampler.
      constrain: Makes the constraint of a prompt from its tools; None lets the model write what it
        likes.
      on_done: Told how many items are done, whenever some are.

    Returns:
      The replies, control tokens included: one inside a reply makes it no call, but for those of
      its style. And the number of tokens generated.
    """
    generations = generate(
        sample,
        params,
        tasks.prompts,
        jax.random.split(jax.random.key(0), len(tasks.prompts)),
        batch_size=batch_size,
        constraints=[constrain(item.tools) for item in tasks.items] if constrain else (),
        on_done=on_done,
    )
    replies = [
        Reply(reply_text(made, renderer.tokenizer), "" if made.finished else NOT_ENDED)
        for made in generations
    ]
    return replies, sum(len(made.ids) for made in generations)


def evaluate(
    tasks: TaskSet,
    params: Params,
    *,
    sample: Sampler,
    renderer: Renderer,
    batch_size: int,
    constrain: Constrain | None = None,
    on_done: Callable[[int], None] = lambda done: None,
) -> tuple[dict[str, dict[str, Any]], dict[str, Any], list[dict[str, Any]]]:
    """Generate one reply per item and judge it; arguments as for ``ask``.

    Returns:
      ``(sets, scores, records)``: TS, PI and CF by set (``results.score_sets``), where that of the
      suite also holds the share of replies that are calls, how many of how many tasks were too
      long, the generated tokens, the seconds taken and the tokens per second; ``results.scored``;
      and one record per item, first those that are skipped, whose replies are empty.
    """
    began = time.monotonic()
    asked, tokens = ask(
        tasks,
        params,
        sample=sample,
        renderer=renderer,
        batch_size=batch_size,
        constrain=constrain,
        on_done=on_done,
    )
    seconds = time.monotonic() - began
    suite, style = tasks.suite, renderer.call_style
    items = [*tasks.skipped, *tasks.items]
    replies = [*(Reply("", TOO_LONG) for _ in tasks.skipped), *asked]
    verdicts = [
        results.judge(suite, item, reply, style) for item, reply in zip(items, replies, strict=True)
    ]
    records = [
        results.record(suite, item, reply, verdict, style, renderer.render_calls)
        for item, reply, verdict in zip(items, replies, verdicts, strict=True)
    ]
    sets = results.score_sets(suite, items, verdicts)
    parsed = sum(line["parsed"] for line in records)
    first = sets.setdefault(suite.name, {"items": len(items)})
    first |= {
        "parsed_percent": 100.0 * parsed / max(len(items), 1),
        "too_long": len(tasks.skipped),
        "tasks": len(items),
        "tokens": tokens,
        "seconds": seconds,
        "tokens_per_s": tokens / seconds,
    }
    return sets, results.scored(suite, items, replies, verdicts), records
