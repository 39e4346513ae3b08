"""Grouped-query attention over rows of prefix trees, all queries and keys of a row at once.

A row is a forest in depth-first order: plain packed texts, or texts that share their beginnings.
Each token says with one number, ``visible_until``, where the subtree that hangs on it ends.
"""

from __future__ import annotations

import functools
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

SAVED = "attention"
"""Name under which rematerialisation finds the output of attention and its softmax norms."""

Leaf = TypeVar("Leaf")

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


def row_attention(
    q_BNTH: jax.Array,
    k_BKSH: jax.Array,
    v_BKSH: jax.Array,
    queries: Row[jax.Array],
    keys: Row[jax.Array],
    *,
    first: jax.Array | int = 0,
    window: int | jax.Array = 0,
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

    Returns:
      ``[B, N, T, H]`` in the dtype of the queries; softmax in float32.
    """
    B, N, T, H = q_BNTH.shape
    K, S = k_BKSH.shape[1:3]
    q_1T1 = first + jnp.arange(T)[None, :, None]
    visible_BTS = (jnp.arange(S) <= q_1T1) & (q_1T1 < keys.visible_until[:, None])
    if is_limited(window):
        visible_BTS &= queries.positions[:, :, None] - keys.positions[:, None] < window
    bias_BTS = jnp.where(visible_BTS, 0.0, _MASKED)
    q_BKGTH = q_BNTH.reshape(B, K, N // K, T, H) * (H**-0.5)
    return _attend(q_BKGTH, k_BKSH, v_BKSH, bias_BTS).reshape(B, N, T, H)


def is_limited(window: int | jax.Array) -> bool:
    """Whether a window hides anything: a traced one does, and 0 means none."""
    return not isinstance(window, int) or window > 0


def _attended(
    q_BKGTH: jax.Array, k_BKSH: jax.Array, v_BKSH: jax.Array, bias_BTS: jax.Array
) -> jax.Array:
    return _forward(q_BKGTH, k_BKSH, v_BKSH, bias_BTS)[0]


def _forward(
    q_BKGTH: jax.Array, k_BKSH: jax.Array, v_BKSH: jax.Array, bias_BTS: jax.Array
) -> tuple[jax.Array, Any]:
    scores_BKGTS = _scores(q_BKGTH, k_BKSH, bias_BTS)
    most_BKGT = jnp.max(scores_BKGTS, axis=-1, keepdims=True)
    weights_BKGTS = jnp.exp(scores_BKGTS - most_BKGT)
    total_BKGT = jnp.sum(weights_BKGTS, axis=-1, keepdims=True)
    sums_BKGTH = _product("bkgts,bksh->bkgth", weights_BKGTS.astype(v_BKSH.dtype), v_BKSH)
    # Rematerialisation that keeps these two has no second attention to compute.
    out_BKGTH = checkpoint_name((sums_BKGTH / total_BKGT).astype(v_BKSH.dtype), SAVED)
    norm_BKGT = checkpoint_name(most_BKGT + jnp.log(total_BKGT), SAVED)
    return out_BKGTH, (q_BKGTH, k_BKSH, v_BKSH, bias_BTS, out_BKGTH, norm_BKGT)


def _backward(residuals: Any, grad_BKGTH: jax.Array) -> tuple[Any, ...]:
    """Return the gradients; the probabilities are computed again from their norm.

    Source: Dao et al., FlashAttention (2022), appendix B.2.
    """
    q_BKGTH, k_BKSH, v_BKSH, bias_BTS, out_BKGTH, norm_BKGT = residuals
    # What the softmax takes from every score of a query: sum over keys of P * dP.
    shared_BKGT = jnp.sum(
        grad_BKGTH.astype(jnp.float32) * out_BKGTH.astype(jnp.float32), axis=-1, keepdims=True
    )
    probs_BKGTS = jnp.exp(_scores(q_BKGTH, k_BKSH, bias_BTS) - norm_BKGT)
    dprobs_BKGTS = _product("bkgth,bksh->bkgts", grad_BKGTH, v_BKSH)
    dscores_BKGTS = (probs_BKGTS * (dprobs_BKGTS - shared_BKGT)).astype(q_BKGTH.dtype)
    dq_BKGTH = _product("bkgts,bksh->bkgth", dscores_BKGTS, k_BKSH)
    # Keys along the last axis: the other way round, the scores would be transposed, not these.
    dk_BKHS = _product("bkgth,bkgts->bkhs", q_BKGTH, dscores_BKGTS)
    dv_BKHS = _product("bkgth,bkgts->bkhs", grad_BKGTH, probs_BKGTS.astype(v_BKSH.dtype))
    dk_BKSH, dv_BKSH = (x.swapaxes(2, 3).astype(k_BKSH.dtype) for x in (dk_BKHS, dv_BKHS))
    return dq_BKGTH.astype(q_BKGTH.dtype), dk_BKSH, dv_BKSH, None


_attend = jax.custom_vjp(_attended)
_attend.defvjp(_forward, _backward)

_product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


def _scores(q_BKGTH: jax.Array, k_BKSH: jax.Array, bias_BTS: jax.Array) -> jax.Array:
    return _product("bkgth,bksh->bkgts", q_BKGTH, k_BKSH) + bias_BTS[:, None, None]
