"""Policy-gradient arithmetic: KL estimates, token rewards, GAE, whitening, clipped losses.

Arrays are ``[B, T]``; entry ``t`` speaks about the target at ``t``. Masks are 0/1 floats; the
losses take weights in their place, which are 0 where nothing was sampled. What stands at masked
entries, NaN included, changes neither results nor gradients. Everything is computed in float32.
Losses are weighted sums, divided once by the caller by the weights of the global batch.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

MAX_LOG_RATIO = 20.0
"""Log-ratios are clamped to this before exp; a clamp after exp gives NaN gradients."""


def kl_estimates(
    logprobs: jax.Array | np.ndarray, ref_logprobs: jax.Array | np.ndarray
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Estimate KL(policy || reference) per token from samples of the policy.

    Args:
      logprobs: Log-probabilities of the sampled tokens under the policy, any shape.
      ref_logprobs: The same under the reference, same shape.

    Returns:
      ``(k1, k2, k3)`` float32: ``d``, ``d**2 / 2`` and ``exp(-d) - 1 + d`` with
      ``d = logprobs - ref_logprobs``; k3 uses ``d`` clamped to +-20, so it and its gradient stay
      finite.

    Source: Schulman, "Approximating KL divergence" (2020).
    """
    k1 = jnp.asarray(logprobs, jnp.float32) - jnp.asarray(ref_logprobs, jnp.float32)
    log_ratio = jnp.clip(-k1, -MAX_LOG_RATIO, MAX_LOG_RATIO)
    return k1, 0.5 * jnp.square(k1), jnp.expm1(log_ratio) - log_ratio


def token_rewards(
    scores_B: jax.Array,
    old_logprobs_BT: jax.Array,
    ref_logprobs_BT: jax.Array,
    mask_BT: jax.Array,
    *,
    kl_coef: float,
    reward_clip: float,
) -> jax.Array:
    """Spread sequence scores and the KL penalty over tokens.

    Args:
      scores_B: One score per row; fractions survive whatever the other dtypes are.
      old_logprobs_BT: Under the policy that sampled.
      ref_logprobs_BT: Under the frozen reference.
      mask_BT: 1 at sampled tokens.
      kl_coef: Factor of the k1 estimate at every sampled token.
      reward_clip: Scores are clipped to ``[-reward_clip, reward_clip]``.

    Returns:
      ``[B, T]`` float32: ``-kl_coef * k1``, plus the clipped score at the last sampled token of
      each row; 0 at masked entries and in rows without sampled tokens.
    """
    sampled = mask_BT > 0
    k1 = jnp.where(sampled, kl_estimates(old_logprobs_BT, ref_logprobs_BT)[0], 0.0)
    index_T = jnp.arange(mask_BT.shape[1])
    last_B = jnp.max(jnp.where(sampled, index_T, -1), axis=1)
    scores_B = jnp.clip(jnp.asarray(scores_B, jnp.float32), -reward_clip, reward_clip)
    return jnp.where(index_T == last_B[:, None], scores_B[:, None], 0.0) - kl_coef * k1


def gae(
    rewards_BT: jax.Array,
    values_BT: jax.Array,
    mask_BT: jax.Array,
    *,
    gamma: float,
    lam: float,
) -> tuple[jax.Array, jax.Array]:
    """Compute generalised advantage estimates and value targets.

    Masked positions are passed over: they neither discount nor bootstrap, so the token before a
    masked stretch sees the value of the token after it. After the last token the value is 0.

    Args:
      rewards_BT: Token rewards.
      values_BT: Value before each target.
      mask_BT: 1 at sampled tokens.
      gamma: Discount per sampled token.
      lam: Trace decay per sampled token.

    Returns:
      ``(advantages_BT, returns_BT)`` float32, 0 at masked entries;
      ``returns = advantages + values``.

    Source: Schulman et al. 2016 (arXiv 1506.02438), eq. 16.
    """
    sampled = mask_BT > 0
    rewards_BT = jnp.where(sampled, rewards_BT, 0.0).astype(jnp.float32)
    values_BT = jnp.where(sampled, values_BT, 0.0).astype(jnp.float32)

    def backward(carry, inputs):
        advantage_B, next_value_B = carry
        reward_B, value_B, sampled_B = inputs
        delta_B = reward_B + gamma * next_value_B - value_B
        advantage_B = jnp.where(sampled_B, delta_B + gamma * lam * advantage_B, advantage_B)
        return (advantage_B, jnp.where(sampled_B, value_B, next_value_B)), advantage_B

    zeros_B = jnp.zeros(mask_BT.shape[0], jnp.float32)
    inputs_TB = (rewards_BT.T, values_BT.T, sampled.T)
    _, advantages_TB = jax.lax.scan(backward, (zeros_B, zeros_B), inputs_TB, reverse=True)
    advantages_BT = jnp.where(sampled, advantages_TB.T, 0.0)
    return advantages_BT, advantages_BT + values_BT


def whiten(x: jax.Array, mask: jax.Array, *, eps: float = 1e-8) -> jax.Array:
    """Shift and scale the masked-in entries to mean 0 and variance 1 over the whole array.

    The variance is that of the population (no Bessel correction), so a single entry gives 0
    instead of a division by zero. Call it on the global batch: whitening a micro-batch of one row
    would remove the difference between good and bad samples.

    Returns:
      Float32 of the same shape, 0 at masked entries.
    """
    sampled = mask > 0
    x = jnp.where(sampled, x, 0.0).astype(jnp.float32)
    count = jnp.maximum(jnp.sum(sampled.astype(jnp.float32)), 1.0)
    centred = jnp.where(sampled, x - jnp.sum(x) / count, 0.0)
    scale = jax.lax.rsqrt(jnp.sum(jnp.square(centred)) / count + eps)
    return centred * scale


def scaled(x: jax.Array, measure: jax.Array, mask: jax.Array) -> jax.Array:
    """Divide ``x`` by the deviation of the masked-in entries of ``measure``, 0 stays 0.

    A measure that does not vary leaves ``x`` as it is, however small that is.

    Returns:
      Float32 of the same shape, 0 at masked entries.
    """
    sampled = mask > 0
    count = jnp.maximum(jnp.sum(sampled.astype(jnp.float32)), 1.0)
    measure = jnp.where(sampled, measure, 0.0).astype(jnp.float32)
    centred = jnp.where(sampled, measure - jnp.sum(measure) / count, 0.0)
    return jnp.where(sampled, x, 0.0) * _inverse(jnp.sum(jnp.square(centred)) / count)


def _inverse(variance: jax.Array) -> jax.Array:
    """Return one over the deviation, 1 where nothing but rounding varies."""
    return jnp.where(variance > 1e-8, jax.lax.rsqrt(jnp.maximum(variance, 1e-8)), 1.0)


def group_advantages(
    returns_B: jax.Array,
    kept_B: jax.Array,
    group_size: int,
    *,
    leave_one_out: bool,
    scale_by_B: jax.Array | None = None,
) -> jax.Array:
    """Compare each sample with the other samples of its prompt; no critic is needed.

    Args:
      returns_B: Sum of the token rewards of each sample; the samples of a prompt stand together.
      kept_B: Bool, whether a sample takes part; the others get 0 and change nothing.
      group_size: Samples per prompt, at least 2.
      leave_one_out: The baseline of a sample is the mean of the others, which leaves the gradient
        unbiased; else the mean of all, itself included.
      scale_by_B: If given, divide by the standard deviation of these in the group, which makes easy
        and hard prompts count as much as those in between. Pass the rewards: returns also hold the
        KL coefficient, and where all samples have one reward nothing but that would be left
        and be blown up to full size.

    Returns:
      ``[B]`` float32; 0 in groups with fewer than two samples that take part.

    Source: Ahmadian et al. 2024 (arXiv 2402.14740), eq. 9; Shao et al. 2024 (arXiv 2402.03300),
    section 4.1; Liu et al. 2025 (arXiv 2503.20783) on the division.
    """
    kept = kept_B.reshape(-1, group_size).astype(jnp.float32)
    count = jnp.sum(kept, axis=1, keepdims=True)

    def from_mean(x_B: jax.Array) -> jax.Array:
        x = jnp.where(kept > 0, x_B.reshape(-1, group_size), 0.0).astype(jnp.float32)
        mean = jnp.sum(x, axis=1, keepdims=True) / jnp.maximum(count, 1.0)
        return jnp.where((kept > 0) & (count > 1), x - mean, 0.0)

    centred = from_mean(returns_B)
    if scale_by_B is not None:
        squares = jnp.sum(jnp.square(from_mean(scale_by_B)), axis=1, keepdims=True)
        centred = centred * _inverse(squares / jnp.maximum(count, 1.0))
    if leave_one_out:
        centred = centred * count / jnp.maximum(count - 1.0, 1.0)
    return centred.reshape(-1)


def loss_weights(mask_BT: jax.Array, aggregation: str) -> jax.Array:
    """Return the weight of each sampled token in the losses.

    Args:
      mask_BT: 1 at sampled tokens; every row is one sample.
      aggregation: ``"token_mean"`` weighs all tokens alike, so that long samples count more;
        ``"sequence_mean"`` gives every row with sampled tokens the weight 1.

    Raises:
      ValueError: Another aggregation.
    """
    if aggregation == "token_mean":
        return mask_BT
    if aggregation != "sequence_mean":
        raise ValueError(f"unknown aggregation {aggregation!r}")
    return mask_BT / jnp.maximum(jnp.sum(mask_BT, axis=1, keepdims=True), 1.0)


def clipped_policy_loss(
    new_logprobs: jax.Array,
    old_logprobs: jax.Array,
    advantages: jax.Array,
    weights: jax.Array,
    *,
    clip_low: float,
    clip_high: float,
    dual_clip: float = 0.0,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Sum the clipped surrogate loss over sampled tokens.

    ``max(-A * r, -A * clip(r, 1 - clip_low, 1 + clip_high))`` with ``r = exp(new - old)``. With a
    dual clip c the loss of a negative advantage is at most ``-A * c``: a token that has become far
    more likely than it was cannot dominate the batch.

    Args:
      new_logprobs: Under the policy being trained (differentiated).
      old_logprobs: Under the policy that sampled.
      advantages: Constants.
      weights: From ``loss_weights``; divide the loss and the sums by their sum.
      clip_low: How far below 1 the ratio is trusted.
      clip_high: How far above 1 the ratio is trusted.
      dual_clip: Bound above 1; 0 means none.

    Returns:
      ``(loss_sum, stats)``; stats are gradient-free scalars: ``clipped`` (weight of the tokens
      where a clip decides), ``approx_kl`` (sum of k3 between old and new policy), ``ratio`` (sum of
      the ratios) and ``max_abs_log_ratio`` (a maximum, not a sum).

    Source: Schulman et al. 2017 (arXiv 1707.06347), eq. 7; Ye et al. 2020 (arXiv 1912.09729).
    """
    sampled = weights > 0
    new_logprobs = jnp.where(sampled, new_logprobs, 0.0).astype(jnp.float32)
    old_logprobs = jnp.where(sampled, old_logprobs, 0.0).astype(jnp.float32)
    advantages = jax.lax.stop_gradient(jnp.where(sampled, advantages, 0.0).astype(jnp.float32))
    log_ratio = new_logprobs - old_logprobs
    ratio = jnp.exp(jnp.clip(log_ratio, -MAX_LOG_RATIO, MAX_LOG_RATIO))
    free = -advantages * ratio
    bound = -advantages * jnp.clip(ratio, 1.0 - clip_low, 1.0 + clip_high)
    loss = jnp.maximum(free, bound)
    clipped = bound > free
    if dual_clip:
        most = -advantages * dual_clip
        clipped |= (advantages < 0) & (loss > most)
        loss = jnp.where(advantages < 0, jnp.minimum(loss, most), loss)
    stats = {
        "clipped": jnp.sum(weights * clipped),
        "approx_kl": jnp.sum(weights * kl_estimates(old_logprobs, new_logprobs)[2]),
        "ratio": jnp.sum(weights * ratio),
        "max_abs_log_ratio": jnp.max(jnp.abs(log_ratio), initial=0.0),
    }
    return jnp.sum(weights * loss), jax.lax.stop_gradient(stats)


def kl_loss(
    new_logprobs: jax.Array, ref_logprobs: jax.Array, weights: jax.Array, *, estimator: str
) -> jax.Array:
    """Sum an estimate of KL(policy || reference) that is differentiated as a loss.

    The gradient of k2 is, on samples of the policy, that of the divergence; that of k3 is the
    forward divergence's near the reference and stays bounded. k1 as a loss pushes nowhere on
    average, so it is not offered.

    Args:
      new_logprobs: Under the policy being trained (differentiated).
      ref_logprobs: Under the frozen reference.
      weights: From ``loss_weights``.
      estimator: ``"k2"`` or ``"k3"``.

    Source: Schulman, "Approximating KL divergence" (2020).
    """
    sampled = weights > 0
    new_logprobs = jnp.where(sampled, new_logprobs, 0.0)
    ref_logprobs = jax.lax.stop_gradient(jnp.where(sampled, ref_logprobs, 0.0))
    _, k2, k3 = kl_estimates(new_logprobs, ref_logprobs)
    return jnp.sum(weights * {"k2": k2, "k3": k3}[estimator])


def clipped_value_loss(
    values: jax.Array,
    old_values: jax.Array,
    returns: jax.Array,
    weights: jax.Array,
    *,
    clip: float,
) -> jax.Array:
    """Sum the clipped squared value error over sampled tokens.

    ``0.5 * max((v - R)**2, (clip(v, old - clip, old + clip) - R)**2)``.

    Args:
      values: Predictions being trained (differentiated).
      old_values: Predictions at rollout time.
      returns: Value targets.
      weights: From ``loss_weights``; divide the loss by their sum.
      clip: Largest move from ``old_values`` that is trusted, in reward units.

    Returns:
      Float32 scalar.
    """
    sampled = weights > 0
    values = jnp.where(sampled, values, 0.0).astype(jnp.float32)
    old_values = jax.lax.stop_gradient(jnp.where(sampled, old_values, 0.0).astype(jnp.float32))
    returns = jax.lax.stop_gradient(jnp.where(sampled, returns, 0.0).astype(jnp.float32))
    near_old = jnp.clip(values, old_values - clip, old_values + clip)
    errors = jnp.maximum(jnp.square(values - returns), jnp.square(near_old - returns))
    return 0.5 * jnp.sum(weights * errors)
