"""Read how much a message counts in training: flags that take turns out of the loss, or weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tl_jax.errors import RowError

WEIGHTS = ("weight", "loss_weight", "loss_scale")
"""Keys of a factor on the loss of a turn: any number of at least 0."""
FLAGS = (
    "train", "trained", "training", "trainable", "is_trained", "should_train", "train_on",
    "train_on_turn", "loss", "compute_loss", "calculate_loss", "has_loss", "learn",
    "is_trainable", "requires_loss", "in_loss", "include_in_loss", "supervise", "supervised",
)  # fmt: skip
"""Keys that say whether a turn is trained; a number from 0 to 1 is its share."""
OPPOSITES = (
    "masked", "loss_mask", "no_loss", "ignore_loss", "no_train", "skip_train",
    "exclude_from_loss", "untrained", "is_masked", "mask_loss", "skip_loss", "context_only",
)  # fmt: skip
"""Keys that say whether a turn is left out of the loss, where true means that it is."""
BESIDE = ("metadata", "meta", "extra", "additional_kwargs")
"""Keys of a message whose object may hold a flag; a number there may measure something else."""
_ONE_MEANS_TRAINED = frozenset(("loss_mask",))
_WORDS = {"true": 1.0, "yes": 1.0, "on": 1.0, "false": 0.0, "no": 0.0, "off": 0.0}


def turn_weight(entry: Mapping[str, Any]) -> float:
    """Return the weight of a message, 1 where nothing is said; of several keys the product.

    Raises:
      RowError: A value that is no weight; the key is named.
    """
    weight = 1.0
    for key in WEIGHTS:
        if key in entry:
            weight *= _number(key, entry[key], math.inf)
    for key in FLAGS:
        if key in entry:
            weight *= _number(key, entry[key], 1.0)
    for key in OPPOSITES:
        if key in entry and entry[key] is not None:
            value = _number(key, entry[key], 1.0)
            weight *= value if key in _ONE_MEANS_TRAINED else 1 - value
    for outer in BESIDE:
        if isinstance(inner := entry.get(outer), Mapping):
            weight *= _flagged(inner)
    return weight


def _flagged(inner: Mapping[str, Any]) -> float:
    """Return 0 where an object beside the text of a turn says that it is not trained, else 1."""
    trained = [inner[key] for key in FLAGS if isinstance(inner.get(key), bool)]
    for key in OPPOSITES:
        if isinstance(inner.get(key), bool):
            trained.append(inner[key] == (key in _ONE_MEANS_TRAINED))
    return float(all(trained))


def _number(key: str, value: Any, most: float) -> float:
    if value is None or value == "":
        return 1.0
    number = value
    if isinstance(value, str):
        number = _WORDS.get(value.strip().lower())
        if number is None:
            try:
                number = float(value)
            except ValueError:
                number = math.nan
    if not isinstance(number, int | float) or not 0 <= number <= most or number == math.inf:
        limit = "a finite number of at least 0" if most == math.inf else "true, false or 0 to 1"
        raise RowError(f"{key!r} must be {limit} (the weight of the turn), not {value!r:.80}")
    return float(number)
