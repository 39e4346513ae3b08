"""Attention of rows of prefix trees by our own Pallas kernels for TPUs.

Their grids run over the pairs of blocks that see each other, whose number is known with the batch
only: what is hidden costs neither a step, nor a transfer, nor a product.
"""

from __future__ import annotations

from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from tl_jax.ops import seen_blocks
from tl_jax.ops.seen_blocks import Facts
from tl_jax.ops.tree_backward import backward
from tl_jax.ops.tree_blocks import LANES
from tl_jax.ops.tree_forward import forward


class Blocks(Protocol):
    """How the kernels cut up queries and keys."""

    @property
    def block_q(self) -> int: ...
    @property
    def block_kv(self) -> int: ...


def tree_attention(
    q_BNTH: jax.Array,
    k_BKSH: jax.Array,
    v_BKSH: jax.Array,
    facts: Facts,
    *,
    blocks: Blocks,
    saved_name: str,
    interpret: bool,
) -> jax.Array:
    """Attend by the rule of ``seen_blocks``, on one device.

    Args:
      q_BNTH: Queries, heads before time, of all tokens or of a part of them in order.
      k_BKSH: Keys of all tokens; N is a multiple of K.
      v_BKSH: Values.
      facts: Who sees whom.
      blocks: Sizes in tokens, rounded up to multiples of 128; a longer block than the rows is cut
        to them.
      saved_name: Name under which rematerialisation finds the output and its softmax norms.
      interpret: Compute the kernel's steps in plain JAX, for devices that are no TPU.

    Returns:
      ``[B, N, T, H]`` in the dtype of the queries; softmax in float32. A query that sees no key
      gets 0.
    """
    T, H = q_BNTH.shape[2:]
    block_q = min(_rounded(blocks.block_q), _rounded(T))
    block_k = min(_rounded(blocks.block_kv), _rounded(k_BKSH.shape[2]))
    q, k, v = (
        jnp.pad(x, ((0, 0), (0, 0), (0, -x.shape[2] % block), (0, 0)))
        for x, block in ((q_BNTH * (H**-0.5), block_q), (k_BKSH, block_k), (v_BKSH, block_k))
    )
    facts = seen_blocks.padded(facts, block_q, block_k)
    return _attend(q, k, v, facts, saved_name, (block_q, block_k), interpret)[:, :, :T]


def _attended(
    q_BNTH: jax.Array,
    k_BKSH: jax.Array,
    v_BKSH: jax.Array,
    facts: Facts,
    name: str,
    sizes: tuple[int, int],
    interpret: bool,
) -> jax.Array:
    return _forward(q_BNTH, k_BKSH, v_BKSH, facts, name, sizes, interpret)[0]


def _forward(
    q_BNTH: jax.Array,
    k_BKSH: jax.Array,
    v_BKSH: jax.Array,
    facts: Facts,
    name: str,
    sizes: tuple[int, int],
    interpret: bool,
) -> tuple[jax.Array, Any]:
    out_BNTH, norm_BN1T = forward(q_BNTH, k_BKSH, v_BKSH, facts, *sizes, interpret=interpret)
    # Rematerialisation that keeps these two has no second attention to compute.
    out_BNTH, norm_BN1T = (checkpoint_name(x, name) for x in (out_BNTH, norm_BN1T))
    return out_BNTH, (q_BNTH, k_BKSH, v_BKSH, facts, out_BNTH, norm_BN1T)


def _backward(
    name: str, sizes: tuple[int, int], interpret: bool, residuals: Any, grad_BNTH: jax.Array
) -> tuple[Any, ...]:
    del name
    q_BNTH, k_BKSH, v_BKSH, facts, out_BNTH, norm_BN1T = residuals
    made = (out_BNTH, norm_BN1T, grad_BNTH)
    grads = backward(q_BNTH, k_BKSH, v_BKSH, facts, *made, *sizes, interpret=interpret)
    return *grads, None


_attend = jax.custom_vjp(_attended, nondiff_argnums=(4, 5, 6))
_attend.defvjp(_forward, _backward)


def _rounded(size: int) -> int:
    return -(-size // LANES) * LANES
