"""Pytrees that travel between data, model and train step, and the legend of shape suffixes.

Suffixes used in names and docstrings: B batch, T query time, S key time, D embed, N heads,
K key-value heads, H head dim, F mlp, V vocabulary, L layers, G samples per prompt.
"""

from __future__ import annotations

from typing import Any

import flax.struct
import jax

Params = dict[str, Any]
"""Nested dict of arrays; the only form in which parameters leave ``models/``."""


@flax.struct.dataclass
class Rollout:
    """What reward training adds to a batch; entry ``t`` speaks about ``targets[:, t]``.

    Attributes:
      mask: ``[B, T]`` float32, 1 where ``targets`` is a sampled token (the stop token included).
      old_logprobs: ``[B, T]`` float32 log-probabilities under the policy that sampled.
      advantages: ``[B, T]`` float32.
      returns: ``[B, T]`` float32 value targets.
      old_values: ``[B, T]`` float32 values predicted at rollout time.
      ref_logprobs: ``[B, T]`` float32 log-probabilities under the frozen reference.
    """

    mask: jax.Array
    old_logprobs: jax.Array
    advantages: jax.Array
    returns: jax.Array
    old_values: jax.Array
    ref_logprobs: jax.Array


@flax.struct.dataclass
class Batch:
    """Packed token rows with the loss weight of every target.

    Attributes:
      tokens: ``[B, T]`` int32 input ids.
      targets: ``[B, T]`` int32, the id that follows each input id in its segment.
      weights: ``[B, T]`` float32 cross-entropy weight of each target; 0 is untrained.
      positions: ``[B, T]`` int32 position within the segment, from 0.
      segment_ids: ``[B, T]`` int32 segment number from 1; 0 is padding.
      rollout: Reward-training fields, or None in supervised batches.
    """

    tokens: jax.Array
    targets: jax.Array
    weights: jax.Array
    positions: jax.Array
    segment_ids: jax.Array
    rollout: Rollout | None = None


@flax.struct.dataclass
class TrainState:
    """Everything the train step changes.

    Attributes:
      step: int32 scalar, optimiser steps taken or skipped.
      params: Nested dict of what is trained: everything, or the adapters; reward training adds
        the key ``"value_head"``.
      opt_state: optax state.
      skipped: int32 scalar, steps left out because the gradient was not finite.
      kl_coef: float32 scalar, price of a nat of divergence from the reference; None in the
        supervised phase.
    """

    step: jax.Array
    params: Params
    opt_state: Any
    skipped: jax.Array
    kl_coef: jax.Array | None = None


@flax.struct.dataclass
class StepMetrics:
    """Float32 scalars of one step, over the global batch."""

    loss: jax.Array
    ce_loss: jax.Array
    policy_loss: jax.Array
    value_loss: jax.Array
    weight_sum: jax.Array
    trained_tokens: jax.Array
    tokens: jax.Array
    grad_norm: jax.Array
    learning_rate: jax.Array
    skipped: jax.Array
    approx_kl: jax.Array
    clip_fraction: jax.Array
    ratio: jax.Array
    kl_loss: jax.Array
    max_abs_log_ratio: jax.Array
