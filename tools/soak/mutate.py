"""Small changes of values, texts and bytes."""

from __future__ import annotations

import random
from typing import Any

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, 1e308, float("nan"), 2**70, "", "x", "\ud800", "9" * 500),
    *([], [1], ["a"], [[]], {}, {"a": 1}, {"type": 5}, [None], {"x": [{}]}, {"$ref": "#"}),
)
_SNIPPETS = ("(", ")", "[", "]", "{", "}", '"', "'", "\\", "\n", "=", ",", ":", "<", ">", "|")
_SNIPPETS += ("null", "None", "true", "\u2028", "\x00", "\ud800", "</", "{{", "%}", "1e999", "é")


def value(found: Any, draw: random.Random) -> Any:
    """Return a JSON-like value with one part of it replaced or left out."""
    if isinstance(found, dict) and found and draw.random() < 0.8:
        key = draw.choice(list(found))
        copy = dict(found)
        if draw.random() < 0.15:
            del copy[key]
        else:
            copy[key] = value(found[key], draw)
        return copy
    if isinstance(found, list) and found and draw.random() < 0.8:
        copy = list(found)
        place = draw.randrange(len(copy))
        copy[place] = value(copy[place], draw)
        return copy
    return draw.choice(ODD)


def text(found: str, draw: random.Random) -> str:
    """Return a text with one to three small changes."""
    for _ in range(draw.randint(1, 3)):
        at = draw.randint(0, len(found))
        to = min(len(found), at + draw.randint(0, 4))
        new = draw.choice(("", draw.choice(_SNIPPETS), found[at:to] * draw.randint(1, 3)))
        found = found[:at] + new + found[to:]
    return found


def data(found: bytes, draw: random.Random, end: int = 0) -> bytes:
    """Return bytes with a bit flipped, a part cut off or overwritten; before ``end`` if given."""
    changed = bytearray(found)
    at = draw.randrange(end or len(changed))
    kind = draw.randrange(4)
    if kind == 0:
        del changed[at:]
    elif kind == 1:
        changed[at] ^= 1 << draw.randrange(8)
    elif kind == 2:
        odd = draw.choice((0, 2**31, 2**40, 2**63, 2**64 - 1))
        changed[at : at + 8] = odd.to_bytes(8, "little")[: len(changed) - at]
    else:
        changed[at : at + draw.randint(1, 9)] = draw.randbytes(draw.randint(0, 9))
    return bytes(changed)
