"""Pallas kernel for TPUs: the output of attention over pairs of blocks that see each other."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from tl_jax.ops import seen_blocks, tree_blocks
from tl_jax.ops.tree_blocks import LANES, Rows

_LEAST = -5e29  # of a maximum: a query that sees no key has weights exp(MASKED - _LEAST) = 0
_TINY = 1e-30  # its sum of weights, so that its output is 0


def forward(
    q_BNTH: jax.Array,
    k_BKSH: jax.Array,
    v_BKSH: jax.Array,
    facts: seen_blocks.Facts,
    block_q: int,
    block_k: int,
    *,
    interpret: bool,
) -> tuple[jax.Array, jax.Array]:
    """Return ``(out_BNTH, norm_BN1T)``; blocks divide the numbers of queries and keys."""
    B, N, T, H = q_BNTH.shape
    group = N // k_BKSH.shape[1]
    found = seen_blocks.pairs(seen_blocks.seen(facts, block_q, block_k))

    def query(n: Any, t: Any, rows: Any, own: Any, *_: Any) -> Any:
        return rows[t], n, own[t], 0

    def key(n: Any, t: Any, rows: Any, own: Any, other: Any, *_: Any) -> Any:
        return rows[t], jax.lax.div(n, group), other[t], 0

    def norm(n: Any, t: Any, rows: Any, own: Any, *_: Any) -> Any:
        return rows[t], n, 0, own[t]

    def of_queries(n: Any, t: Any, rows: Any, own: Any, *_: Any) -> Any:
        return rows[t], 0, own[t]

    def of_keys(n: Any, t: Any, rows: Any, own: Any, other: Any, *_: Any) -> Any:
        return rows[t], 0, other[t]

    known, specs = tree_blocks.rows_of(facts, of_queries, of_keys, block_q, block_k)
    heads = functools.partial(pl.BlockSpec, (None, None, block_q, H))
    keys = pl.BlockSpec((None, None, block_k, H), key)
    sums = [(block_q, LANES), (block_q, LANES), (block_q, H)]
    return pl.pallas_call(
        functools.partial(_kernel, limited=facts.window is not None),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=5,
            grid=(N, found.size),
            in_specs=[heads(query), keys, keys, specs],
            out_specs=[heads(query), pl.BlockSpec((None, None, 1, block_q), norm)],
            scratch_shapes=[pltpu.VMEM(shape, jnp.float32) for shape in sums],
        ),
        out_shape=[
            jax.ShapeDtypeStruct(q_BNTH.shape, q_BNTH.dtype),
            jax.ShapeDtypeStruct((B, N, 1, T), jnp.float32),
        ],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary")),
        interpret=interpret,
        name="tree_attention",
    )(*found[1:], tree_blocks.scalars(facts), q_BNTH, k_BKSH, v_BKSH, known)


def _kernel(
    rows: Any,
    own: Any,
    other: Any,
    edges: Any,
    scalars: Any,
    q: Any,
    k: Any,
    v: Any,
    known: Rows,
    out: Any,
    norm: Any,
    most: Any,
    total: Any,
    sums: Any,
    *,
    limited: bool,
) -> None:
    """Add a block of keys to the running softmax of a block of queries."""
    del rows
    t = pl.program_id(1)

    @pl.when(edges[t] & 1 == 1)
    def _() -> None:
        most[...] = jnp.full_like(most, _LEAST)
        total[...] = jnp.zeros_like(total)
        sums[...] = jnp.zeros_like(sums)

    scores_TS = tree_blocks.product(q[...], k[...], ((1,), (1,)))
    seen_TS = tree_blocks.mask(known, scalars, own[t], other[t], scores_TS.shape, limited=limited)
    scores_TS = jnp.where(seen_TS, scores_TS, tree_blocks.MASKED)
    highest_TL = jnp.maximum(most[...], jnp.max(scores_TS, axis=1, keepdims=True))
    shrunk_TL = jnp.exp(most[...] - highest_TL)
    weights_TS = jnp.exp(scores_TS - tree_blocks.wide(highest_TL, scores_TS.shape[1]))
    most[...] = highest_TL
    total[...] = total[...] * shrunk_TL + jnp.sum(weights_TS, axis=1, keepdims=True)
    new_TH = tree_blocks.product(weights_TS.astype(v.dtype), v[...], ((1,), (0,)))
    sums[...] = sums[...] * tree_blocks.wide(shrunk_TL, sums.shape[1]) + new_TH

    @pl.when(edges[t] >= 2)
    def _() -> None:
        whole_TL = jnp.maximum(total[...], _TINY)
        out[...] = (sums[...] / tree_blocks.wide(whole_TL, sums.shape[1])).astype(out.dtype)
        norm[...] = jnp.transpose(most[...] + jnp.log(whole_TL))[:1]
