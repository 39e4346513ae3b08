"""Tools that lie in a file of their own, beside the trajectories that call them."""

from __future__ import annotations

import collections
import dataclasses
import os
import random
from collections.abc import Iterable, Mapping
from typing import Any

from tl_jax.calls.call import ToolSpec
from tl_jax.data.importers.schemas import normalised_tool
from tl_jax.errors import DataError, RowError

CANDIDATES = 10
"""Tools offered to a row whose source names only those it calls."""
_WINDOW = 15


@dataclasses.dataclass(frozen=True)
class Toolbox:
    """The tools of one file, under the names the file gives them, in its order.

    Attributes:
      tools: Tool by name.
      repairs: Repairs that each tool needed, by kind.
    """

    tools: Mapping[str, ToolSpec]
    repairs: Mapping[str, Mapping[str, int]]

    def named(
        self, names: Iterable[str], repairs: collections.Counter[str]
    ) -> tuple[ToolSpec, ...]:
        """Return the tools of these names, in the order given, and add what they needed.

        A name that the file does not hold is left out, so that a call of it shows as a call of an
        unknown tool.
        """
        known = [name for name in dict.fromkeys(names) if name in self.tools]
        for name in known:
            repairs.update(self.repairs[name])
        return tuple(self.tools[name] for name in known)

    def candidates(self, called: Iterable[str], key: str) -> list[str]:
        """Return the names of ``CANDIDATES`` tools, in random order: those called and neighbours.

        Neighbours in such files are of the same field, so they are the likely mistakes. The draw
        depends on ``key`` and the file only.
        """
        order = list(self.tools)
        place = {name: number for number, name in enumerate(order)}
        gold = [name for name in dict.fromkeys(called) if name in place]
        near = {
            order[number % len(order)]
            for name in gold
            for number in range(place[name] - _WINDOW, place[name] + _WINDOW + 1)
        }
        draw = random.Random(key)
        others = sorted(near.difference(gold), key=place.__getitem__)
        chosen = draw.sample(others, max(0, min(len(others), CANDIDATES - len(gold))))
        names = [*gold, *chosen]
        draw.shuffle(names)
        return names


def toolbox(declared: Iterable[Any], path: str | os.PathLike[str]) -> Toolbox:
    """Build a toolbox from function objects; of several with one name the first stays.

    Raises:
      DataError: A tool cannot be read; ``path`` is named.
    """
    tools: dict[str, ToolSpec] = {}
    repairs: dict[str, collections.Counter[str]] = {}
    try:
        for function in declared:
            counts: collections.Counter[str] = collections.Counter()
            tool = normalised_tool(function, counts)
            if function["name"] not in tools:
                tools[function["name"]], repairs[function["name"]] = tool, counts
    except (RowError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{path}: not the tool file of this format: {error}") from error
    if not tools:
        raise DataError(f"{path}: no tools in it")
    return Toolbox(tools, repairs)


def needed(tools: Any, names: Iterable[str]) -> Any:
    """Return ``tools``, what ``load_tools`` gave.

    Raises:
      RowError: No file of tools was found, so no row of this format can be read.
    """
    if tools is None:
        raise RowError(f"no tools: put {' or '.join(names)} beside the data, or set tools_path")
    return tools
