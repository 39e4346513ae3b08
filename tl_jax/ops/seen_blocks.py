"""What a token sees in a row of prefix trees, and which blocks of keys a block of queries sees.

Query ``q`` sees key ``k`` exactly if ``k <= q < visible_until[k]`` (places in the row) and, with a
sliding window, ``positions[q] - positions[k] < window``. In rows of texts side by side
``visible_until`` is the end of a text; padding has 0.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Facts(NamedTuple):
    """What decides who sees whom, all int32.

    Attributes:
      q_positions_BT: Depth of each query on its path.
      k_positions_BS: Depth of each key.
      visible_until_BS: Place in the row at which the subtree of each key's node ends.
      first: Place of the first query in the row; the others follow.
      window: Positions that a query sees, its own included; None means all.
    """

    q_positions_BT: jax.Array
    k_positions_BS: jax.Array
    visible_until_BS: jax.Array
    first: jax.Array
    window: jax.Array | None


class Lists(NamedTuple):
    """Blocks that are seen, by row and block of the other side.

    Attributes:
      counts_BI: How many.
      blocks_BIJ: Their numbers, ascending; behind them stand those that are not seen.
    """

    counts_BI: jax.Array
    blocks_BIJ: jax.Array


def seen(facts: Facts, block_q: int, block_k: int) -> jax.Array:
    """Return whether some query of a block may see some key of a block, bool ``[B, I, J]``.

    Without a window this is exact. The sizes divide the numbers of queries and keys.
    """
    B, T = facts.q_positions_BT.shape
    S = facts.visible_until_BS.shape[1]
    starts_I = facts.first + jnp.arange(0, T, block_q)
    starts_J = jnp.arange(0, S, block_k)
    until_BJ = jnp.max(facts.visible_until_BS.reshape(B, -1, block_k), axis=2)
    found_BIJ = starts_J < starts_I[:, None] + block_q
    found_BIJ &= until_BJ[:, None] > starts_I[:, None]
    if facts.window is not None:
        nearest_BI = jnp.min(facts.q_positions_BT.reshape(B, -1, block_q), axis=2)
        last_BJ = jnp.max(facts.k_positions_BS.reshape(B, -1, block_k), axis=2)
        found_BIJ &= nearest_BI[:, :, None] - last_BJ[:, None] < facts.window
    return found_BIJ


def wholly_seen(facts: Facts, block_q: int, block_k: int) -> jax.Array:
    """Return whether every query of a block sees every key of a block, bool ``[B, I, J]``.

    The sizes divide the numbers of queries and keys.
    """
    B, T = facts.q_positions_BT.shape
    S = facts.visible_until_BS.shape[1]
    starts_I = facts.first + jnp.arange(0, T, block_q)
    ends_J = jnp.arange(0, S, block_k) + block_k
    until_BJ = jnp.min(facts.visible_until_BS.reshape(B, -1, block_k), axis=2)
    found_BIJ = ends_J <= starts_I[:, None] + 1
    found_BIJ &= until_BJ[:, None] >= starts_I[:, None] + block_q
    if facts.window is not None:
        furthest_BI = jnp.max(facts.q_positions_BT.reshape(B, -1, block_q), axis=2)
        first_BJ = jnp.min(facts.k_positions_BS.reshape(B, -1, block_k), axis=2)
        found_BIJ &= furthest_BI[:, :, None] - first_BJ[:, None] < facts.window
    return found_BIJ


def runs(found_BIJ: jax.Array, length: int) -> tuple[jax.Array, jax.Array]:
    """Cut neighbours J that are true into runs of ``length``, beginning where neighbours begin.

    Returns:
      Where a run begins, and which J are in one, both bool ``[B, I, J]``.
    """
    J = found_BIJ.shape[-1]
    index_J = jnp.arange(J)
    # Neighbours of J that are true, down to the first.
    since_BIJ = index_J - jax.lax.cummax(jnp.where(found_BIJ, -1, index_J), axis=2) - 1
    ends_BIJ = found_BIJ & (since_BIJ % length == length - 1)

    def earlier(x_BIJ: jax.Array, places: int) -> jax.Array:
        return jnp.pad(x_BIJ[..., places:], ((0, 0), (0, 0), (0, places)))

    inside_BIJ = functools.reduce(jnp.logical_or, (earlier(ends_BIJ, n) for n in range(length)))
    return earlier(ends_BIJ, length - 1), inside_BIJ


def lists(seen_BIJ: jax.Array) -> Lists:
    """Return the blocks J that are seen by each block I."""
    order_BIJ = jnp.argsort(~seen_BIJ, axis=-1, stable=True)
    return Lists(jnp.sum(seen_BIJ, axis=-1, dtype=jnp.int32), order_BIJ.astype(jnp.int32))


def padded(facts: Facts, block_q: int, block_k: int) -> Facts:
    """Return the facts with queries and keys filled up to whole blocks; nothing sees the new keys.

    The new queries stand behind the row's own; what they see is nobody's.
    """
    more_q = -facts.q_positions_BT.shape[1] % block_q
    more_k = -facts.k_positions_BS.shape[1] % block_k
    return facts._replace(
        q_positions_BT=jnp.pad(facts.q_positions_BT, ((0, 0), (0, more_q)), mode="edge"),
        k_positions_BS=jnp.pad(facts.k_positions_BS, ((0, 0), (0, more_k))),
        visible_until_BS=jnp.pad(facts.visible_until_BS, ((0, 0), (0, more_k))),
    )


def mask(
    facts_q: tuple[jax.Array, jax.Array | None],
    facts_k: tuple[jax.Array, jax.Array | None, jax.Array],
    window: jax.Array | None,
) -> jax.Array:
    """Return whether each query sees each key, by the rule; shapes broadcast.

    Args:
      facts_q: Places in the row and positions of queries; these may be None without a window.
      facts_k: Places, positions and ends of visibility of keys.
      window: As in ``Facts``.
    """
    (q_places, q_positions), (k_places, k_positions, visible_until) = facts_q, facts_k
    seen_TS = (k_places <= q_places) & (q_places < visible_until)
    if window is not None:
        assert q_positions is not None and k_positions is not None
        seen_TS &= q_positions - k_positions < window
    return seen_TS


class Pairs(NamedTuple):
    """Pairs of blocks that see each other, one after another, for a grid of known length.

    The pairs of a block I stand side by side; each has at least one, so that every block of a
    result is written. Behind ``size`` stands nothing of meaning.

    Attributes:
      size: How many.
      rows_P: Row of the batch.
      own_P: Block I.
      other_P: Block J, ascending.
      edges_P: 1 at the first pair of a block I, 2 at the last, 3 at the only one, else 0.
    """

    size: jax.Array
    rows_P: jax.Array
    own_P: jax.Array
    other_P: jax.Array
    edges_P: jax.Array


def pairs(seen_BIJ: jax.Array) -> Pairs:
    """Return the pairs of blocks I and J that see each other, by row and block I."""
    own, other = seen_BIJ.shape[1:]
    alone_BI1 = ~jnp.any(seen_BIJ, axis=-1, keepdims=True)
    flat_P = (seen_BIJ | (alone_BI1 & (jnp.arange(other) == 0))).reshape(-1)
    order_P = jnp.argsort(~flat_P, stable=True).astype(jnp.int32)
    size, block_P = jnp.sum(flat_P, dtype=jnp.int32), order_P // other
    index_P = jnp.arange(order_P.size)
    begins_P = (index_P == 0) | (block_P != jnp.roll(block_P, 1))
    ends_P = (index_P == size - 1) | (block_P != jnp.roll(block_P, -1))
    edges_P = begins_P.astype(jnp.int32) + 2 * ends_P.astype(jnp.int32)
    return Pairs(size, block_P // own, block_P % own, order_P % other, edges_P)
