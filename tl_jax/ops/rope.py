"""Rotary position embedding in the half-rotation layout of Hugging Face checkpoints."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def rotary_angles(
    positions_BT: jax.Array, head_dim: int, theta: float
) -> tuple[jax.Array, jax.Array]:
    """Return cosines and sines, each ``[B, T, H/2]`` float32.

    Source: Su et al., RoFormer (2021), eq. 34; frequencies ``theta ** (-2 i / H)``.
    """
    # float32 throughout: bfloat16 cannot tell position 257 from 256.
    exponent = jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim
    angles_BTh = positions_BT.astype(jnp.float32)[..., None] / (theta**exponent)
    return jnp.cos(angles_BTh), jnp.sin(angles_BTh)


def apply_rotary(x_BNTH: jax.Array, cos_BTh: jax.Array, sin_BTh: jax.Array) -> jax.Array:
    """Rotate the two halves of each head by the angle of its position."""
    first, second = jnp.split(x_BNTH.astype(jnp.float32), 2, axis=-1)
    cos, sin = cos_BTh[:, None], sin_BTh[:, None]
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.astype(x_BNTH.dtype)
