"""Read what a row says of the weights of its turns outside them: lists, a role, one for all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tl_jax.data.importers.chat import is_reply
from tl_jax.data.importers.turn_weights import (
    FLAGS,
    MASK,
    OPPOSITES,
    WEIGHTS,
    factor,
    is_word,
    mask_trains,
)
from tl_jax.data.importers.unread import changed
from tl_jax.errors import RowError

_OF_ALL = (*WEIGHTS, "sample_weight", "example_weight")
"""Keys of a row with one number for all its turns."""
_OUT = ("exclude", "excluded", "ignore", "ignored", "do_not_train", "skip_training")
"""Keys of a row of which true takes all of it out of the loss, as false does for ``FLAGS``."""
_UNWANTED = ("label", "kto_tag")
"""Keys of a row of which false says that its reply is a bad one."""
_LISTS = {
    name: key
    for key in (*WEIGHTS, *FLAGS, *OPPOSITES, MASK)
    for name in (key, f"{key}s", f"message_{key}s", f"turn_{key}s")
}
"""The key of a message by the names of a row's list that has a value of it for each."""
_OF_TOKENS = ("input_ids", "token_ids", "tokens", "labels")
"""Keys of a row whose lists are of tokens, as those beside them are."""


def refuse_unwanted(row: Mapping[str, Any]) -> None:
    """Refuse a row whose reply is not to be learned, or that has a better and a worse one.

    Raises:
      RowError: It is such a row.
    """
    for key in _UNWANTED:
        if isinstance(_peek(row, key), bool) and row[key] is False:
            raise RowError(f"a reply that its row marks as unwanted ({key!r}: false); leave it out")
    rejected = _peek(row, "rejected")
    turns = rejected if isinstance(rejected, list) else [rejected]
    if turns and all(
        isinstance(turn, Mapping) and {"role", "from"} & turn.keys() for turn in turns
    ):
        raise RowError(
            "a preferred and a rejected reply ('chosen', 'rejected'); to train the preferred one, "
            "write it as the last message"
        )


def with_row_weights(row: Mapping[str, Any], entries: Any) -> Any:
    """Return the messages of a row with the weights that the row keeps beside them.

    These are lists with one value for each message, or for each of the model's; a number for all;
    and ``mask`` with the name of the role that is left out of the loss.

    Args:
      row: The row.
      entries: Its messages.

    Raises:
      RowError: A list of another length, a value that is no weight, or a list whose meaning the
        row does not show.
    """
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        return entries
    weights = [1.0] * len(entries)
    for name in _OF_ALL:
        if isinstance(value := _peek(row, name), int | float) and value is not True:
            weights = [weight * factor("weight", row[name]) for weight in weights]
    out = [name for name in FLAGS if _peek(row, name) is False]
    for name in [*out, *(name for name in _OUT if _peek(row, name) is True)]:
        weights = [weight * factor(name, row[name]) for weight in weights]
    lists = [name for name in row.keys() & _LISTS.keys() if _is_list(_peek(row, name))]
    for name in () if any(key in row for key in _OF_TOKENS) else sorted(lists):
        found = _listed(name, _LISTS[name], row[name], entries)
        weights = [one * other for one, other in zip(weights, found, strict=True)]
    if isinstance(role := _peek(row, MASK), str) and is_reply(role) is not None:
        row.get(MASK)
        if is_reply(role):
            weights = [0.0] * len(entries)
    if all(weight == 1 for weight in weights):
        return entries
    return [_weighed(entry, weight) for entry, weight in zip(entries, weights, strict=True)]


def _listed(name: str, key: str, values: list[Any], entries: list[Any]) -> list[float]:
    replies = [n for n, entry in enumerate(entries) if is_reply(entry.get("role"))]
    if len(values) == len(entries):
        places = list(range(len(entries)))
    elif len(values) == len(replies):
        places = replies
    else:
        raise RowError(
            f"{name!r} has {len(values)} entries for {len(entries)} messages, of which "
            f"{len(replies)} are the model's; give each message its own 'weight'"
        )
    trains = True
    if key == MASK:
        at = dict(zip(places, values, strict=True))
        others = [value for place, value in at.items() if place not in replies]
        trains = mask_trains(others, [at[place] for place in replies if place in at])
    found = [1.0] * len(entries)
    for place, value in zip(places, values, strict=True):
        if key != MASK:
            found[place] = factor(key, value)
        elif trains is not None:
            found[place] = factor("train" if trains else "masked", value)
    return found


def _weighed(entry: Mapping[str, Any], weight: float) -> Mapping[str, Any]:
    own = 1.0 if _peek(entry, "weight") is None else factor("weight", entry["weight"])
    return changed(entry, weight=weight * own)


def _is_list(value: Any) -> bool:
    if not isinstance(value, list) or not value:
        return False
    return all(entry is None or isinstance(entry, int | float) or is_word(entry) for entry in value)


def _peek(holder: Any, key: str) -> Any:
    return dict.get(holder, key) if isinstance(holder, dict) else None
