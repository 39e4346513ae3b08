"""Pallas kernels for TPUs: the gradients of attention over pairs of blocks that see each other.

Scores are computed again from their norms; those for the gradients of keys and values lie the other
way round, so that no product needs them turned.

Source: Dao et al., FlashAttention (2022), appendix B.2.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from tl_jax.ops import seen_blocks, tree_blocks
from tl_jax.ops.tree_blocks import Rows


def backward(
    q_BNTH: jax.Array,
    k_BKSH: jax.Array,
    v_BKSH: jax.Array,
    facts: seen_blocks.Facts,
    out_BNTH: jax.Array,
    norm_BN1T: jax.Array,
    grad_BNTH: jax.Array,
    block_q: int,
    block_k: int,
    *,
    interpret: bool,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the gradients of queries, keys and values, given that of the output."""
    # What the softmax takes from every score of a query: sum over keys of P * dP.
    shared_BNT = jnp.sum(grad_BNTH.astype(jnp.float32) * out_BNTH.astype(jnp.float32), axis=-1)
    seen_BIJ = seen_blocks.seen(facts, block_q, block_k)
    operands = (q_BNTH, k_BKSH, v_BKSH, grad_BNTH, norm_BN1T, shared_BNT[:, :, None])
    sizes = {"block_q": block_q, "block_k": block_k, "interpret": interpret}
    dq_BNTH = _of_queries(operands, facts, seen_blocks.pairs(seen_BIJ), **sizes)
    turned = seen_blocks.pairs(seen_BIJ.swapaxes(1, 2))
    return dq_BNTH, *_of_keys(operands, facts, turned, **sizes)


def _of_queries(
    operands: tuple[jax.Array, ...],
    facts: seen_blocks.Facts,
    found: seen_blocks.Pairs,
    *,
    block_q: int,
    block_k: int,
    interpret: bool,
) -> jax.Array:
    q_BNTH, k_BKSH = operands[:2]
    N, H = q_BNTH.shape[1], q_BNTH.shape[3]
    group = N // k_BKSH.shape[1]

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
    queries = pl.BlockSpec((None, None, block_q, H), query)
    keys = pl.BlockSpec((None, None, block_k, H), key)
    norms = pl.BlockSpec((None, None, 1, block_q), norm)
    return pl.pallas_call(
        functools.partial(_queries_kernel, limited=facts.window is not None),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=5,
            grid=(N, found.size),
            in_specs=[queries, keys, keys, queries, norms, norms, specs],
            out_specs=queries,
            scratch_shapes=[pltpu.VMEM((block_q, H), jnp.float32)],
        ),
        out_shape=jax.ShapeDtypeStruct(q_BNTH.shape, q_BNTH.dtype),
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary")),
        interpret=interpret,
        name="tree_attention_dq",
    )(*found[1:], tree_blocks.scalars(facts), *operands, known)


def _queries_kernel(
    rows: Any,
    own: Any,
    other: Any,
    edges: Any,
    scalars: Any,
    q: Any,
    k: Any,
    v: Any,
    grad: Any,
    norm: Any,
    shared: Any,
    known: Rows,
    dq: Any,
    sums: Any,
    *,
    limited: bool,
) -> None:
    """Add what a block of keys gives to the gradient of a block of queries."""
    del rows
    t = pl.program_id(1)

    @pl.when(edges[t] & 1 == 1)
    def _() -> None:
        sums[...] = jnp.zeros_like(sums)

    scores_TS = tree_blocks.product(q[...], k[...], ((1,), (1,)))
    seen_TS = tree_blocks.mask(known, scalars, own[t], other[t], scores_TS.shape, limited=limited)
    scores_TS = jnp.where(seen_TS, scores_TS, tree_blocks.MASKED)
    probs_TS = jnp.exp(scores_TS - jnp.expand_dims(norm[0], 1))
    dprobs_TS = tree_blocks.product(grad[...], v[...], ((1,), (1,)))
    dscores_TS = probs_TS * (dprobs_TS - jnp.expand_dims(shared[0], 1))
    sums[...] += tree_blocks.product(dscores_TS.astype(k.dtype), k[...], ((1,), (0,)))

    @pl.when(edges[t] >= 2)
    def _() -> None:
        dq[...] = sums[...].astype(dq.dtype)


def _of_keys(
    operands: tuple[jax.Array, ...],
    facts: seen_blocks.Facts,
    found: seen_blocks.Pairs,
    *,
    block_q: int,
    block_k: int,
    interpret: bool,
) -> tuple[jax.Array, jax.Array]:
    q_BNTH, k_BKSH = operands[:2]
    N, H = q_BNTH.shape[1], q_BNTH.shape[3]
    K = k_BKSH.shape[1]
    group = N // K

    # The heads of a group of queries come one after another, while keys and values stay.
    def query(n: Any, t: Any, g: Any, rows: Any, own: Any, other: Any, *_: Any) -> Any:
        return rows[t], n * group + g, other[t], 0

    def key(n: Any, t: Any, g: Any, rows: Any, own: Any, *_: Any) -> Any:
        return rows[t], n, own[t], 0

    def norm(n: Any, t: Any, g: Any, rows: Any, own: Any, other: Any, *_: Any) -> Any:
        return rows[t], n * group + g, 0, other[t]

    def of_queries(n: Any, t: Any, g: Any, rows: Any, own: Any, other: Any, *_: Any) -> Any:
        return rows[t], 0, other[t]

    def of_keys(n: Any, t: Any, g: Any, rows: Any, own: Any, *_: Any) -> Any:
        return rows[t], 0, own[t]

    known, specs = tree_blocks.rows_of(facts, of_queries, of_keys, block_q, block_k)
    queries = pl.BlockSpec((None, None, block_q, H), query)
    keys = pl.BlockSpec((None, None, block_k, H), key)
    norms = pl.BlockSpec((None, None, 1, block_q), norm)
    dk_BKSH, dv_BKSH = pl.pallas_call(
        functools.partial(_keys_kernel, limited=facts.window is not None),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=5,
            grid=(K, found.size, group),
            in_specs=[queries, keys, keys, queries, norms, norms, specs],
            out_specs=[keys, keys],
            scratch_shapes=[pltpu.VMEM((block_k, H), jnp.float32) for _ in range(2)],
        ),
        out_shape=[jax.ShapeDtypeStruct(k_BKSH.shape, k_BKSH.dtype) for _ in range(2)],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "arbitrary", "arbitrary")
        ),
        interpret=interpret,
        name="tree_attention_dkv",
    )(*found[1:], tree_blocks.scalars(facts), *operands, known)
    return dk_BKSH, dv_BKSH


def _keys_kernel(
    rows: Any,
    own: Any,
    other: Any,
    edges: Any,
    scalars: Any,
    q: Any,
    k: Any,
    v: Any,
    grad: Any,
    norm: Any,
    shared: Any,
    known: Rows,
    dk: Any,
    dv: Any,
    dk_sums: Any,
    dv_sums: Any,
    *,
    limited: bool,
) -> None:
    """Add what a block of queries of one head gives to the gradients of a block of keys."""
    del rows
    t, head = pl.program_id(1), pl.program_id(2)

    @pl.when((edges[t] & 1 == 1) & (head == 0))
    def _() -> None:
        dk_sums[...] = jnp.zeros_like(dk_sums)
        dv_sums[...] = jnp.zeros_like(dv_sums)

    scores_ST = tree_blocks.product(k[...], q[...], ((1,), (1,)))
    seen_ST = tree_blocks.mask(
        known, scalars, other[t], own[t], scores_ST.shape, limited=limited, keys_first=True
    )
    scores_ST = jnp.where(seen_ST, scores_ST, tree_blocks.MASKED)
    probs_ST = jnp.exp(scores_ST - norm[...])
    dv_sums[...] += tree_blocks.product(probs_ST.astype(grad.dtype), grad[...], ((1,), (0,)))
    dprobs_ST = tree_blocks.product(v[...], grad[...], ((1,), (1,)))
    dscores_ST = probs_ST * (dprobs_ST - shared[...])
    dk_sums[...] += tree_blocks.product(dscores_ST.astype(q.dtype), q[...], ((1,), (0,)))

    @pl.when((edges[t] >= 2) & (head == pl.num_programs(2) - 1))
    def _() -> None:
        dk[...] = dk_sums[...].astype(dk.dtype)
        dv[...] = dv_sums[...].astype(dv.dtype)
