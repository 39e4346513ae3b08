"""Rotary position embedding in the half-rotation layout of Hugging Face checkpoints."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np


def frequencies(head_dim: int, theta: float) -> np.ndarray:
    """Return the angle each rotary pair turns per position, ``[H/2]`` float32.

    Source: Su et al., RoFormer (2021), eq. 34; ``theta ** (-2 i / H)``.
    """
    exponents_h = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    return 1.0 / np.float32(theta) ** exponents_h


def llama3_frequencies(
    freqs_h: np.ndarray, *, factor: float, low: float, high: float, original: int
) -> np.ndarray:
    """Return frequencies whose slow pairs are ``factor`` times slower, as Llama 3.1 has them.

    Args:
      freqs_h: From ``frequencies``.
      factor: Divides the frequencies of slow pairs.
      low: Pairs that turn at most this often in ``original`` tokens are slow.
      high: Pairs that turn at least this often keep their frequency; between, it is a mixture.
      original: Length of the texts of the first training, in tokens.

    Source: ``apply_scaling`` of Meta's ``llama-models`` repository (``models/llama3/model.py``).
    """
    turns_h = original * freqs_h.astype(np.float64) / (2 * math.pi)
    kept_h = np.clip((turns_h - low) / (high - low), 0.0, 1.0)
    return (freqs_h * (kept_h + (1 - kept_h) / factor)).astype(np.float32)


def yarn_frequencies(
    head_dim: int,
    theta: float,
    *,
    factor: float,
    fast: float,
    slow: float,
    original: int,
    truncate: bool,
) -> np.ndarray:
    """Return frequencies whose slow pairs are ``factor`` times slower, as YaRN has them.

    Args:
      head_dim: Size of a head.
      theta: Rotary base.
      factor: Divides the frequencies of slow pairs.
      fast: Pairs that turn more often than this in ``original`` tokens keep their frequency.
      slow: Pairs that turn less often are slow; between, the mixture is linear in the pair's index.
      original: Length of the texts of the first training, in tokens.
      truncate: Round the two indices outwards to whole pairs.

    Source: Peng et al., YaRN (2023), section 3.2, with the bounds of its published code.
    """

    def pair(turns: float) -> float:
        return head_dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(theta))

    first, last = pair(fast), pair(slow)
    if truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, head_dim - 1)
    # The published code keeps a ramp of no length from dividing by zero in this way.
    last += 0.001 if first == last else 0.0
    slowed_h = np.clip((np.arange(head_dim // 2) - first) / (last - first), 0.0, 1.0)
    freqs_h = frequencies(head_dim, theta)
    return (freqs_h * (1 - slowed_h + slowed_h / factor)).astype(np.float32)


def rotary_angles(
    positions_BT: jax.Array, freqs_h: np.ndarray, magnitude: float = 1.0
) -> tuple[jax.Array, jax.Array]:
    """Return cosines and sines times ``magnitude``, each ``[B, T, H/2]`` float32."""
    # float32 throughout: bfloat16 cannot tell position 257 from 256.
    angles_BTh = positions_BT.astype(jnp.float32)[..., None] * freqs_h
    return jnp.cos(angles_BTh) * magnitude, jnp.sin(angles_BTh) * magnitude


def apply_rotary(x_BNTH: jax.Array, cos_BTh: jax.Array, sin_BTh: jax.Array) -> jax.Array:
    """Rotate the two halves of each head by the angle of its position."""
    first, second = jnp.split(x_BNTH.astype(jnp.float32), 2, axis=-1)
    cos, sin = cos_BTh[:, None], sin_BTh[:, None]
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.astype(x_BNTH.dtype)
