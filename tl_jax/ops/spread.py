"""A kernel for one device on all devices of a mesh: each its own rows, heads and queries."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from tl_jax.ops.attention import Row
from tl_jax.parallel.sharding import parts, spec

_HEADS = ("batch", "act_heads", "length", None)

Kernel = Callable[..., jax.Array]
"""``(q, k, v, queries, keys, part)`` to the output of a device's queries: ``Row`` of its queries
and of all keys, and which of the equal parts of a row its queries are."""


def spread(
    kernel: Kernel,
    q_BNTH: jax.Array,
    k_BKTH: jax.Array,
    v_BKTH: jax.Array,
    row: Row[jax.Array],
) -> jax.Array:
    """Run a kernel on every device's own rows, heads and queries, with the keys of whole rows.

    Args:
      kernel: For one device.
      q_BNTH: Queries of the whole batch, heads before time.
      k_BKTH: Keys of the same tokens; N is a multiple of K.
      v_BKTH: Values.
      row: Of the tokens of the batch.

    Returns:
      ``[B, N, T, H]``.

    Raises:
      ValueError: Rows, heads or tokens that the mesh axes do not divide.
    """
    mesh = jax.sharding.get_abstract_mesh()
    heads, rows = spec(_HEADS), spec(("batch", "length"))
    for size, what, axes in (
        (q_BNTH.shape[0], "rows of a batch", heads[0]),
        (q_BNTH.shape[1], "heads", heads[1]),
        (q_BNTH.shape[2], "tokens of a row", heads[2]),
    ):
        devices = parts(mesh, axes)
        if size % devices:
            raise ValueError(
                f"{size} {what} are not divisible by mesh axes {axes} of size {devices}"
            )
    # With fewer key heads than devices each is held by several.
    devices = parts(mesh, heads[1])
    copies = devices // math.gcd(k_BKTH.shape[1], devices)
    if copies > 1:
        k_BKTH, v_BKTH = (jnp.repeat(x, copies, axis=1) for x in (k_BKTH, v_BKTH))

    def own(
        q_BNTH: jax.Array, k_BKTH: jax.Array, v_BKTH: jax.Array, row: Row[jax.Array]
    ) -> jax.Array:
        if parts(mesh, heads[2]) == 1:
            return kernel(q_BNTH, k_BKTH, v_BKTH, row, row, 0)
        whole = functools.partial(jax.lax.all_gather, axis_name=heads[2], tiled=True)
        k_BKSH, v_BKSH = (whole(x, axis=2) for x in (k_BKTH, v_BKTH))
        keys = jax.tree.map(functools.partial(whole, axis=1), row)
        return kernel(q_BNTH, k_BKSH, v_BKSH, row, keys, jax.lax.axis_index(heads[2]))

    spread_out = jax.shard_map(
        own,
        in_specs=(heads, heads, heads, Row(rows, rows)),
        out_specs=heads,
        check_vma=False,
    )
    return spread_out(q_BNTH, k_BKTH, v_BKTH, row)
