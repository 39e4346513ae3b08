"""Grouped-query attention over rows of prefix trees and over slots of a cache, by query chunks.

A row is a forest in depth-first order: plain packed texts, or texts that share their beginnings.
Each token says with one number, ``visible_until``, where the subtree that hangs on it ends.
"""

from __future__ import annotations

import functools
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

QUERY_CHUNK = 256
"""Queries per chunk: scores stay ``[B, N, 256, S]`` and chunks skip keys behind their end."""

SAVED = "attention"
"""Name under which rematerialisation finds the output of attention and its softmax norms."""

Leaf = TypeVar("Leaf")

Span = tuple[tuple[int, int], tuple[int, int]]

_MASKED = -1e30  # finite, so that rows without a visible key give no NaN


class Row(NamedTuple, Generic[Leaf]):
    """Facts about the tokens of rows, each ``[B, T]`` int32, or how each is laid out.

    Attributes:
      positions: Depth of the token in its text, from 0.
      visible_until: Index in the row behind the last token that may see this one; 0 is padding. In
        a row of plain texts it is the end of the text.
    """

    positions: Leaf
    visible_until: Leaf


class Slots(NamedTuple):
    """Facts about queries and the slots of a cache, in whatever order those were written.

    Attributes:
      q_positions_BT: Position of each query in its text.
      q_valid_BT: Whether a query is a token.
      k_positions_BS: Position of the token in each slot.
      k_valid_BS: Whether a slot holds a token.
    """

    q_positions_BT: jax.Array
    q_valid_BT: jax.Array
    k_positions_BS: jax.Array
    k_valid_BS: jax.Array


def row_attention(
    q_BNTH: jax.Array,
    k_BKSH: jax.Array,
    v_BKSH: jax.Array,
    queries: Row[jax.Array],
    keys: Row[jax.Array],
    *,
    first: jax.Array | int = 0,
    window: int | jax.Array = 0,
    chunk: int = QUERY_CHUNK,
) -> jax.Array:
    """Let query ``q`` of a row see key ``k`` of it where ``k <= q < visible_until[k]``.

    Args:
      q_BNTH: Queries, heads before time, of whole rows or of one part of them.
      k_BKSH: Keys of whole rows; N is a multiple of K.
      v_BKSH: Values.
      queries: Of the queries; only the positions are read.
      keys: Of the keys.
      first: Index in the row of the first query.
      window: Positions a query sees, its own included; 0 means all. A traced number must not be 0.
      chunk: Queries per chunk; 0 means all at once.

    Returns:
      ``[B, N, T, H]`` in the dtype of the queries; softmax in float32.
    """
    T, S = q_BNTH.shape[2], k_BKSH.shape[2]
    spans = _spans(T, S, chunk or T, causal=T == S)
    biases = []
    for (start, end), (_, last) in spans:
        q_1T1 = first + jnp.arange(start, end)[None, :, None]
        visible_BTS = (jnp.arange(last) <= q_1T1) & (q_1T1 < keys.visible_until[:, None, :last])
        if _limited(window):
            distance_BTS = queries.positions[:, start:end, None] - keys.positions[:, None, :last]
            visible_BTS &= distance_BTS < window
        biases.append(jnp.where(visible_BTS, 0.0, _MASKED))
    return _grouped(q_BNTH, k_BKSH, v_BKSH, biases, spans)


def slot_attention(
    q_BNTH: jax.Array,
    k_BKSH: jax.Array,
    v_BKSH: jax.Array,
    slots: Slots,
    *,
    window: int | jax.Array = 0,
    chunk: int = QUERY_CHUNK,
) -> jax.Array:
    """Attend to the tokens of a cache that stand at the same or an earlier position.

    Args:
      q_BNTH: Queries, heads before time.
      k_BKSH: Keys by slot; N is a multiple of K.
      v_BKSH: Values by slot.
      slots: Where queries and keys stand.
      window: As for ``row_attention``.
      chunk: As for ``row_attention``.

    Returns:
      ``[B, N, T, H]`` in the dtype of the queries; softmax in float32.
    """
    T, S = q_BNTH.shape[2], k_BKSH.shape[2]
    spans = _spans(T, S, chunk or T, causal=False)
    biases = []
    for (start, end), _ in spans:
        distance_BTS = slots.q_positions_BT[:, start:end, None] - slots.k_positions_BS[:, None]
        visible_BTS = (distance_BTS >= 0) & (
            slots.q_valid_BT[:, start:end, None] == slots.k_valid_BS[:, None]
        )
        if _limited(window):
            visible_BTS &= distance_BTS < window
        biases.append(jnp.where(visible_BTS, 0.0, _MASKED))
    return _grouped(q_BNTH, k_BKSH, v_BKSH, biases, spans)


def _limited(window: int | jax.Array) -> bool:
    return not isinstance(window, int) or window > 0


def _spans(T: int, S: int, chunk: int, *, causal: bool) -> tuple[Span, ...]:
    """Return the queries of each chunk and the keys that some of them may see."""
    ends = [(start, min(start + chunk, T)) for start in range(0, T, chunk)]
    return tuple(((start, end), (0, end if causal else S)) for start, end in ends)


def _grouped(
    q_BNTH: jax.Array,
    k_BKSH: jax.Array,
    v_BKSH: jax.Array,
    biases: list[jax.Array],
    spans: tuple[Span, ...],
) -> jax.Array:
    B, N, T, H = q_BNTH.shape
    K = k_BKSH.shape[1]
    q_BKGTH = q_BNTH.reshape(B, K, N // K, T, H) * (H**-0.5)
    return _attend(q_BKGTH, k_BKSH, v_BKSH, biases, spans).reshape(B, N, T, H)


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
