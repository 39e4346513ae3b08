"""Rotary angles of a model: its base and its scaling, as cosines and sines of positions."""

from __future__ import annotations

import jax
import numpy as np

from tl_jax.config import ModelConfig, RopeScaling
from tl_jax.ops import rope


def angles(positions_BT: jax.Array, config: ModelConfig) -> tuple[jax.Array, jax.Array]:
    """Return the cosines and sines ``[B, T, H/2]`` float32 by which heads are rotated."""
    scaling = config.rope_scaling
    freqs_h = frequencies(config.head_dim, config.rope_theta, scaling)
    return rope.rotary_angles(positions_BT, freqs_h, scaling.attention_factor)


def frequencies(head_dim: int, theta: float, scaling: RopeScaling) -> np.ndarray:
    """Return the angle each rotary pair turns per position under a scaling, ``[H/2]`` float32."""
    freqs_h = rope.frequencies(head_dim, theta)
    if scaling.kind == "linear":
        return freqs_h / np.float32(scaling.factor)
    if scaling.kind == "llama3":
        return rope.llama3_frequencies(
            freqs_h,
            factor=scaling.factor,
            low=scaling.low_freq_factor,
            high=scaling.high_freq_factor,
            original=scaling.original_max_position,
        )
    if scaling.kind == "yarn":
        return rope.yarn_frequencies(
            head_dim,
            theta,
            factor=scaling.factor,
            fast=scaling.beta_fast,
            slow=scaling.beta_slow,
            original=scaling.original_max_position,
            truncate=scaling.truncate,
        )
    return freqs_h
