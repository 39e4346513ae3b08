"""Sliding windows of attention: which layers have one, in ``config.json`` and in ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tl_jax.config import ModelConfig
from tl_jax.errors import ConfigError

FIELDS = ("sliding_window", "use_sliding_window", "max_window_layers", "layer_types")
"""Fields of ``config.json`` that say which layers have a window."""

_FULL, _SLIDING = "full_attention", "sliding_attention"

# A window that no position leaves, for layers without one beside layers with one.
_NO_LIMIT = 2**31 - 1


def per_layer(config: ModelConfig) -> tuple[int, ...]:
    """Return the window of every layer, 0 for none."""
    return config.sliding_windows or (0,) * config.num_layers


def scanned(config: ModelConfig) -> tuple[int, np.ndarray | None]:
    """Return the windows as a scan over layers needs them.

    Returns:
      ``(window, None)`` with the window that all layers share, or where they differ
      ``(0, limits_L)`` with an int32 limit for each.
    """
    windows = per_layer(config)
    if len(set(windows)) == 1:
        return windows[0], None
    return 0, np.array([window or _NO_LIMIT for window in windows], np.int32)


def read_none(raw: Mapping[str, Any], num_layers: int) -> tuple[int, ...]:
    """Read the windows of a family that has none."""
    _check_types(raw, (0,) * num_layers, "this family has no sliding windows")
    return ()


def read_shared(raw: Mapping[str, Any], num_layers: int) -> tuple[int, ...]:
    """Read one window for all layers from ``sliding_window``; null means none.

    Raises:
      ConfigError: The message starts with the field.
    """
    windows = (_size(raw),) * num_layers
    _check_types(raw, windows, f"sliding_window {raw.get('sliding_window')!r} is for all layers")
    return windows if any(windows) else ()


def read_by_layer(raw: Mapping[str, Any], num_layers: int) -> tuple[int, ...]:
    """Read which layers have the window ``sliding_window``, if ``use_sliding_window`` is set.

    ``layer_types`` says it; without it the layers from number ``max_window_layers`` on have it.

    Raises:
      ConfigError: The message starts with the field.

    Source: ``transformers/models/qwen2/configuration_qwen2.py``.
    """
    used, first = raw.get("use_sliding_window", False), raw.get("max_window_layers")
    if not isinstance(used, bool):
        raise ConfigError(f"use_sliding_window must be true or false, got {used!r}")
    size = _size(raw) if used else 0
    types = _types(raw, num_layers)
    if types is None:
        if type(first) is not int or first < 0:
            raise ConfigError(f"max_window_layers must be a number of layers, got {first!r}")
        types = [_SLIDING if size and layer >= first else _FULL for layer in range(num_layers)]
    if _SLIDING in types and not size:
        raise ConfigError(
            "layer_types asks for sliding_attention, but use_sliding_window and sliding_window "
            "set no window"
        )
    windows = tuple(size if kind == _SLIDING else 0 for kind in types)
    return windows if any(windows) else ()


def write_none(config: ModelConfig) -> dict[str, Any]:
    """Return the fields of a family without windows: none.

    Raises:
      ConfigError: The configuration has windows.
    """
    if any(per_layer(config)):
        raise ConfigError("sliding_windows must be 0 for all layers")
    return {}


def write_shared(config: ModelConfig) -> dict[str, Any]:
    """Return the fields of a family whose layers share one window.

    Raises:
      ConfigError: Layers differ.
    """
    windows = set(per_layer(config))
    if len(windows) > 1:
        raise ConfigError("sliding_windows must be the same for all layers")
    return {"sliding_window": windows.pop() or None}


def write_by_layer(config: ModelConfig) -> dict[str, Any]:
    """Return the fields of a family that has one window in some of its layers.

    Raises:
      ConfigError: Layers have windows of different sizes.
    """
    windows = per_layer(config)
    sizes = set(windows) - {0}
    if len(sizes) > 1:
        raise ConfigError("sliding_windows must be 0 or one size")
    first = next((i for i, window in enumerate(windows) if window), config.num_layers)
    return {
        "use_sliding_window": bool(sizes),
        "sliding_window": sizes.pop() if sizes else None,
        "max_window_layers": first,
        "layer_types": [_SLIDING if window else _FULL for window in windows],
    }


def _size(raw: Mapping[str, Any]) -> int:
    size = raw.get("sliding_window")
    if size is None:
        return 0
    if type(size) is not int or size < 1:
        raise ConfigError(f"sliding_window must be a positive integer or null, got {size!r}")
    return size


def _types(raw: Mapping[str, Any], num_layers: int) -> list[str] | None:
    types = raw.get("layer_types")
    if types is None:
        return None
    if not isinstance(types, list) or len(types) != num_layers:
        raise ConfigError(f"layer_types must list a type for each of {num_layers} layers")
    for kind in types:
        if kind not in (_FULL, _SLIDING):
            raise ConfigError(f"layer_types has {kind!r}; implemented: {_FULL}, {_SLIDING}")
    return types


def _check_types(raw: Mapping[str, Any], windows: tuple[int, ...], why: str) -> None:
    types = _types(raw, len(windows))
    if types not in (None, [_SLIDING if window else _FULL for window in windows]):
        raise ConfigError(f"layer_types disagrees: {why}")
