"""Frozen matrices in 4 bits: an NF4 code for each weight, a scale for each 64 inputs of an output.

The codes are those of the optional package qwix. A matrix is widened where it is used, so that in
training only one layer's matrices exist in full at a time, but for ``remat="none"``, which keeps
them all. While text is generated the compiler may widen them all ahead of its loop.

Source: Dettmers et al. 2023 (arXiv 2305.14314), section 3, without quantised scales.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from typing import Any

import jax
import numpy as np

from tl_jax.errors import ConfigError

BLOCK = 64
CODES, SCALES = "kernel_codes", "kernel_scales"
"""Keys that stand in place of ``kernel``."""


def check() -> None:
    """Refuse to go on without qwix.

    Raises:
      ConfigError: The message says how to install it.
    """
    if importlib.util.find_spec("qwix") is None:
        raise ConfigError(
            "config.lora.frozen 'nf4' needs the package qwix; install it with "
            "`pip install 'tl_jax[qlora]'`"
        )


def scales_shape(sizes: tuple[int, int]) -> tuple[int, int]:
    """Return the shape of the scales of a kernel ``[in, out]``.

    Raises:
      ConfigError: The inputs are no whole number of blocks.
    """
    if sizes[0] % BLOCK:
        raise ConfigError(
            f"config.lora.frozen 'nf4' needs matrices with a multiple of {BLOCK} inputs, this "
            f"model has one with {sizes[0]}"
        )
    return sizes[0] // BLOCK, sizes[1]


def quantised(kernel_LIO: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return codes ``[L, I, O]`` uint4 and scales ``[L, I / 64, O]`` of stacked kernels."""
    import qwix  # pyright: ignore[reportMissingImports]  # only the extra "qlora" has it

    def one(kernel_IO: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = qwix.quantize(kernel_IO, "nf4", channelwise_axes=(1,), tiled_axes={0: BLOCK})
        return found.qvalue, found.scale

    # One after another: the search for the nearest code needs many times a kernel's memory.
    return jax.lax.map(one, kernel_LIO)


def dequantised(codes_IO: jax.Array, scales: jax.Array, dtype: Any) -> jax.Array:
    """Return the kernel ``[I, O]`` that codes and scales stand for."""
    import qwix  # pyright: ignore[reportMissingImports]  # only the extra "qlora" has it

    wide = scales.astype(dtype)
    return qwix.dequantize(qwix.QArray(codes_IO, wide, qtype="nf4")).astype(dtype)


@dataclasses.dataclass(frozen=True)
class Kernels:
    """Stacked kernels that are widened one layer at a time, when they are asked for."""

    codes: jax.Array
    scales: jax.Array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.codes.shape

    def __getitem__(self, layer: int) -> jax.Array:
        return dequantised(self.codes[layer], self.scales[layer], np.float32)
