"""Low-rank adapters: which matrices have one, and what of the parameters is trained.

``y = x W + (x A) B * alpha / rank`` with a frozen ``W``: neither gradient nor moments of it exist.

Source: Hu et al. 2021 (arXiv 2106.09685), section 4.1.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from tl_jax.config import LoraConfig, RunConfig
from tl_jax.errors import ConfigError
from tl_jax.models import nf4
from tl_jax.types import Params

A, B = "lora_a", "lora_b"
"""Keys of the two factors, beside the kernel that they adapt."""

PATHS = ("attn/q", "attn/k", "attn/v", "attn/o", "mlp/gate", "mlp/up", "mlp/down")
"""The matrices of a layer that can have an adapter."""

# Not part of the pretrained model: there is nothing to adapt.
_ALWAYS_TRAINED = "value_head"


def check(config: RunConfig) -> None:
    """Refuse targets that cannot be read or find no matrix, and adapters that nobody would read.

    Raises:
      ConfigError: The message names the setting and what it can be, or a package to install.
    """
    targets = config.lora.targets
    try:
        pattern = re.compile(targets)
    except re.error as error:
        raise ConfigError(f"config.lora.targets {targets!r}: {error}") from error
    if not any(map(pattern.fullmatch, PATHS)):
        raise ConfigError(f"config.lora.targets {targets!r} matches none of {', '.join(PATHS)}")
    if config.lora.rank and config.lora.frozen == "nf4":
        nf4.check()
    if config.model.adapter and not config.lora.rank:
        raise ConfigError("config.model.adapter is read with config.lora.rank above 0 only")


def adapts(config: LoraConfig, path: str) -> bool:
    """Whether the matrix at ``path`` has an adapter; one that is none of ``PATHS`` never has."""
    return config.rank > 0 and path in PATHS and re.fullmatch(config.targets, path) is not None


def packs(config: LoraConfig, path: str) -> bool:
    """Whether the matrix at ``path`` (one of ``PATHS``) is held in 4 bits."""
    return config.rank > 0 and config.frozen == "nf4" and path in PATHS


def scale(config: LoraConfig) -> float:
    """Return what the product of the factors is multiplied by."""
    return config.alpha / config.rank


def split(params: Params, config: LoraConfig) -> tuple[Params, Params]:
    """Return ``(trained, frozen)``: two nested dicts without empty ones that share the leaves.

    Args:
      params: Parameters or their declarations, with or without a critic.
      config: Without adapters everything is trained.
    """
    if not config.rank:
        return params, {}
    trained: Params = {}
    frozen: Params = {}
    for key, node in params.items():
        if key in (A, B, _ALWAYS_TRAINED):
            trained[key] = node
        elif isinstance(node, dict):
            parts = zip((trained, frozen), split(node, config), strict=True)
            for whole, part in parts:
                if part:
                    whole[key] = part
        else:
            frozen[key] = node
    return trained, frozen


def joined(trained: Params, frozen: Params) -> Params:
    """Return the parameters that ``split`` took apart; no leaf is copied."""
    both = {**frozen, **trained}
    for key in trained.keys() & frozen.keys():
        both[key] = joined(trained[key], frozen[key])
    return both


def merged_kernel(kernel: np.ndarray, a: Any, b: Any, config: LoraConfig) -> np.ndarray:
    """Return the float32 matrix that does what kernel and adapter do together.

    Args:
      kernel: ``[in, out]``.
      a: ``[in, rank]``.
      b: ``[rank, out]``.
      config: Of the adapter.
    """
    wide = [np.asarray(x).astype(np.float32) for x in (kernel, a, b)]
    return wide[0] + wide[1] @ wide[2] * np.float32(scale(config))
