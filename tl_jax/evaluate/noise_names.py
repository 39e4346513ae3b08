"""Other names for tools and parameters, at the levels of RoTBench."""

from __future__ import annotations

import math
import random
import string
from collections.abc import Callable, Mapping, Sequence

_TRIES = 100
Change = Callable[[Sequence[str], Sequence[str], random.Random, int], dict[str, str]]


def _each(
    change: Callable[[str, random.Random, int], str],
) -> Change:
    """Return what gives every name another one that no other has."""

    def changed(
        names: Sequence[str], taken: Sequence[str], lot: random.Random, longest: int
    ) -> dict[str, str]:
        used, found = set(taken), {}
        for name in names:
            for _ in range(_TRIES):
                new = change(name, lot, longest)
                if new not in used:
                    break
            else:
                continue  # one letter has few neighbours; it keeps its name
            used.add(new)
            found[name] = new
        return found

    return changed


def misspelt(name: str, lot: random.Random, longest: int = 0) -> str:
    """Insert, leave out or replace letters at 1 to a third of the places."""
    most = max(1, math.ceil(len(name) / 3) - 1)
    letters = list(name)
    for _ in range(lot.randint(1, most)):
        at = lot.randrange(len(letters))
        how = lot.choice(("insert", "delete", "replace"))
        letter = lot.choice(string.ascii_lowercase)
        if how == "insert":
            letters.insert(at, letter)
        elif how == "replace":
            letters[at] = letter
        elif len(letters) > 1:
            del letters[at]
    return _name("".join(letters), lot)


def unreadable(name: str, lot: random.Random, longest: int) -> str:
    """Return the name reversed, or as many random letters as may be, with equal chance."""
    if lot.random() < 0.5 and name != name[::-1]:
        return _name(name[::-1], lot)
    return "".join(lot.choices(string.ascii_letters, k=lot.randint(1, longest)))


def _name(text: str, lot: random.Random) -> str:
    # A name begins with a letter, or else no call style could write it.
    return text if text[:1].isalpha() else lot.choice(string.ascii_lowercase) + text[1:]


def swapped(
    names: Sequence[str], taken: Sequence[str], lot: random.Random, longest: int
) -> dict[str, str]:
    """Give every name that of another one, where there are several."""
    order = list(names)
    lot.shuffle(order)
    return dict(zip(order, [*order[1:], *order[:1]], strict=True)) if len(order) > 1 else {}


CHANGES: Mapping[str, Change] = {
    "slight": _each(misspelt),
    "medium": _each(unreadable),
    "heavy": swapped,
}
"""New names by level, ``(names, all names that are taken, lot, most random letters)``."""
