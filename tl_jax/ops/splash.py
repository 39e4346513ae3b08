"""Attention of packed rows by the Pallas kernel for TPUs that never stores the scores."""

from __future__ import annotations

import functools
import math
from typing import Protocol, cast

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu import splash_attention as pallas
from jax.experimental.pallas.ops.tpu.splash_attention.splash_attention_kernel import (
    SplashAttentionKernel,
)

_LANES = 128  # of a TPU register: blocks are multiples of it

_NO_TOKEN = -1  # of what fills up the last block; padding of the data is 0


class Blocks(Protocol):
    """How the kernel cuts up queries and keys."""

    @property
    def block_q(self) -> int: ...
    @property
    def block_kv(self) -> int: ...
    @property
    def fused_backward(self) -> bool: ...


def splash_attention(
    q_BNTH: jax.Array,
    k_BKSH: jax.Array,
    v_BKSH: jax.Array,
    until_BT: jax.Array,
    until_BS: jax.Array,
    *,
    part: jax.Array | int = 0,
    window: int,
    blocks: Blocks,
    saved_name: str,
    interpret: bool,
) -> jax.Array:
    """Attend to the same or earlier tokens of the same text, on one device.

    Args:
      q_BNTH: Queries, heads before time, of all tokens or of one of the equal parts that they are
        cut into (see ``fits``).
      k_BKSH: Keys of all tokens; N is a multiple of K.
      v_BKSH: Values.
      until_BT: ``visible_until`` of each query. It tells the texts of a row apart where they lie
        side by side; texts that share tokens are beyond this kernel.
      until_BS: The same of each key.
      part: Which part the queries are.
      window: Tokens a query sees, itself included; 0 means all.
      blocks: Sizes in tokens, rounded up to multiples of 128; a longer block than the rows is cut
        to them.
      saved_name: Name under which rematerialisation finds the output and its normaliser.
      interpret: Compute the kernel's steps in plain JAX, for devices that are no TPU.

    Returns:
      ``[B, N, T, H]`` in the dtype of the queries; softmax in float32.

    Source: ``jax.experimental.pallas.ops.tpu.splash_attention``.
    """
    N, T, H = q_BNTH.shape[1:]
    parts = k_BKSH.shape[2] // T
    block_q, block_kv = _blocks(blocks, T)
    own = _rounded(T, math.lcm(block_q, block_kv))
    length = own * parts
    padding = ((0, 0), (0, 0), (0, own - T), (0, 0))
    q, k, v = (jnp.pad(x, padding) for x in (q_BNTH * (H**-0.5), k_BKSH, v_BKSH))
    q_segments, kv_segments = (
        jnp.pad(x, padding[1:3], constant_values=_NO_TOKEN) for x in (until_BT, until_BS)
    )
    shape = (length, length)
    mask = pallas.LocalMask(shape, (window - 1, 0), 0) if window else pallas.CausalMask(shape)
    kernel = pallas.make_splash_mha(
        mask=pallas.MultiHeadMask([mask] * N),
        block_sizes=pallas.BlockSizes(
            block_q=block_q,
            block_kv=block_kv,
            block_q_dkv=block_q,
            block_kv_dkv=block_kv,
            use_fused_bwd_kernel=blocks.fused_backward,
            block_q_dq=None if blocks.fused_backward else block_q,
            block_kv_dq=None if blocks.fused_backward else block_kv,
        ),
        head_shards=1,
        q_seq_shards=parts,
        residual_checkpoint_name=saved_name,
        interpret=interpret,
    )
    rows = jax.vmap(functools.partial(_row, _of_part(kernel, part, parts)))
    return rows(q, k, v, q_segments, kv_segments)[:, :, :T]


def fits(length: int, parts: int, blocks: Blocks) -> bool:
    """Whether the queries of rows of ``length`` tokens can be cut into equal parts.

    What fills up the last block of a row would lie between the tokens of several parts.
    """
    own = length // parts
    return parts == 1 or own % math.lcm(*_blocks(blocks, own)) == 0


def _of_part(
    kernel: SplashAttentionKernel, part: jax.Array | int, parts: int
) -> SplashAttentionKernel:
    """Return the kernel with what its masks say of the queries of one part."""
    if parts == 1:
        return kernel

    def cut(mask: jax.Array) -> jax.Array:
        # Blocks by head, queries and keys, or the place of each query.
        axis = min(mask.ndim - 1, 1)
        size = mask.shape[axis] // parts
        return jax.lax.dynamic_slice_in_dim(mask, part * size, size, axis)

    return jax.tree.map(cut, kernel)


def _row(
    kernel: SplashAttentionKernel,
    q_NTH: jax.Array,
    k_KSH: jax.Array,
    v_KSH: jax.Array,
    segments_T: jax.Array,
    segments_S: jax.Array,
) -> jax.Array:
    out_NTH = kernel(q_NTH, k_KSH, v_KSH, pallas.SegmentIds(segments_T, segments_S))
    return cast(jax.Array, out_NTH)  # without the residuals that it could return, too


def _blocks(blocks: Blocks, length: int) -> tuple[int, int]:
    longest = _rounded(length, _LANES)
    block_q, block_kv = (_rounded(size, _LANES) for size in (blocks.block_q, blocks.block_kv))
    return min(block_q, longest), min(block_kv, longest)


def _rounded(size: int, unit: int) -> int:
    return -(-size // unit) * unit
