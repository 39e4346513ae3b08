"""Prompt lookup: a text is likely to go on as it did where its last tokens stood before."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from tl_jax.parallel.sharding import cut

LONGEST = 4
"""Last tokens of a text that are compared; the place where most of them stand decides."""

SHORTEST = 2
"""Fewer equal tokens propose nothing."""

NOTHING = -1
"""Stands where there is no proposal."""


_FREE_TOKENS = 256
_PAYING_ROWS_ON_CPU = range(4, 9)


def most_proposals(rows: int, limit: int) -> int:
    """Return how many tokens are proposed per row in every forward, at most ``limit``.

    A forward of so many tokens on a device, over all its rows, takes little longer than one of a
    token per row, which waits for the weights. A CPU waits for arithmetic: there one proposal pays,
    where a row more or less does not change how a product is computed.
    """
    rows = max(rows // cut("batch"), 1)
    if jax.default_backend() == "cpu":
        return min(limit, int(rows in _PAYING_ROWS_ON_CPU))
    return max(min(limit, _FREE_TOKENS // rows - 1), 0)


def propose(text_BS: jax.Array, length_B: jax.Array, count: int) -> jax.Array:
    """Propose the next tokens of every row.

    Args:
      text_BS: Token ids of the rows, of any content behind their ends.
      length_B: Tokens of each row.
      count: How many tokens to propose at most.

    Returns:
      ``[B, count]`` int32: what followed the last earlier place with the most of the row's last
      tokens, and ``NOTHING`` behind the end of what is known.
    """
    rows, size = text_BS.shape
    if not count:
        return jnp.zeros((rows, 0), jnp.int32)
    place_S = jnp.arange(size)
    # In runs_BS: tokens up to a place that are the row's last, counted back from it.
    runs_BS = jnp.zeros((rows, size), jnp.int32)
    whole_BS = jnp.ones((rows, size), bool)
    for back in range(LONGEST):
        token_B1 = jnp.take_along_axis(text_BS, jnp.maximum(length_B - 1 - back, 0)[:, None], 1)
        shifted_BS = jnp.pad(text_BS, ((0, 0), (back, 0)), constant_values=NOTHING)[:, :size]
        whole_BS &= (shifted_BS == token_B1) & (length_B > back)[:, None]
        runs_BS += whole_BS
    earlier_BS = place_S < length_B[:, None] - 1
    rank_BS = jnp.where(earlier_BS & (runs_BS >= SHORTEST), runs_BS * size + place_S, NOTHING)
    best_B = jnp.argmax(rank_BS, axis=1)
    found_B = jnp.max(rank_BS, axis=1) >= 0
    next_BC = best_B[:, None] + 1 + jnp.arange(count)
    known_BC = found_B[:, None] & (next_BC < length_B[:, None])
    tokens_BC = jnp.take_along_axis(text_BS, jnp.minimum(next_BC, size - 1), axis=1)
    return jnp.where(known_BC, tokens_BC, NOTHING)
