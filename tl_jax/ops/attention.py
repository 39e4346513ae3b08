"""Grouped-query attention by segment and position, in chunks of queries."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

QUERY_CHUNK = 256
"""Queries per chunk: scores stay ``[B, N, 256, S]`` and causal rows skip later keys."""

SAVED = "attention"
"""Name under which rematerialisation finds the output of attention and its softmax norms."""

Span = tuple[tuple[int, int], tuple[int, int]]

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
    spans = _spans(T, S, chunk or T, same_tokens, window if isinstance(window, int) else 0)
    biases = []
    for (start, end), (first, last) in spans:
        distance_BTS = q_positions_BT[:, start:end, None] - k_positions_BS[:, None, first:last]
        visible_BTS = (distance_BTS >= 0) & (
            q_segments_BT[:, start:end, None] == k_segments_BS[:, None, first:last]
        )
        if limited:
            visible_BTS &= distance_BTS < window
        biases.append(jnp.where(visible_BTS, 0.0, _MASKED))
    out_BKGTH = _attend(q_BKGTH, k_BKSH, v_BKSH, biases, spans)
    return out_BKGTH.reshape(B, N, T, H)


def _spans(T: int, S: int, chunk: int, same_tokens: bool, window: int) -> tuple[Span, ...]:
    """Return the queries of each chunk and the keys that some of them may see."""
    spans = []
    for start in range(0, T, chunk):
        end = min(start + chunk, T)
        first, last = 0, end if same_tokens else S
        if same_tokens and window:
            # Positions rise by at least one from token to token of a segment.
            first = max(0, start - window + 1)
        spans.append(((start, end), (first, last)))
    return tuple(spans)


def _attended(
    q_BKGTH: jax.Array,
    k_BKSH: jax.Array,
    v_BKSH: jax.Array,
    biases: list[jax.Array],
    spans: tuple[Span, ...],
) -> jax.Array:
    return _forward(q_BKGTH, k_BKSH, v_BKSH, biases, spans)[0]


def _forward(
    q_BKGTH: jax.Array, k_BKSH: jax.Array, v_BKSH: jax.Array, biases: Any, spans: Any
) -> tuple[jax.Array, Any]:
    outputs, norms = [], []
    for bias_BTS, ((start, end), (first, last)) in zip(biases, spans, strict=True):
        scores_BKGTS = _scores(q_BKGTH[:, :, :, start:end], k_BKSH[:, :, first:last], bias_BTS)
        most_BKGT = jnp.max(scores_BKGTS, axis=-1, keepdims=True)
        weights_BKGTS = jnp.exp(scores_BKGTS - most_BKGT)
        total_BKGT = jnp.sum(weights_BKGTS, axis=-1, keepdims=True)
        sums_BKGTH = jnp.einsum(
            "bkgts,bksh->bkgth",
            weights_BKGTS.astype(v_BKSH.dtype),
            v_BKSH[:, :, first:last],
            preferred_element_type=jnp.float32,
        )
        outputs.append((sums_BKGTH / total_BKGT).astype(v_BKSH.dtype))
        norms.append(most_BKGT + jnp.log(total_BKGT))
    # Rematerialisation that keeps these two has no second attention to compute.
    out_BKGTH = checkpoint_name(jnp.concatenate(outputs, axis=3), SAVED)
    norm_BKGT = checkpoint_name(jnp.concatenate(norms, axis=3), SAVED)
    return out_BKGTH, (q_BKGTH, k_BKSH, v_BKSH, biases, out_BKGTH, norm_BKGT)


def _backward(spans: Any, residuals: Any, grad_BKGTH: jax.Array) -> tuple[Any, ...]:
    """Return the gradients; the probabilities are computed again from their norm.

    Source: Dao et al., FlashAttention (2022), appendix B.2.
    """
    q_BKGTH, k_BKSH, v_BKSH, biases, out_BKGTH, norm_BKGT = residuals
    # What the softmax takes from every score of a query: sum over keys of P * dP.
    shared_BKGT = jnp.sum(
        grad_BKGTH.astype(jnp.float32) * out_BKGTH.astype(jnp.float32), axis=-1, keepdims=True
    )
    # Keys along the last axis: the other way round, the scores would be transposed, not these.
    dq, dk_BKHS = [], jnp.zeros(k_BKSH.swapaxes(2, 3).shape, jnp.float32)
    dv_BKHS = dk_BKHS
    product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
    for bias_BTS, ((start, end), (first, last)) in zip(biases, spans, strict=True):
        q, grad = q_BKGTH[:, :, :, start:end], grad_BKGTH[:, :, :, start:end]
        k, v = k_BKSH[:, :, first:last], v_BKSH[:, :, first:last]
        probs_BKGTS = jnp.exp(_scores(q, k, bias_BTS) - norm_BKGT[:, :, :, start:end])
        dprobs_BKGTS = product("bkgth,bksh->bkgts", grad, v)
        dscores_BKGTS = probs_BKGTS * (dprobs_BKGTS - shared_BKGT[:, :, :, start:end])
        dscores_BKGTS = dscores_BKGTS.astype(q.dtype)
        dq.append(product("bkgts,bksh->bkgth", dscores_BKGTS, k))
        dk_BKHS = dk_BKHS.at[..., first:last].add(product("bkgth,bkgts->bkhs", q, dscores_BKGTS))
        dv_BKHS = dv_BKHS.at[..., first:last].add(
            product("bkgth,bkgts->bkhs", grad, probs_BKGTS.astype(v.dtype))
        )
    dq_BKGTH = jnp.concatenate(dq, axis=3).astype(q_BKGTH.dtype)
    dk_BKSH, dv_BKSH = (x.swapaxes(2, 3).astype(k_BKSH.dtype) for x in (dk_BKHS, dv_BKHS))
    return dq_BKGTH, dk_BKSH, dv_BKSH, None


_attend = jax.custom_vjp(_attended, nondiff_argnums=(4,))
_attend.defvjp(_forward, _backward)


def _scores(q_BKGTH: jax.Array, k_BKSH: jax.Array, bias_BTS: jax.Array) -> jax.Array:
    scores_BKGTS = jnp.einsum(
        "bkgth,bksh->bkgts", q_BKGTH, k_BKSH, preferred_element_type=jnp.float32
    )
    return scores_BKGTS + bias_BTS[:, None, None]
