"""What a reply rests on: calls and results that its sample may not lose."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from tl_jax.data.trajectory import Message


def newest_results(messages: Sequence[Message]) -> range:
    """Return the places of the results that came last before a reply; empty if there are none.

    Args:
      messages: The turns; the last one is the reply.
    """
    places = [place for place in range(len(messages) - 1) if messages[place].role == "tool"]
    if not places:
        return range(0)
    end = places[-1] + 1
    before = itertools.takewhile(lambda place: messages[place].role == "tool", range(end)[::-1])
    return range(end - len(list(before)), end)


def evidence(messages: Sequence[Message]) -> frozenset[int]:
    """Return the places of the turns that a reply rests on.

    They are all calls and results since the user spoke last, and in any case the newest results
    with the turn that called for them: an answer to a new question may speak of them, too.

    Args:
      messages: The turns; the last one is the reply.
    """
    last = len(messages) - 1
    spoken = max((i for i in range(last) if messages[i].role == "user"), default=-1)
    found = {i for i in range(spoken + 1, last) if messages[i].calls or messages[i].role == "tool"}
    if newest := newest_results(messages):
        found |= {max(newest.start - 1, 0), *newest}
    return frozenset(found)
