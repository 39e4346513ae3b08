"""The product of token vectors and a weight matrix."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from tl_jax.parallel.sharding import cut


def matmul(x: jax.Array, kernel_DF: jax.Array, *, out_dtype: str | None = None) -> jax.Array:
    """Return ``x @ kernel`` over the last axis of ``x``, ``[..., D] -> [..., F]``.

    The other axes are one while it is computed: for a gradient over two axes XLA on the CPU first
    writes a transposed copy of its operand, which takes as long as the product. Where devices share
    a row they stay apart: as one axis, rows and tokens could not both be spread.

    Args:
      x: Vectors.
      kernel_DF: The matrix.
      out_dtype: Type of the result and of the sums in it; by default that of the operands.
    """
    if cut("length") > 1:
        return jnp.dot(x, kernel_DF, preferred_element_type=out_dtype)
    x_ND = x.reshape(-1, x.shape[-1])
    out_NF = jnp.dot(x_ND, kernel_DF, preferred_element_type=out_dtype)
    return out_NF.reshape(*x.shape[:-1], kernel_DF.shape[-1])
