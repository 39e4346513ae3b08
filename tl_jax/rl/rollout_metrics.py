"""What a rollout tells about itself: rewards, categories, divergence, lengths."""

from __future__ import annotations

import collections
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from tl_jax.ops.policy import kl_estimates
from tl_jax.rewards import taxonomy
from tl_jax.rl.episode import Episode
from tl_jax.rl.scoring import Record


def sample_metrics(
    records: Sequence[Record], episodes: Sequence[Episode], group_size: int
) -> dict[str, float]:
    """Return rewards, shares of categories and lengths of a rollout's samples."""
    rewards = np.array([record["reward"] for record in records], np.float32)
    counts = collections.Counter(record["category"] for record in records)
    # That of a user's own reward only where there is one.
    names = (*taxonomy.CATEGORIES, *((taxonomy.CUSTOM,) if counts[taxonomy.CUSTOM] else ()))
    shares = {f"category/{name}": counts[name] / len(records) for name in names}
    return {
        "reward_mean": float(rewards.mean()),
        "reward_std": float(rewards.std()),
        # Samples of one reward tell a comparison within the group nothing.
        "equal_groups_share": float(np.mean(np.ptp(rewards.reshape(-1, group_size), axis=1) == 0)),
        **shares,
        "truncated_share": float(np.mean([not e.last.finished for e in episodes])),
        "response_length": float(np.mean([len(e.logprobs) for e in episodes])),
    }


def token_metrics(
    logprobs_BT: np.ndarray,
    ref_logprobs_BT: np.ndarray,
    entropy_BT: np.ndarray,
    mask_BT: np.ndarray,
) -> dict[str, float]:
    """Return divergence from the reference and entropy, means over the sampled tokens."""
    k1_BT, _, k3_BT = kl_estimates(logprobs_BT, ref_logprobs_BT)
    arrays = {"kl_k1": k1_BT, "kl_k3": k3_BT, "entropy": entropy_BT}
    count = mask_BT.sum()
    return {
        name: float(jnp.sum(jnp.where(mask_BT > 0, array_BT, 0.0)) / count)
        for name, array_BT in arrays.items()
    }


def sampler_gap(episodes: Sequence[Episode], logprobs_BT: np.ndarray, mask_BT: np.ndarray) -> float:
    """Return the largest absolute difference between sampler and training log-probabilities."""
    sampled = np.concatenate([episode.logprobs for episode in episodes])
    return float(np.max(np.abs(sampled - np.asarray(logprobs_BT)[mask_BT > 0])))
