"""Which prompts a step of reward training samples, and how its rows are cut into updates."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from tl_jax.config import PpoConfig
from tl_jax.data.examples.build import Prompt
from tl_jax.data.examples.jsonl import prompt_from_json


class Rows(Protocol):
    """Rows of a file by number."""

    def __getitem__(self, index: int, /) -> Any: ...


class StoredPrompts(Sequence[Prompt]):
    """Prompts in a file, each read when it is asked for.

    Args:
      source: The rows of the file by number.
      lengths: Rows of the prompts, with their tokens.

    Attributes:
      longest: Most tokens of a prompt.
    """

    def __init__(self, source: Rows, lengths: Mapping[int, int]):
        self._source = source
        self._rows = np.array(list(lengths), np.int64)
        self._lengths = lengths
        self.longest = max(lengths.values())

    def __len__(self) -> int:
        return len(self._rows)

    def part(self, places: Sequence[int]) -> StoredPrompts:
        """Return the prompts at some places, at least one."""
        rows = [int(self._rows[place]) for place in places]
        return StoredPrompts(self._source, {row: self._lengths[row] for row in rows})

    def __getitem__(self, index: Any) -> Any:
        return prompt_from_json(self._source[int(self._rows[index])])


def select_prompts(
    prompts: Iterable[Prompt],
    *,
    max_length: int,
    max_reply: int,
    mode: str,
    reply_tokens: Callable[[Prompt], int],
) -> tuple[dict[int, int], dict[str, int]]:
    """Find the prompts that reward training can use, without keeping any.

    Args:
      prompts: As prepared.
      max_length: Most tokens of a prompt.
      max_reply: Most tokens that are sampled. Where the right answer is longer, no sample could be
        right, and training would learn to shorten what must be long.
      mode: Of the reward; ``"reference"``, the published one, needs prompts with exactly one gold
        call.
      reply_tokens: Tells the tokens of a prompt's right answer.

    Returns:
      ``(kept, dropped)``: numbers of the usable prompts, from 0, with their tokens; and counts of
      the others by reason.
    """
    kept: dict[int, int] = {}
    dropped: collections.Counter[str] = collections.Counter()
    for number, prompt in enumerate(prompts):
        if mode == "reference" and len(prompt.golds) != 1:
            dropped["not exactly one gold call"] += 1
        elif len(prompt.ids) > max_length:
            dropped[f"longer than {max_length} tokens"] += 1
        elif reply_tokens(prompt) > max_reply:
            dropped[f"right answer longer than {max_reply} tokens"] += 1
        else:
            kept[number] = len(prompt.ids)
    return kept, dict(dropped)


def choose_prompts(prompts: Sequence[Prompt], count: int, seed: int, step: int) -> list[Prompt]:
    """Return the prompts of a step: every epoch visits all of them in another order."""
    chosen = []
    for place in range(step * count, (step + 1) * count):
        epoch, index = divmod(place, len(prompts))
        order = np.random.default_rng([seed, epoch]).permutation(len(prompts))
        chosen.append(prompts[order[index]])
    return chosen


def minibatches(samples: int, ppo: PpoConfig, seed: int, step: int) -> list[np.ndarray]:
    """Return the samples of each update, sorted: every PPO epoch cuts all of them anew.

    Those of a prompt stay together, so that they are compared and their prompt is computed once;
    only where updates are no whole number of prompts are they cut.
    """
    group = ppo.samples_per_prompt
    parts = []
    for epoch in range(ppo.epochs):
        rng = np.random.default_rng([seed, step, epoch])
        order = rng.permutation(np.arange(samples).reshape(-1, group))
        order = rng.permuted(order, axis=1).reshape(-1)
        parts.extend(np.sort(part) for part in np.split(order, ppo.minibatches))
    return parts
