"""Grouped-query attention by segment and position, in chunks of queries."""

from __future__ import annotations

import jax
import jax.numpy as jnp

QUERY_CHUNK = 256
"""Queries per chunk: scores stay ``[B, N, 256, S]`` and causal rows skip later keys."""

_MASKED = -1e30  # finite, so that rows without a visible key give no NaN


def attention(
    q_BNTH: jax.Array,
    k_BKSH: jax.Array,
    v_BKSH: jax.Array,
    *,
    q_positions_BT: jax.Array,
    k_positions_BS: jax.Array,
    q_segments_BT: jax.Array,
    k_segments_BS: jax.Array,
    same_tokens: bool,
    chunk: int = QUERY_CHUNK,
) -> jax.Array:
    """Attend to keys of the same segment at the same or an earlier position.

    Args:
      q_BNTH: Queries, heads before time.
      k_BKSH: Keys; N is a multiple of K.
      v_BKSH: Values.
      q_positions_BT: Position of each query in its segment.
      k_positions_BS: Position of each key.
      q_segments_BT: Segment of each query.
      k_segments_BS: Segment of each key.
      same_tokens: Queries and keys are the same packed tokens in order, so keys behind the end
        of a chunk of queries cannot be visible and are not computed.
      chunk: Queries per chunk; 0 means all at once.

    Returns:
      ``[B, N, T, H]`` in the dtype of the queries; softmax in float32.
    """
    B, N, T, H = q_BNTH.shape
    K, S = k_BKSH.shape[1:3]
    q_BKGTH = q_BNTH.reshape(B, K, N // K, T, H) * (H**-0.5)
    chunk = chunk or T
    outputs = []
    for start in range(0, T, chunk):
        end = min(start + chunk, T)
        last = end if same_tokens else S
        visible_BTS = (q_segments_BT[:, start:end, None] == k_segments_BS[:, None, :last]) & (
            q_positions_BT[:, start:end, None] >= k_positions_BS[:, None, :last]
        )
        scores_BKGTS = jnp.einsum(
            "bkgth,bksh->bkgts",
            q_BKGTH[:, :, :, start:end],
            k_BKSH[:, :, :last],
            preferred_element_type=jnp.float32,
        )
        scores_BKGTS = jnp.where(visible_BTS[:, None, None], scores_BKGTS, _MASKED)
        probs_BKGTS = jax.nn.softmax(scores_BKGTS, axis=-1).astype(v_BKSH.dtype)
        outputs.append(jnp.einsum("bkgts,bksh->bkgth", probs_BKGTS, v_BKSH[:, :, :last]))
    out_BKGTH = outputs[0] if len(outputs) == 1 else jnp.concatenate(outputs, axis=3)
    return out_BKGTH.reshape(B, N, T, H)
