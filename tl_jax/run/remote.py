"""No setting of a run leads elsewhere than it says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tl_jax.config.places import check_place
from tl_jax.run.record import flatten

_NO_PLACES = ("evaluate.stop_strings",)


def check_all_local(settings: Mapping[str, Any]) -> None:
    """Refuse a place on a network, or a home that no shell filled in, in any of nested settings.

    Raises:
      ConfigError: As ``check_place``.
    """
    for name, value in flatten(settings).items():
        if name not in _NO_PLACES:
            check_place(f"config.{name}", value)
