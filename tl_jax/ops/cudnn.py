"""Attention of packed rows by cuDNN's flash attention on NVIDIA GPUs."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from tl_jax.ops.attention import Row

PRIMITIVE = "dot_product_attention_fwd_wrapper"
"""Name of JAX's primitive that returns the output and the softmax norms that its gradient needs.

Nothing but the output leaves ``jax.nn.dot_product_attention``, so that rematerialisation cannot
find the norms by a name of ours.
"""

_DTYPES = ("bfloat16", "float16")
_MAX_HEAD_DIM = 128  # 256 from Hopper on
_MASKED = -1e30  # finite, so that no row of scores is without a number


def fits(dtype: jnp.dtype, head_dim: int, length: int) -> bool:
    """Whether cuDNN can train on rows of ``length`` tokens with such heads on any GPU."""
    return (
        dtype.name in _DTYPES
        and head_dim % 8 == 0
        and head_dim <= _MAX_HEAD_DIM
        and length % 2 == 0  # with a mask
    )


def cudnn_attention(
    q_BNTH: jax.Array,
    k_BKTH: jax.Array,
    v_BKTH: jax.Array,
    row: Row[jax.Array],
    *,
    window: int,
    implementation: Literal["cudnn", "xla"] = "cudnn",
) -> jax.Array:
    """Attend as ``ops.attention.row_attention`` does, on one device.

    The kernel takes what is hidden as a ``[B, 1, T, T]`` mask in the dtype of the queries, 2 T^2
    bytes per row, which the heads share. Where every row of the device is one text with padding
    behind it, the order of tokens says as much and no mask is read; then padding sees the text,
    and what stands there is nobody's.

    Args:
      q_BNTH: Queries, heads before time.
      k_BKTH: Keys of the same tokens; N is a multiple of K.
      v_BKTH: Values.
      row: Of the tokens.
      window: Positions a query sees, its own included; 0 means all.
      implementation: ``"cudnn"``, or ``"xla"`` for the same by the compiler.

    Returns:
      ``[B, N, T, H]`` in the dtype of the queries; softmax in float32.
    """

    def attend(
        q_BTNH: jax.Array, k_BTKH: jax.Array, v_BTKH: jax.Array, bias_B1TT: jax.Array | None
    ) -> jax.Array:
        by_order = window and bias_B1TT is None
        return jax.nn.dot_product_attention(
            *(q_BTNH, k_BTKH, v_BTKH),
            bias=bias_B1TT,
            is_causal=True,
            local_window_size=(window - 1, 0) if by_order else None,
            implementation=implementation,
        )

    until_BT = row.visible_until
    hidden_BTT = until_BT[:, None, :] <= jnp.arange(until_BT.shape[1])[:, None]
    if window:
        # Between a token and its ancestor in the row may lie what is not on its path.
        hidden_BTT |= row.positions[:, :, None] - row.positions[:, None, :] >= window
    bias_B1TT = jnp.where(hidden_BTT, _MASKED, 0).astype(q_BNTH.dtype)[:, None]
    out_BTNH = jax.lax.cond(
        jnp.all((until_BT == until_BT[:, :1]) | (until_BT == 0)),
        lambda q_BTNH, k_BTKH, v_BTKH, _: attend(q_BTNH, k_BTKH, v_BTKH, None),
        attend,
        *(x.swapaxes(1, 2) for x in (q_BNTH, k_BKTH, v_BKTH)),
        bias_B1TT,
    )
    return out_BTNH.swapaxes(1, 2)
