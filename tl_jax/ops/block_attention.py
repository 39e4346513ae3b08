"""Attention of rows of prefix trees by XLA: a block of queries reads the blocks of keys it sees.

The loop over blocks has bounds that are known with the batch only, so that what is hidden costs
nothing; the gradient is our own for that reason, too.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from tl_jax.ops import seen_blocks
from tl_jax.ops.seen_blocks import Facts

BLOCK = 128
"""Queries and keys of a block; twice as many where there are at least ``_LONG`` queries.

Cores of a CPU share larger products and exponentials better, by more than the masked places cost.
"""

_LONG = 1024

_RUN = 3
"""Blocks of keys beside each other that are read at once where every query of a block sees them.

Larger products, whose parts the cores share with less waiting for each other, and no mask. More at
once are found less often, and their scores leave the caches.
"""

_MASKED = -1e30
_LEAST = -5e29  # of a maximum: a query that sees no key has weights exp(_MASKED - _LEAST) = 0
_TINY = 1e-30  # its sum of weights, so that its output is 0


def block_attention(
    q_BNTH: jax.Array,
    k_BKSH: jax.Array,
    v_BKSH: jax.Array,
    facts: Facts,
    *,
    saved_name: str,
    block: int | None = None,
) -> jax.Array:
    """Attend by the rule of ``seen_blocks``, on one device.

    Args:
      q_BNTH: Queries, heads before time, of all tokens or of a part of them in order.
      k_BKSH: Keys of all tokens; N is a multiple of K.
      v_BKSH: Values.
      facts: Who sees whom.
      saved_name: Name under which rematerialisation finds the output and its softmax norms.
      block: Tokens of a block; by default as ``BLOCK`` says.

    Returns:
      ``[B, N, T, H]`` in the dtype of the queries; softmax in float32. A query that sees no key
      gets 0.
    """
    B, N, T, H = q_BNTH.shape
    K, S = k_BKSH.shape[1:3]
    block = block or (BLOCK if T < _LONG else 2 * BLOCK)
    q_BNTH = q_BNTH * (H**-0.5)
    q, k, v = (
        jnp.pad(x, ((0, 0), (0, 0), (0, -x.shape[2] % block), (0, 0)))
        for x in (q_BNTH, k_BKSH, v_BKSH)
    )
    facts = seen_blocks.padded(facts, block, block)
    out_BKGTH = _attend(q.reshape(B, K, N // K, -1, H), k, v, facts, saved_name, block)
    return out_BKGTH.reshape(B, N, -1, H)[:, :, :T]


def _attended(
    q_BKGTH: jax.Array, k_BKSH: jax.Array, v_BKSH: jax.Array, facts: Facts, name: str, block: int
) -> jax.Array:
    return _forward(q_BKGTH, k_BKSH, v_BKSH, facts, name, block)[0]


def _forward(
    q_BKGTH: jax.Array, k_BKSH: jax.Array, v_BKSH: jax.Array, facts: Facts, name: str, block: int
) -> tuple[jax.Array, Any]:
    """Return the output, with a softmax whose maximum grows from block to block.

    Source: Milakov and Gimelshein, Online normalizer calculation for softmax (2018).
    """
    K, G, _, H = q_BKGTH.shape[1:]
    plan = _plan(facts, block)

    def queries(row: Any, i: Any, made: Any) -> Any:
        out_BKGTH, norm_BKGT = made
        q_KTH = _at(q_BKGTH, row, i * block, block)

        def keys(start: Any, size: int, masked: Any, sums: Any) -> Any:
            most, total, sum_KTH = sums
            k_KSH, v_KSH = (_at(x, row, start, size) for x in (k_BKSH, v_BKSH))
            scores = masked(_product("kth,ksh->kts", q_KTH, k_KSH))
            higher = jnp.maximum(most, jnp.max(scores, axis=-1, keepdims=True))
            weights, shrunk = jnp.exp(scores - higher), jnp.exp(most - higher)
            total = total * shrunk + jnp.sum(weights, axis=-1, keepdims=True)
            new = _product("kts,ksh->kth", weights.astype(v_KSH.dtype), v_KSH)
            return higher, total, sum_KTH * shrunk + new

        column = jnp.zeros((K, G * block, 1), jnp.float32)
        start = column + _LEAST, column, jnp.zeros((K, G * block, H), jnp.float32)
        most, total, sum_KTH = _over_keys(plan, row, i, keys, start)
        total = jnp.maximum(total, _TINY)
        return (
            _put(out_BKGTH, sum_KTH / total, row, i, block),
            _put(norm_BKGT, most + jnp.log(total), row, i, block),
        )

    empty = jnp.zeros_like(q_BKGTH), jnp.zeros((*q_BKGTH.shape[:-1], 1), jnp.float32)
    out_BKGTH, norm_BKGT = _over_blocks(plan, queries, empty)
    # Rematerialisation that keeps these two has no second attention to compute.
    out_BKGTH = checkpoint_name(out_BKGTH, name)
    norm_BKGT = checkpoint_name(norm_BKGT, name)
    return out_BKGTH, (q_BKGTH, k_BKSH, v_BKSH, facts, out_BKGTH, norm_BKGT)


def _backward(name: str, block: int, residuals: Any, grad_BKGTH: jax.Array) -> tuple[Any, ...]:
    """Return the gradients; the probabilities are computed again from their norm.

    Source: Dao et al., FlashAttention (2022), appendix B.2.
    """
    del name
    q_BKGTH, k_BKSH, v_BKSH, facts, out_BKGTH, norm_BKGT = residuals
    K, G, _, H = q_BKGTH.shape[1:]
    plan = _plan(facts, block)
    # What the softmax takes from every score of a query: sum over keys of P * dP.
    shared_BKGT = jnp.sum(
        grad_BKGTH.astype(jnp.float32) * out_BKGTH.astype(jnp.float32), axis=-1, keepdims=True
    )

    def queries(row: Any, i: Any, made: Any) -> Any:
        dq_BKGTH, *dkv = made
        q_KTH, grad_KTH, norm_KT, shared_KT = (
            _at(x, row, i * block, block) for x in (q_BKGTH, grad_BKGTH, norm_BKGT, shared_BKGT)
        )
        # The CPU's fast product wants the sum over queries along the last axis of the left side;
        # turned here and not for each block of keys.
        q_KHT, grad_KHT = q_KTH.swapaxes(1, 2), grad_KTH.swapaxes(1, 2)

        def keys(start: Any, size: int, masked: Any, sums: Any) -> Any:
            dq_KTH, dk_BKHS, dv_BKHS = sums
            k_KSH, v_KSH = (_at(x, row, start, size) for x in (k_BKSH, v_BKSH))
            scores = masked(_product("kth,ksh->kts", q_KTH, k_KSH))
            probs = jnp.exp(scores - norm_KT)
            dscores = probs * (_product("kth,ksh->kts", grad_KTH, v_KSH) - shared_KT)
            dscores = dscores.astype(k_KSH.dtype)
            dq_KTH = dq_KTH + _product("kts,ksh->kth", dscores, k_KSH)
            dk_KHS = _product("kht,kts->khs", q_KHT, dscores)
            dv_KHS = _product("kht,kts->khs", grad_KHT, probs.astype(v_KSH.dtype))
            return dq_KTH, _add(dk_BKHS, dk_KHS, row, start), _add(dv_BKHS, dv_KHS, row, start)

        start = jnp.zeros((K, G * block, H), jnp.float32), *dkv
        dq_KTH, *dkv = _over_keys(plan, row, i, keys, start)
        return _put(dq_BKGTH, dq_KTH, row, i, block), *dkv

    empty = jnp.zeros(k_BKSH.swapaxes(2, 3).shape, jnp.float32)
    made = _over_blocks(plan, queries, (jnp.zeros_like(q_BKGTH), empty, empty))
    dk_BKSH, dv_BKSH = (x.swapaxes(2, 3).astype(k_BKSH.dtype) for x in made[1:])
    return made[0], dk_BKSH, dv_BKSH, None


_attend = jax.custom_vjp(_attended, nondiff_argnums=(4, 5))
_attend.defvjp(_forward, _backward)

_product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)


class _Plan(NamedTuple):
    """What each block of queries reads.

    Attributes:
      facts: Who sees whom.
      block: Tokens of a block.
      single: Blocks of keys that stand alone, and are masked.
      runs: First blocks of runs, of which every query sees every key; None in rows too short for
        one, which are spared its compilation.
    """

    facts: Facts
    block: int
    single: seen_blocks.Lists
    runs: seen_blocks.Lists | None


def _plan(facts: Facts, block: int) -> _Plan:
    seen_BIJ = seen_blocks.seen(facts, block, block)
    if seen_BIJ.shape[-1] <= _RUN:
        return _Plan(facts, block, seen_blocks.lists(seen_BIJ), None)
    begins_BIJ, inside_BIJ = seen_blocks.runs(seen_blocks.wholly_seen(facts, block, block), _RUN)
    single = seen_blocks.lists(seen_BIJ & ~inside_BIJ)
    return _Plan(facts, block, single, seen_blocks.lists(begins_BIJ))


def _over_blocks(plan: _Plan, queries: Any, made: Any) -> Any:
    """Call ``queries(row, block, made)`` for every block of queries of every row, in turn."""
    rows, count = plan.single.counts_BI.shape

    def one(n: Any, made: Any) -> Any:
        return queries(n // count, n % count, made)

    return jax.lax.fori_loop(0, rows * count, one, made)


def _over_keys(plan: _Plan, row: Any, i: Any, keys: Any, sums: Any) -> Any:
    """Call ``keys(first key, keys, masked, sums)`` for all keys that a block of queries reads.

    ``masked`` takes scores ``[K, G * T, S]`` and hides what is not seen.
    """

    def single(place: Any, sums: Any) -> Any:
        j = plan.single.blocks_BIJ[row, i, place]

        def masked(scores: jax.Array) -> jax.Array:
            seen_TS = _mask(plan.facts, row, i, j, block=plan.block)
            apart = scores.reshape(scores.shape[0], -1, *seen_TS.shape)
            return jnp.where(seen_TS, apart, _MASKED).reshape(scores.shape)

        return keys(j * plan.block, plan.block, masked, sums)

    runs = plan.runs
    if runs is not None:

        def run(place: Any, sums: Any) -> Any:
            start = runs.blocks_BIJ[row, i, place] * plan.block
            return keys(start, _RUN * plan.block, lambda scores: scores, sums)

        sums = jax.lax.fori_loop(0, runs.counts_BI[row, i], run, sums)
    return jax.lax.fori_loop(0, plan.single.counts_BI[row, i], single, sums)


def _at(x: jax.Array, row: Any, start: Any, size: int) -> jax.Array:
    """Return a part of a row, ``[B, K, (G,) T, H] -> [K, (G *) size, H]``."""
    one = jax.lax.dynamic_index_in_dim(x, row, 0, keepdims=False)
    part = jax.lax.dynamic_slice_in_dim(one, start, size, axis=-2)
    return part.reshape(x.shape[1], -1, x.shape[-1])


def _put(x: jax.Array, part_KTH: jax.Array, row: Any, i: Any, block: int) -> jax.Array:
    part = part_KTH.astype(x.dtype).reshape(1, *x.shape[1:3], block, x.shape[-1])
    return jax.lax.dynamic_update_slice(x, part, (row, 0, 0, i * block, 0))


def _add(x_BKHS: jax.Array, part_KHS: jax.Array, row: Any, start: Any) -> jax.Array:
    place = (row, 0, 0, start)
    sum_BKHS = jax.lax.dynamic_slice(x_BKHS, place, (1, *part_KHS.shape)) + part_KHS
    return jax.lax.dynamic_update_slice(x_BKHS, sum_BKHS, place)


def _mask(facts: Facts, row: Any, i: Any, j: Any, *, block: int) -> jax.Array:
    """Return whether the queries of block ``i`` see the keys of block ``j``."""

    def part(x: jax.Array, start: Any) -> jax.Array:
        return jax.lax.dynamic_slice(x, (row, start), (1, block))[0]

    index = jnp.arange(block, dtype=jnp.int32)
    q_places, k_places = facts.first + i * block + index, j * block + index
    return seen_blocks.mask(
        (q_places[:, None], part(facts.q_positions_BT, i * block)[:, None]),
        (
            k_places,
            part(facts.k_positions_BS, j * block),
            part(facts.visible_until_BS, j * block),
        ),
        facts.window,
    )
