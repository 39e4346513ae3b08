"""The splits of a data set, as the names of its files and folders tell them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from tl_jax.errors import DataError

_ALIASES = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
_WORD = re.compile(rf"(?<![a-zA-Z0-9])({'|'.join(_ALIASES)})(?![a-zA-Z0-9])", re.IGNORECASE)
_SHARD = re.compile(r"(.+?)-\d{5,}-of-\d{5,}")
_NO_SPLIT = ("data", "part", "shard")


def split_of(name: str) -> str:
    """Return the split of a file by its name or, failing that, its folders; empty if none says.

    ``train_sft-00000-of-00002.parquet`` is of ``train_sft``, ``data/my-train.jsonl`` and
    ``train/0000.parquet`` are of ``train``, ``dev.jsonl`` is of ``validation``.

    Args:
      name: The path within the data set.
    """
    *folders, file = name.split("/")
    stem = file.partition(".")[0]
    if (shard := _SHARD.fullmatch(stem)) and shard[1] not in _NO_SPLIT:
        return _ALIASES.get(shard[1].lower(), shard[1])
    for part in (stem, *reversed(folders)):
        if word := _WORD.search(part):
            return _ALIASES[word[1].lower()]
    return ""


def by_split(names: Iterable[str]) -> dict[str, list[str]]:
    """Return sorted names by their split."""
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        found.setdefault(split_of(name), []).append(name)
    return found


def is_split_name(key: str) -> bool:
    """Whether a key names a split, such as ``train`` or ``test_seen``."""
    return _WORD.search(key.replace("_", "-")) is not None


def choose(splits: Collection[str], asked: str, where: str) -> tuple[str, str]:
    """Return the split to take and, in words, what is left out; ``train`` where none is asked for.

    Args:
      splits: Names of all that there are; an empty one is of what no name says.
      asked: The name asked for, or an empty text.
      where: The place, for messages.

    Raises:
      DataError: There is no such split, or several but no ``train``.
    """
    names = list(splits)
    named = ", ".join(name or "(not named)" for name in names)
    if asked:
        found = next((n for n in (asked, _ALIASES.get(asked.lower(), asked)) if n in names), None)
        if found is None:
            raise DataError(f"{where}: there is no split {asked!r}; there are: {named}")
    elif len(names) == 1:
        return names[0], ""
    elif "train" in names and "" not in names:
        found = "train"
    else:
        raise DataError(
            f"{where}: it has several splits ({named}); say which, such as "
            f"{where}:{next(filter(None, names))}"
        )
    others = ", ".join(name or "(not named)" for name in names if name != found)
    return found, f"the split {found}" + (f", without {others}" if others else "")
