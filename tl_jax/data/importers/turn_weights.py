"""Read how much a message counts in training: flags that take turns out of the loss, or weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from tl_jax.errors import RowError

WEIGHTS = (
    "weight", "loss_weight", "loss_scale", "loss_factor", "turn_weight", "message_weight",
    "sft_weight", "lossWeight",
)  # fmt: skip
"""Keys of a factor on the loss of a turn: any number of at least 0."""
FLAGS = (
    "train", "trained", "training", "trainable", "is_trained", "should_train", "train_on",
    "train_on_turn", "loss", "compute_loss", "calculate_loss", "has_loss", "learn",
    "is_trainable", "requires_loss", "in_loss", "include_in_loss", "supervise", "supervised",
    "loss_mask", "train_mask", "step_loss_mask", "do_train", "is_train", "to_train", "train_turn",
    "use_for_training", "is_target", "train_on_this_turn", "train_loss", "with_loss",
    "output_with_loss", "apply_loss", "use_loss", "need_loss", "calc_loss", "add_loss", "is_loss",
    "learnable", "isTrainable", "shouldTrain", "trainOnTurn",
)  # fmt: skip
"""Keys that say whether a turn is trained; a number from 0 to 1 is its share."""
OPPOSITES = (
    "masked", "no_loss", "ignore_loss", "no_train", "skip_train",
    "exclude_from_loss", "untrained", "is_masked", "mask_loss", "skip_loss", "context_only",
    "ignore", "ignored", "ignore_turn", "exclude", "excluded", "exclude_from_training",
    "is_demo", "is_copied_context", "skip_training", "no_training", "do_not_train", "dont_train",
    "not_trained", "mask_out", "loss_masked", "is_ignored", "is_context", "no_grad", "frozen",
)  # fmt: skip
"""Keys that say whether a turn is left out of the loss, where true means that it is."""
MASK = "mask"
"""A key of which true means trained in some data sets, and left out in others."""
PARTS = ("train_detail", "training_detail")
"""Keys that say which characters of a turn are trained, which is not read."""
BESIDE = ("metadata", "meta", "extra", "additional_kwargs")
"""Keys of a message whose object may hold a flag; a number there may measure something else."""
_KEYS = frozenset((*WEIGHTS, *FLAGS, *OPPOSITES, MASK, *PARTS, *BESIDE))
_WORDS = {"true": 1.0, "yes": 1.0, "on": 1.0, "false": 0.0, "no": 0.0, "off": 0.0}


def turn_weight(entry: Mapping[str, Any], *, mask_trains: bool | None = None) -> float:
    """Return the weight of a message, 1 where nothing is said; of several keys the product.

    Args:
      entry: The message.
      mask_trains: What a true ``mask`` means, see ``mask_trains``; None if it is not read.

    Raises:
      RowError: A value that is no weight, or parts of a turn are weighed; the key is named.
    """
    weight = 1.0
    if _KEYS.isdisjoint(entry.keys()):
        return weight
    for key in WEIGHTS:
        if key in entry:
            weight *= _number(key, entry[key], math.inf)
    for key in FLAGS:
        if key in entry:
            weight *= _number(key, entry[key], 1.0)
    for key in OPPOSITES:
        if key in entry and not _is_empty(entry[key]):
            weight *= 1 - _number(key, entry[key], 1.0)
    if mask_trains is not None and not _is_empty(entry.get(MASK)):
        value = _number(MASK, entry[MASK], 1.0)
        weight *= value if mask_trains else 1 - value
    for key in PARTS:
        if isinstance(parts := entry.get(key), list) and not all(map(_is_trained, parts)):
            raise RowError(
                f"{key!r} leaves parts of a turn out of the loss; a turn is trained whole or not: "
                "give it 'train': true or false in place of it"
            )
    for outer in BESIDE:
        if isinstance(inner := entry.get(outer), Mapping):
            weight *= _flagged(inner)
    return weight


def _flagged(inner: Mapping[str, Any]) -> float:
    """Return 0 where an object beside the text of a turn says that it is not trained, else 1."""
    trained = [inner[key] for key in FLAGS if isinstance(_peek(inner, key), bool)]
    trained += [not inner[key] for key in OPPOSITES if isinstance(_peek(inner, key), bool)]
    return float(all(trained))


def mask_trains(prompt: Iterable[Any], replies: Iterable[Any]) -> bool | None:
    """Return whether a true ``mask`` means that a turn is trained, as one dialogue shows it.

    No data set trains what the user, the system and the tools say, so a mask that is true there
    leaves out; one that tells all these turns from all replies marks either.

    Args:
      prompt: The masks of those turns.
      replies: The masks of the model's turns.

    Returns:
      None if there is no mask.

    Raises:
      RowError: The dialogue does not show it.
    """
    others = {_number(MASK, value, 1.0) for value in prompt if not _is_empty(value)}
    own = {_number(MASK, value, 1.0) for value in replies if not _is_empty(value)}
    if not own:
        return None
    if others == {1.0} and own != {1.0}:
        return False
    if others == {0.0} and own == {1.0}:
        return True
    raise RowError(
        f"{MASK!r} can mean that a turn is trained or that it is left out, and this row does not "
        "show which; rename it to 'train' (true: trained) or 'masked' (true: left out)"
    )


def factor(key: str, value: Any) -> float:
    """Return what one of the keys here, of a message or a row, does to the weight of a turn.

    Raises:
      RowError: A value that is no weight; the key is named.
    """
    return turn_weight({key: value})


def is_word(value: Any) -> bool:
    """Whether a value is a text that stands for true, false or a number."""
    if not isinstance(value, str):
        return False
    return value.strip().lower() in _WORDS or value.strip().replace(".", "", 1).isdecimal()


def _peek(holder: Mapping[str, Any], key: str) -> Any:
    return dict.get(holder, key) if isinstance(holder, dict) else holder.get(key)


def _is_trained(part: Any) -> bool:
    return not isinstance(part, Mapping) or part.get("train") is not False


def _is_empty(value: Any) -> bool:
    return value is None or value == ""


def _number(key: str, value: Any, most: float) -> float:
    if _is_empty(value):
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
