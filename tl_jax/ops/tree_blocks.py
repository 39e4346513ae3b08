"""What the kernels of attention over prefix trees have in common: masks and facts by block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from tl_jax.ops import seen_blocks

LANES = 128
"""Of a TPU register: blocks are multiples of it."""

MASKED = -1e30
"""Score of what is not seen; finite, so that no difference is without a number."""


class Rows(NamedTuple):
    """Facts about the tokens of a pair of blocks, each ``[1, block]``, or how each is cut.

    The positions are None where no window asks for them.
    """

    visible_until: Any
    q_positions: Any
    k_positions: Any


def rows_of(
    facts: seen_blocks.Facts,
    of_queries: Callable[..., Any],
    of_keys: Callable[..., Any],
    block_q: int,
    block_k: int,
) -> tuple[Rows, Rows]:
    """Return the facts as ``[B, 1, T]`` arrays and the blocks of them that a step of a grid reads.

    Args:
      facts: Who sees whom.
      of_queries: Index map to ``(row, 0, block)`` of the queries.
      of_keys: The same of the keys.
      block_q: Queries of a block.
      block_k: Keys of a block.
    """
    known = Rows(facts.visible_until_BS, facts.q_positions_BT, facts.k_positions_BS)
    queries = pl.BlockSpec((None, 1, block_q), of_queries)
    keys = pl.BlockSpec((None, 1, block_k), of_keys)
    if facts.window is None:
        return Rows(known.visible_until[:, None], None, None), Rows(keys, None, None)
    return Rows(*(x[:, None] for x in known)), Rows(keys, queries, keys)


def scalars(facts: seen_blocks.Facts) -> jax.Array:
    """Return the place of the first query and the window (0 for none) as ``[2]`` int32."""
    window = 0 if facts.window is None else facts.window
    return jnp.stack([jnp.asarray(x, jnp.int32) for x in (facts.first, window)])


def mask(
    known: Rows,
    scalars: Any,
    i: Any,
    j: Any,
    shape: tuple[int, ...],
    *,
    limited: bool,
    keys_first: bool = False,
) -> jax.Array:
    """Return which keys the queries of a pair of blocks see.

    Args:
      known: Facts of the pair.
      scalars: From the function of that name.
      i: Number of the block of queries.
      j: Number of the block of keys.
      shape: Queries and keys of a block, or keys and queries.
      limited: There is a window.
      keys_first: The first axis is that of the keys.
    """
    axis = int(keys_first)
    q_places = scalars[0] + i * shape[axis] + jax.lax.broadcasted_iota(jnp.int32, shape, axis)
    k_places = j * shape[1 - axis] + jax.lax.broadcasted_iota(jnp.int32, shape, 1 - axis)

    def along(x: Any, axis: int) -> jax.Array:
        return x[...] if axis else jnp.expand_dims(x[0], 1)

    visible_until = along(known.visible_until, 1 - axis)
    q_positions = k_positions = window = None
    if limited:
        q_positions, k_positions = (
            along(known.q_positions, axis),
            along(known.k_positions, 1 - axis),
        )
        window = scalars[1]
    return seen_blocks.mask((q_places, q_positions), (k_places, k_positions, visible_until), window)


def wide(x_TL: jax.Array, size: int) -> jax.Array:
    """Return ``[T, size]`` of an array whose lanes are all the same."""
    return jnp.tile(x_TL, (1, -(-size // LANES)))[:, :size]


def product(x: jax.Array, y: jax.Array, over: tuple[tuple[int], tuple[int]]) -> jax.Array:
    """Return the float32 product of two matrices, summed over one axis of each."""
    return jax.lax.dot_general(x, y, (over, ((), ())), preferred_element_type=jnp.float32)
