"""Attention of packed rows by cuDNN's flash attention on NVIDIA GPUs."""

from __future__ import annotations

import jax
import jax.numpy as jnp

_DTYPES = ("bfloat16", "float16")
_MAX_HEAD_DIM = 128  # 256 from Hopper on


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
    implementation: str = "cudnn",
) -> jax.Array:
    """Attend to the same or earlier tokens of the same segment, on one device.

    The kernel takes segments as a ``[B, 1, T, T]`` mask in the dtype of the queries, 2 T^2 bytes
    per row, which the heads share.

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
    same_BTT = segments_BT[:, :, None] == segments_BT[:, None, :]
    out_BTNH = jax.nn.dot_product_attention(
        *(x.swapaxes(1, 2) for x in (q_BNTH, k_BKTH, v_BKTH)),
        mask=same_BTT[:, None],
        is_causal=True,
        local_window_size=(window - 1, 0) if window else None,
        implementation=implementation,
    )
    return out_BTNH.swapaxes(1, 2)
