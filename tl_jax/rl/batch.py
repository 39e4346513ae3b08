"""Lay prompts and their sampled replies out as rows for scoring and training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tl_jax.sampling.sampler import bucket_length
from tl_jax.types import Batch


def build_batch(
    prompts: Sequence[Sequence[int]],
    replies: Sequence[Sequence[int]],
    sampled: Sequence[Sequence[bool]],
    *,
    length: int = 0,
) -> tuple[Batch[np.ndarray], np.ndarray]:
    """Lay each prompt and what follows it out as one row.

    Args:
      prompts: Token ids of each row's prompt, at least one.
      replies: Ids after the prompt: those sampled as they came from the sampler, with the stop
        token, or without one if a reply was cut off, and those of feedback between replies.
      sampled: For each of these ids whether it was sampled.
      length: Tokens per row; 0 takes the bucket of the longest row.

    Returns:
      ``(batch, mask_BT)`` of numpy arrays. ``mask_BT`` is
      float32, 1 where the target is a sampled token; it comes from lengths, so a stop token
      counts even if its id is also the padding id. Cross-entropy weights are 0.
    """
    lengths = [len(p) + len(r) - 1 for p, r in zip(prompts, replies, strict=True)]
    shape = (len(prompts), length or bucket_length(max(lengths)))
    tokens, targets, positions, until = (np.zeros(shape, np.int32) for _ in range(4))
    mask = np.zeros(shape, np.float32)
    columns = zip(prompts, replies, sampled, lengths, strict=True)
    for row, (prompt, reply, trained, end) in enumerate(columns):
        text = [*prompt, *reply]
        tokens[row, :end] = text[:-1]
        targets[row, :end] = text[1:]
        positions[row, :end] = np.arange(end)
        until[row, :end] = end
        mask[row, len(prompt) - 1 : end] = trained
    weights = np.zeros(shape, np.float32)
    return Batch(tokens, targets, weights, positions, until), mask
