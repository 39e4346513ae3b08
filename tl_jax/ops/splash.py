"""Attention of packed rows by the Pallas kernel for TPUs that never stores the scores."""

from __future__ import annotations

import functools
import math
from typing import Protocol

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu import splash_attention as pallas

_LANES = 128  # of a TPU register: blocks are multiples of it

_NO_TOKEN = -1  # segment of what fills up the last block; data begin at 0


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
    k_BKTH: jax.Array,
    v_BKTH: jax.Array,
    segments_BT: jax.Array,
    *,
    window: int,
    blocks: Blocks,
    saved_name: str,
    interpret: bool,
) -> jax.Array:
    """Attend to the same or earlier tokens of the same segment, on one device.

    Args:
      q_BNTH: Queries, heads before time.
      k_BKTH: Keys of the same tokens; N is a multiple of K.
      v_BKTH: Values.
      segments_BT: Segment of each token, not negative; the tokens of one lie side by side.
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
    block_q, block_kv = (_block(size, T) for size in (blocks.block_q, blocks.block_kv))
    length = _rounded(T, math.lcm(block_q, block_kv))
    padding = ((0, 0), (0, 0), (0, length - T), (0, 0))
    q, k, v = (jnp.pad(x, padding) for x in (q_BNTH * (H**-0.5), k_BKTH, v_BKTH))
    segments = jnp.pad(segments_BT, padding[1:3], constant_values=_NO_TOKEN)
    separate = {} if blocks.fused_backward else {"block_q_dq": block_q, "block_kv_dq": block_kv}
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
            **separate,
        ),
        head_shards=1,
        q_seq_shards=1,
        residual_checkpoint_name=saved_name,
        interpret=interpret,
    )
    rows = jax.vmap(functools.partial(_row, kernel))
    return rows(q, k, v, segments)[:, :, :T]


def _row(
    kernel: pallas.SplashAttentionKernel,
    q_NTH: jax.Array,
    k_KTH: jax.Array,
    v_KTH: jax.Array,
    segments_T: jax.Array,
) -> jax.Array:
    return kernel(q_NTH, k_KTH, v_KTH, pallas.SegmentIds(segments_T, segments_T))


def _block(size: int, length: int) -> int:
    return min(_rounded(size, _LANES), _rounded(length, _LANES))


def _rounded(size: int, unit: int) -> int:
    return -(-size // unit) * unit
