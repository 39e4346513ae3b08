"""Counts of parts of a data set as JSON, and added up to those of the whole.

Counts are dataclasses of numbers, Counters, tables of the first place something was seen, and
further counts. Added in the order of the parts they are what one pass over all of them would have
counted, in the same order.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any


def to_plain(counts: Any) -> Any:
    """Return counts as JSON has them."""
    if dataclasses.is_dataclass(counts):
        names = (field.name for field in dataclasses.fields(counts))
        return {name: to_plain(getattr(counts, name)) for name in names}
    if isinstance(counts, Mapping):
        return {key: to_plain(value) for key, value in counts.items()}
    return counts


def add_plain(counts: Any, found: Mapping[str, Any]) -> None:
    """Add what ``to_plain`` made of other counts of the same type to ``counts``."""
    for field in dataclasses.fields(counts):
        value, new = getattr(counts, field.name), found[field.name]
        if isinstance(value, collections.Counter):
            value.update(new)
        elif isinstance(value, collections.defaultdict):
            for key, entry in new.items():
                add_plain(value[key], entry)
        elif isinstance(value, dict):
            for key, entry in new.items():
                value.setdefault(key, entry)
        elif dataclasses.is_dataclass(value):
            add_plain(value, new)
        elif isinstance(value, int):
            setattr(counts, field.name, value + new)
        elif not value:
            setattr(counts, field.name, new)
