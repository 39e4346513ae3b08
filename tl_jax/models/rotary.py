"""Rotary angles of a model: its base and its scaling, as cosines and sines of positions."""

from __future__ import annotations

import jax
import numpy as np

from tl_jax.config import ModelConfig
from tl_jax.ops import rope


def angles(positions_BT: jax.Array, config: ModelConfig) -> tuple[jax.Array, jax.Array]:
    """Return the cosines and sines ``[B, T, H/2]`` float32 by which heads are rotated."""
    magnitude = config.rope_scaling.attention_factor
    return rope.rotary_angles(positions_BT, _frequencies(config), magnitude)


def _frequencies(config: ModelConfig) -> np.ndarray:
    scaling = config.rope_scaling
    freqs_h = rope.frequencies(config.head_dim, config.rope_theta)
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
            config.head_dim,
            config.rope_theta,
            factor=scaling.factor,
            fast=scaling.beta_fast,
            slow=scaling.beta_slow,
            original=scaling.original_max_position,
            truncate=scaling.truncate,
        )
    return freqs_h
