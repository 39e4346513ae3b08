"""Pytrees that travel between data, model and train step, and the legend of shape suffixes.

Suffixes used in names and docstrings: B batch, T query time, S key time, D embed, N heads,
K key-value heads, H head dim, F mlp, V vocabulary, L layers, G samples per prompt.

The same trees hold arrays of the host, arrays of the devices, or what there is to say about one
(its shape, its sharding): ``Batch[np.ndarray]`` comes from the loader, ``Batch[jax.Array]`` is on
the devices, ``TrainState[jax.NamedSharding]`` says where a state lies.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import flax.struct

Params = dict[str, Any]
"""Nested dict of arrays; the only form in which parameters leave ``models/``."""

Leaf = TypeVar("Leaf", covariant=True)
"""What stands at the leaves of a tree."""


class Rollout(Generic[Leaf], flax.struct.PyTreeNode):
    """What reward training adds to a batch; entry ``t`` speaks about ``targets[:, t]``.

    Attributes:
      mask: ``[B, T]`` float32, 1 where ``targets`` is a sampled token (the stop token included).
      old_logprobs: ``[B, T]`` float32 log-probabilities under the policy that sampled.
      advantages: ``[B, T]`` float32.
      returns: ``[B, T]`` float32 value targets.
      old_values: ``[B, T]`` float32 values predicted at rollout time.
      ref_logprobs: ``[B, T]`` float32 log-probabilities under the frozen reference.
    """

    mask: Leaf
    old_logprobs: Leaf
    advantages: Leaf
    returns: Leaf
    old_values: Leaf
    ref_logprobs: Leaf


class Batch(Generic[Leaf], flax.struct.PyTreeNode):
    """Packed token rows with the loss weight of every target.

    A row is a forest of prefix trees in depth-first order: texts that begin alike share the tokens
    of their beginning. Entry ``q`` sees entry ``k`` of its row exactly if
    ``k <= q < visible_until[k]``. A row of plain texts is the forest whose trees have no branches.

    Attributes:
      tokens: ``[B, T]`` int32 input ids.
      targets: ``[B, T]`` int32, the id that follows each input id in its text.
      weights: ``[B, T]`` float32 cross-entropy weight of each target; 0 is untrained.
      positions: ``[B, T]`` int32 position in the text, from 0.
      visible_until: ``[B, T]`` int32 index in the row behind the last entry that may see this one;
        0 is padding.
      rollout: Reward-training fields, or None in supervised batches.
    """

    tokens: Leaf
    targets: Leaf
    weights: Leaf
    positions: Leaf
    visible_until: Leaf
    rollout: Rollout[Leaf] | None = None


class TrainState(Generic[Leaf], flax.struct.PyTreeNode):
    """Everything the train step changes.

    Attributes:
      step: int32 scalar, optimiser steps taken or skipped.
      params: Nested dict of what is trained: everything, or the adapters; reward training adds
        the key ``"value_head"``.
      opt_state: optax state.
      skipped: int32 scalar, steps left out because the gradient was not finite.
      kl_coef: float32 scalar, KL coefficient: what a nat of divergence from the reference costs;
        None in the supervised phase.
    """

    step: Leaf
    params: Params
    opt_state: Any
    skipped: Leaf
    kl_coef: Leaf | None = None


class StepMetrics(Generic[Leaf], flax.struct.PyTreeNode):
    """Float32 scalars of one step, over the global batch."""

    loss: Leaf
    ce_loss: Leaf
    policy_loss: Leaf
    value_loss: Leaf
    weight_sum: Leaf
    trained_tokens: Leaf
    tokens: Leaf
    grad_norm: Leaf
    learning_rate: Leaf
    skipped: Leaf
    approx_kl: Leaf
    clip_fraction: Leaf
    ratio: Leaf
    kl_loss: Leaf
    max_abs_log_ratio: Leaf
