"""Attention of new tokens to the keys and values of a cache, block after block of its slots."""

from __future__ import annotations

import jax
import jax.numpy as jnp

SLOT_BLOCK = 256
"""Slots that are read at once; blocks behind the longest row, or before all windows, are not."""

_MASKED = -1e30  # finite, so that a block without a visible key gives no NaN


def cached_attention(
    q_BNTH: jax.Array,
    keys_BKHS: jax.Array,
    values_BKSH: jax.Array,
    positions_BT: jax.Array,
    *,
    window: int = 0,
) -> jax.Array:
    """Attend to the slots of each row up to the one of the query.

    What it costs depends on how far the rows are filled, not on how many slots they have.

    Args:
      q_BNTH: Queries, heads before time.
      keys_BKHS: Keys; the token at a position is in the slot of that number. N is a multiple of K.
      values_BKSH: Values.
      positions_BT: Position of each query in its row.
      window: Positions a query sees, its own included; 0 means all.

    Returns:
      ``[B, N, T, H]`` in the dtype of the values; softmax in float32.
    """
    B, N, T, H = q_BNTH.shape
    K, S = values_BKSH.shape[1:3]
    block = min(SLOT_BLOCK, S)
    q_BKQH = (q_BNTH * (H**-0.5)).reshape(B, K, N // K * T, H)

    def read(number: jax.Array, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        most_BKQ1, total_BKQ1, sums_BKQH = carry
        # The last block may reach back over slots that the one before it has read.
        start = jnp.minimum(number * block, S - block)
        slots_S = start + jnp.arange(block)
        k_BKHS = jax.lax.dynamic_slice_in_dim(keys_BKHS, start, block, 3)
        v_BKSH = jax.lax.dynamic_slice_in_dim(values_BKSH, start, block, 2)
        distance_BTS = positions_BT[:, :, None] - slots_S
        visible_BTS = (distance_BTS >= 0) & (slots_S >= number * block)
        if window:
            visible_BTS &= distance_BTS < window
        bias_BTS = jnp.where(visible_BTS, 0.0, _MASKED)
        scores_BKQS = jnp.einsum(
            "bkqh,bkhs->bkqs", q_BKQH, k_BKHS, preferred_element_type=jnp.float32
        )
        scores_BKGTS = scores_BKQS.reshape(B, K, N // K, T, block) + bias_BTS[:, None, None]
        scores_BKQS = scores_BKGTS.reshape(scores_BKQS.shape)
        higher_BKQ1 = jnp.maximum(most_BKQ1, jnp.max(scores_BKQS, axis=-1, keepdims=True))
        weights_BKQS = jnp.exp(scores_BKQS - higher_BKQ1)
        shrink_BKQ1 = jnp.exp(most_BKQ1 - higher_BKQ1)
        found_BKQH = jnp.einsum(
            "bkqs,bksh->bkqh",
            weights_BKQS.astype(v_BKSH.dtype),
            v_BKSH,
            preferred_element_type=jnp.float32,
        )
        total_BKQ1 = total_BKQ1 * shrink_BKQ1 + jnp.sum(weights_BKQS, axis=-1, keepdims=True)
        return higher_BKQ1, total_BKQ1, sums_BKQH * shrink_BKQ1 + found_BKQH

    zero_BKQ1 = jnp.zeros((*q_BKQH.shape[:3], 1), jnp.float32)
    carry = zero_BKQ1 + _MASKED, zero_BKQ1, jnp.zeros(q_BKQH.shape, jnp.float32)
    if block == S:
        carry = read(jnp.int32(0), carry)
    else:
        first = jnp.maximum(jnp.min(positions_BT) - window + 1, 0) // block if window else 0
        carry = jax.lax.fori_loop(first, jnp.max(positions_BT) // block + 1, read, carry)
    _, total_BKQ1, sums_BKQH = carry
    return (sums_BKQH / total_BKQ1).astype(values_BKSH.dtype).reshape(B, N, T, H)
