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
    window: int | jax.Array = 0,
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
        of a chunk of queries, or further before it than the window, cannot be visible and are
        not computed.
      window: Positions a query sees, its own included; 0 means all. A traced number must not be
        0, and saves no computation.
      chunk: Queries per chunk; 0 means all at once.

    Returns:
      ``[B, N, T, H]`` in the dtype of the queries; softmax in float32.
    """
    B, N, T, H = q_BNTH.shape
    K, S = k_BKSH.shape[1:3]
    q_BKGTH = q_BNTH.reshape(B, K, N // K, T, H) * (H**-0.5)
    limited = not isinstance(window, int) or window > 0
    chunk = chunk or T
    outputs = []
    for start in range(0, T, chunk):
        end = min(start + chunk, T)
        first, last = 0, end if same_tokens else S
        if same_tokens and isinstance(window, int) and window:
            # Positions rise by at least one from token to token of a segment.
            first = max(0, start - window + 1)
        distance_BTS = q_positions_BT[:, start:end, None] - k_positions_BS[:, None, first:last]
        visible_BTS = (distance_BTS >= 0) & (
            q_segments_BT[:, start:end, None] == k_segments_BS[:, None, first:last]
        )
        if limited:
            visible_BTS &= distance_BTS < window
        scores_BKGTS = jnp.einsum(
            "bkgth,bksh->bkgts",
            q_BKGTH[:, :, :, start:end],
            k_BKSH[:, :, first:last],
            preferred_element_type=jnp.float32,
        )
        scores_BKGTS = jnp.where(visible_BTS[:, None, None], scores_BKGTS, _MASKED)
        probs_BKGTS = jax.nn.softmax(scores_BKGTS, axis=-1).astype(v_BKSH.dtype)
        outputs.append(jnp.einsum("bkgts,bksh->bkgth", probs_BKGTS, v_BKSH[:, :, first:last]))
    out_BKGTH = outputs[0] if len(outputs) == 1 else jnp.concatenate(outputs, axis=3)
    return out_BKGTH.reshape(B, N, T, H)
