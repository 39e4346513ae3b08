"""Read a trajectory file of any known format, row by row, without stopping at bad rows."""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import os
import types
from collections.abc import Iterator, Mapping
from typing import Any

from tl_jax.data.importers import (
    agentdojo,
    api_bank,
    api_bank_steps,
    canonical,
    intercode,
    livemcpbench,
    nestful,
    openai,
    rotllama,
    seal_tools,
    sharegpt,
    star,
    tau2_bench,
    tau_bench,
    tl_training,
    toolalpaca,
    toolbench,
    toolrl,
    tooltalk,
    xlam,
)
from tl_jax.data.importers.custom import open_importer
from tl_jax.data.importers.rows import BadRow, RawRow, parsed, raw_rows
from tl_jax.data.trajectory import Trajectory
from tl_jax.errors import DataError, RowError

_MODULES = (
    canonical,
    tl_training,
    rotllama,
    agentdojo,
    tau2_bench,
    tau_bench,
    toolbench,
    xlam,
    api_bank,
    api_bank_steps,
    intercode,
    livemcpbench,
    nestful,
    seal_tools,
    star,
    toolalpaca,
    toolrl,
    tooltalk,
    # General forms come last: rows of the formats above may look like them.
    sharegpt,
    openai,
)
FORMATS: Mapping[str, Any] = {module.NAME: module for module in _MODULES}
"""Importer modules by format name. ``auto`` takes the first in this order that knows a row."""

_ROWS_TO_RECOGNISE = 50


@dataclasses.dataclass(frozen=True)
class Source:
    """A file and the format it is read as; iterate over it to get its rows.

    Attributes:
      path: The file.
      format: Name of the format.
      reason: Why this format.
      tools_path: The file of the tools, where they are not in the rows; else empty.
      tools: What the importer made of that file.
      own: A user's importer, where the format is its; else None.
    """

    path: str
    format: str
    reason: str
    tools_path: str = ""
    tools: Any = dataclasses.field(default=None, repr=False, compare=False)
    own: types.ModuleType | None = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def importer(self) -> Any:
        """The module that reads the rows."""
        return self.own or FORMATS[self.format]

    @property
    def files(self) -> tuple[str, ...]:
        """All files that the rows depend on."""
        found = [self.path]
        if self.own is not None:
            found.append(str(self.own.__file__))
        if self.tools_path:
            beside = _beside(self.importer, self.path, os.path.dirname(self.tools_path))
            found += [self.tools_path, *(name for name in beside if os.path.isfile(name))]
        return tuple(dict.fromkeys(found))

    def __iter__(self) -> Iterator[Trajectory | BadRow]:
        return (row for _, row in self.numbered())

    def numbered(self) -> Iterator[tuple[int, Trajectory | BadRow]]:
        """Yield every row with its number in the file, whatever its own ``line`` says."""
        for row in self.raw():
            for found in self.converted(row):
                yield row.line, found

    def raw(self) -> Iterator[RawRow]:
        """Yield the rows as they stand in the file, in order, for ``converted``."""
        return raw_rows(self.path)

    def converted(self, row: RawRow) -> Iterator[Trajectory | BadRow]:
        """Read one raw row: its trajectories, mostly one, or why there is none.

        It depends on nothing but the row and this source, which other processes can be sent.
        """
        value, importer = parsed(row), self.importer
        if isinstance(value, BadRow):
            yield value
            return
        # A row that holds several dialogues is split first; each is read or refused alone.
        several = hasattr(importer, "split") and isinstance(value, dict)
        for part in importer.split(value) if several else (value,):
            yield self._trajectory(part, row)

    def _trajectory(self, value: Any, row: RawRow) -> Trajectory | BadRow:
        named: dict[str, Any] = {"source": os.path.basename(row.path), "line": row.line}
        if hasattr(self.importer, "load_tools"):
            named["tools"] = self.tools
        try:
            if not isinstance(value, dict):
                raise RowError(f"a row must be an object, not {type(value).__name__}")
            found = self.importer.trajectory(value, **named)
            _check(found)
        except RowError as error:
            return BadRow(row.path, row.line, str(error), value)
        except (TypeError, LookupError, AttributeError, ValueError, RecursionError) as error:
            return BadRow(row.path, row.line, f"not a {self.format} row: {error!r}", value)
        return found

    def __getstate__(self) -> dict[str, Any]:
        # A module cannot be pickled; its file is loaded again.
        return {**self.__dict__, "own": None if self.own is None else str(self.own.__file__)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        own = state["own"]
        self.__dict__.update(state, own=None if own is None else open_importer(own))


def read(
    path: str | os.PathLike[str],
    format: str = "auto",  # noqa: A002
    tools_path: str | os.PathLike[str] = "",
    own: types.ModuleType | None = None,
) -> Source:
    """Open a trajectory file.

    Args:
      path: A ``.json`` (one list) or ``.jsonl`` (one row a line) file, either also with ``.gz``.
      format: A name in ``FORMATS``, or ``"auto"`` to recognise it by the first rows.
      tools_path: The file of the tools, for formats that keep them outside their rows; by default
        the file beside ``path`` with the name that the format gives it.
      own: A user's importer (``custom.open_importer``), asked before all others and in place of
        one of its name.

    Returns:
      An iterable of ``Trajectory`` and, for rows that cannot be read, ``BadRow``.

    Raises:
      ValueError: An unknown format or file ending, a file that no importer recognises, a user's
        importer that raises when it is to recognise one, or a file of tools that cannot be read or
        that the format has no use for.
      DataError: A damaged ``.gz`` file, or a ``.json`` file that is not JSON, now or while reading
        on.
      DataError: No such file.
    """
    path, tools_path = str(path), str(tools_path)
    if not os.path.isfile(path):
        raise DataError(f"{path}: no such file; set data.path to a trajectory file")
    if not path.removesuffix(".gz").endswith((".json", ".jsonl")):
        raise ValueError(f"{path}: expected a .json or .jsonl file, also with .gz")
    formats = FORMATS if own is None else {own.NAME: own, **FORMATS, own.NAME: own}
    if format == "auto":
        format, reason = _recognised(path, formats)  # noqa: A001
    elif format in formats:
        reason = "set by the configuration"
    else:
        near = difflib.get_close_matches(format, formats, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown format {format!r}; {hint}known: auto, {', '.join(formats)}")
    own = own if own is not None and own.NAME == format else None
    tools_path, tools = _tools(path, format, formats[format], tools_path)
    return Source(path, format, reason, tools_path, tools, own)


def _recognised(path: str, formats: Mapping[str, Any]) -> tuple[str, str]:
    """Return the first of the formats, in their order, that knows one of the first rows."""
    rows = [(r.line, parsed(r)) for r in itertools.islice(raw_rows(path), _ROWS_TO_RECOGNISE)]
    for name, module in formats.items():
        for line, row in rows:
            try:
                reason = module.recognise(row)
            except Exception as error:
                raise ValueError(
                    f"{module.__file__}: recognise raised for row {line + 1} of {path}: "
                    f"{type(error).__name__}: {error}"
                ) from error
            if reason:
                return name, f"row {line + 1}: {reason}"
    keys = dict.fromkeys(key for _, row in rows if isinstance(row, dict) for key in row)
    seen = f"its rows have the keys {', '.join(keys)}" if keys else "it has no JSON objects"
    raise ValueError(
        f"{path}: format not recognised ({seen}); set data.format to one of {', '.join(formats)}"
    )


def _tools(path: str, name: str, importer: Any, tools_path: str) -> tuple[str, Any]:
    """Find and load the file of the tools; an empty path and None if there is none."""
    if not hasattr(importer, "load_tools"):
        if tools_path:
            raise ValueError(
                f"format {name} has its tools in its rows; leave data.tools_path empty"
            )
        return "", None
    if not tools_path:
        candidates = _beside(importer, path, os.path.dirname(path))
        tools_path = next((file for file in candidates if os.path.isfile(file)), "")
    elif not os.path.isfile(tools_path):
        raise DataError(f"{tools_path}: no such file; set data.tools_path to the tools")
    return tools_path, importer.load_tools(tools_path) if tools_path else None


def _beside(importer: Any, path: str, folder: str) -> list[str]:
    """Return where the files of the tools may be; ``{stem}`` is the data file's name."""
    stem = os.path.basename(path).partition(".json")[0]
    return [os.path.join(folder, name.replace("{stem}", stem)) for name in importer.TOOLS_FILES]


def _check(found: Any) -> None:
    if not isinstance(found, Trajectory):
        raise RowError(f"the importer returned {type(found).__name__}, not a Trajectory")
    if not any(message.role == "assistant" for message in found.messages):
        raise RowError("no assistant turn")
    if any(message.role == "system" for message in found.messages[1:]):
        raise RowError("a system turn that is not the first")
