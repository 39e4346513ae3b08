"""Rows of a table by number, whose gradients are added in float32."""

from __future__ import annotations

import jax
import jax.numpy as jnp


@jax.custom_vjp
def look_up(table_VD: jax.Array, ids: jax.Array) -> jax.Array:
    """Return the rows ``ids`` of a table, ``[..., D]``.

    The gradient of a row is a sum over all places where it was looked up. In the type of the table
    that would be added one by one: in bfloat16 a sum that reaches 256 times its summands grows no
    further, so that of a frequent token (a line end, a tag of the chat template) little would be
    left. It is added in float32 and rounded once.

    Args:
      table_VD: A row per number.
      ids: Numbers of rows, of any shape.
    """
    return jnp.take(table_VD, ids, axis=0)


def _forward(table_VD: jax.Array, ids: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    # Of the table only its length and type are kept.
    return look_up(table_VD, ids), (ids, jnp.empty((table_VD.shape[0], 0), table_VD.dtype))


def _backward(kept: tuple[jax.Array, jax.Array], grads: jax.Array) -> tuple[jax.Array, None]:
    ids, shape_V0 = kept
    zeros_VD = jnp.zeros((shape_V0.shape[0], grads.shape[-1]), jnp.float32)
    return zeros_VD.at[ids].add(grads.astype(jnp.float32)).astype(shape_V0.dtype), None


look_up.defvjp(_forward, _backward)
