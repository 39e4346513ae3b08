"""From the arrays of a rollout to what the policy and value losses read."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from tl_jax.ops import policy
from tl_jax.types import Rollout


@functools.partial(
    jax.jit, static_argnames=("whiten", "method", "group_size", "scale_groups", "aggregation")
)
def estimate(
    scores_B: jax.Array,
    old_logprobs_BT: jax.Array,
    ref_logprobs_BT: jax.Array,
    old_values_BT: jax.Array,
    mask_BT: jax.Array,
    *,
    kl_coef: float,
    reward_clip: float,
    gamma: float,
    gae_lambda: float,
    whiten: bool,
    method: str = "gae",
    group_size: int = 1,
    scale_groups: bool = False,
    aggregation: str = "token_mean",
) -> Rollout[jax.Array]:
    """Turn scores, log-probabilities and values into advantages and value targets.

    Args:
      scores_B: Float32 reward of each sampled reply.
      old_logprobs_BT: Under the policy that sampled, from the training forward.
      ref_logprobs_BT: Under the frozen reference, from the same forward.
      old_values_BT: Values predicted at rollout time.
      mask_BT: 1 at sampled tokens.
      kl_coef: Price of a nat of divergence from the reference in the reward; 0 leaves it out.
      reward_clip: Bound on the absolute score.
      gamma: Discount per token.
      gae_lambda: Trace decay per token.
      whiten: Bring advantages to mean 0 and variance 1 over the whole array. Pass the global
        batch; returns stay as they are. Comparisons are only divided by the deviation that they
        have without the KL coefficient: samples of one reward say nothing, a shift would
        move them, and where no prompt's samples differ the divergence alone would be blown up.
      method: ``"gae"`` with the critic, or the comparison of a prompt's samples ``"grpo"`` or
        ``"rloo"``, which gives all tokens of a sample one advantage and reads neither the values
        nor ``gamma`` and ``gae_lambda``.
      group_size: Samples per prompt, standing together (for the comparison).
      scale_groups: Divide by the standard deviation of the scores in each group.
      aggregation: How the losses weigh the tokens of samples (``policy.loss_weights``).

    Returns:
      A ``Rollout`` of ``[B, T]`` float32 arrays, 0 at masked entries.
    """
    rewards_BT = policy.token_rewards(
        scores_B,
        old_logprobs_BT,
        ref_logprobs_BT,
        mask_BT,
        kl_coef=kl_coef,
        reward_clip=reward_clip,
    )
    advantages_BT, returns_BT = policy.gae(
        rewards_BT, old_values_BT, mask_BT, gamma=gamma, lam=gae_lambda
    )
    if method != "gae":
        bounded_B = jnp.clip(scores_B, -reward_clip, reward_clip)
        compared_BT, measure_BT = (
            jnp.broadcast_to(
                policy.group_advantages(
                    of_B,
                    jnp.any(mask_BT > 0, axis=1),
                    group_size,
                    leave_one_out=method == "rloo",
                    scale_by_B=bounded_B if scale_groups else None,
                )[:, None],
                mask_BT.shape,
            )
            for of_B in (jnp.sum(rewards_BT, axis=1), bounded_B)
        )
        advantages_BT = jnp.where(mask_BT > 0, compared_BT, 0.0)
        if whiten:
            advantages_BT = policy.scaled(advantages_BT, measure_BT, mask_BT)
    elif whiten:
        advantages_BT = policy.whiten(advantages_BT, mask_BT)
    return Rollout(
        weights=policy.loss_weights(jnp.asarray(mask_BT, jnp.float32), aggregation),
        old_logprobs=jnp.where(mask_BT > 0, old_logprobs_BT, 0.0).astype(jnp.float32),
        advantages=advantages_BT,
        returns=returns_BT,
        old_values=jnp.where(mask_BT > 0, old_values_BT, 0.0).astype(jnp.float32),
        ref_logprobs=jnp.where(mask_BT > 0, ref_logprobs_BT, 0.0).astype(jnp.float32),
    )


@jax.jit
def explained_variance(rollout: Rollout[jax.Array]) -> jax.Array:
    """Return the share of the returns' variance that the values explain.

    1 is a perfect critic, 0 one that knows no more than the mean; returns that do not vary give 0.
    """
    mask_BT = rollout.weights > 0
    count = jnp.maximum(jnp.sum(mask_BT), 1.0)

    def variance(x_BT: jax.Array) -> jax.Array:
        mean = jnp.sum(x_BT * mask_BT) / count
        return jnp.sum(jnp.square(x_BT - mean) * mask_BT) / count

    total = variance(rollout.returns)
    unexplained = variance(rollout.returns - rollout.old_values)
    return jnp.where(total > 1e-8, 1.0 - unexplained / jnp.maximum(total, 1e-8), 0.0)
