"""Attention of packed rows by cuDNN's flash attention on NVIDIA GPUs."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

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
    segments_BT: jax.Array,
    *,
    window: int,
    implementation: Literal["cudnn", "xla"] = "cudnn",
) -> jax.Array:
    """Attend to the same or earlier tokens of the same segment, on one device.

    The kernel takes segments as a ``[B, 1, T, T]`` mask in the dtype of the queries, 2 T^2 bytes
    per row, which the heads share. Where every row of the device is one text with padding (segment
    0) behind it, the order of tokens says as much and no mask is read; then padding sees the text,
    and what stands there is nobody's.

    Args:
      q_BNTH: Queries, heads before time.
      k_BKTH: Keys of the same tokens; N is a multiple of K.
      v_BKTH: Values.
      segments_BT: Segment of each token; the tokens of one lie side by side.
      window: Tokens a query sees, itself included; 0 means all.
      implementation: ``"cudnn"``, or ``"xla"`` for the same by the compiler.

    Returns:
      ``[B, N, T, H]`` in the dtype of the queries; softmax in float32.
    """

    def attend(
        q_BTNH: jax.Array, k_BTKH: jax.Array, v_BTKH: jax.Array, bias_B1TT: jax.Array | None
    ) -> jax.Array:
        return jax.nn.dot_product_attention(
            *(q_BTNH, k_BTKH, v_BTKH),
            bias=bias_B1TT,
            is_causal=True,
            local_window_size=(window - 1, 0) if window else None,
            implementation=implementation,
        )

    others_BTT = segments_BT[:, :, None] != segments_BT[:, None, :]
    bias_B1TT = jnp.where(others_BTT, _MASKED, 0).astype(q_BNTH.dtype)[:, None]
    out_BTNH = jax.lax.cond(
        jnp.all((segments_BT == segments_BT[:, :1]) | (segments_BT == 0)),
        lambda q_BTNH, k_BTKH, v_BTKH, _: attend(q_BTNH, k_BTKH, v_BTKH, None),
        attend,
        *(x.swapaxes(1, 2) for x in (q_BNTH, k_BKTH, v_BKTH)),
        bias_B1TT,
    )
    return out_BTNH.swapaxes(1, 2)
