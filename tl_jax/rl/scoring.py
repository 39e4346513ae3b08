"""Reward sampled replies by rule, and keep what the sample log tells of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tl_jax.config import RewardConfig
from tl_jax.data.examples.build import Prompt
from tl_jax.data.render.renderer import Renderer
from tl_jax.rewards import rules
from tl_jax.rl.custom_reward import RewardFunction, custom_reward
from tl_jax.sampling.sampler import Generation, reply_text

Record = dict[str, Any]

_NOT_ENDED = rules.format_error("not ended")


def score_samples(
    prompts: Sequence[Prompt],
    generations: Sequence[Generation],
    *,
    renderer: Renderer,
    reward: RewardConfig,
    step: int,
    function: RewardFunction | None = None,
) -> tuple[np.ndarray, list[Record]]:
    """Reward each sampled reply against the gold calls of its prompt.

    A reply that was cut off before its stop token is a format error, whatever it says so far; the
    published reward alone does not look at the end. Where the prompt has no gold call, a reply in
    the words of the right answer is right, as free texts are compared. Control tokens inside a
    reply are part of its text. A thought before a call that its style marks is not scored.

    Args:
      prompts: One per generation.
      generations: Sampled replies; their stop token is no part of the text.
      renderer: Of the model.
      reward: How replies are scored (see ``rewards.rules``).
      step: Written to the records.
      function: Rewards the replies that were not cut off, in place of the rules.

    Returns:
      ``(scores_B, records)``: float32 rewards (never integers, most are fractions) and, per
      sample, ``step, prompt_id, sampled, gold, category, reward, details``.

    Raises:
      ValueError: A prompt without exactly one gold call, by the published reward.
      RewardError: ``function`` raises or returns no reward.
    """
    replies = [reply_text(generation, renderer.tokenizer) for generation in generations]
    if function is None:
        rewards = rules.score_batch(
            [renderer.call_text(reply) for reply in replies],
            [rules.Parallel(prompt.golds, prompt.reply) for prompt in prompts],
            [prompt.tools for prompt in prompts],
            mode=reward.mode,
            style=renderer.call_style,
            free_text_tools=reward.free_text_tools,
            free_text_match=reward.free_text_match,
            free_text_min_f1=reward.free_text_min_f1,
        )
    else:
        rewards = [
            custom_reward(function, reply, prompt) if generation.finished else _NOT_ENDED
            for reply, prompt, generation in zip(replies, prompts, generations, strict=True)
        ]
    records: list[Record] = []
    for prompt, generation, reply, found in zip(
        prompts, generations, replies, rewards, strict=True
    ):
        if function is None and reward.mode != "reference" and not generation.finished:
            found = _NOT_ENDED
        records.append(
            {
                "step": step,
                "prompt_id": prompt.id,
                "sampled": reply,
                "gold": renderer.render_calls(prompt.golds) if prompt.golds else prompt.reply,
                "category": found.category,
                "reward": found.value,
                "details": list(found.details),
            }
        )
    return np.array([record["reward"] for record in records], np.float32), records
