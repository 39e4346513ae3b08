"""Read trajectories of any known format, row by row, without stopping at bad rows."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import itertools
import os
import types
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tl_jax.data.importers import (
    agentdojo,
    anthropic,
    api_bank,
    api_bank_steps,
    atif,
    autogen,
    canonical,
    chatgpt,
    claude_code,
    codex,
    gemini,
    glaive,
    instructions,
    intercode,
    langchain,
    livemcpbench,
    logs,
    message_parts,
    nestful,
    openai,
    openhands,
    prompt_completion,
    responses,
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
    wrapped,
    xlam,
)
from tl_jax.data.importers.advice import advice
from tl_jax.data.importers.custom import open_importer
from tl_jax.data.importers.evaluation_sets import evaluation_set
from tl_jax.data.importers.hub_sets import is_file, local_file
from tl_jax.data.importers.json_files import IsRow, json_split
from tl_jax.data.importers.places import Place, find, kind, raw_rows
from tl_jax.data.importers.rows import BadRow, RawRow, parsed, with_lists
from tl_jax.data.importers.unread import plain, settled, split_parts, unread_keys, watched
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
    atif,
    autogen,
    claude_code,
    codex,
    openhands,
    chatgpt,
    logs,
    message_parts,
    anthropic,
    responses,
    langchain,
    gemini,
    prompt_completion,
    wrapped,
    glaive,
    instructions,
    sharegpt,
    openai,
)
FORMATS: Mapping[str, Any] = {module.NAME: module for module in _MODULES}
"""Importer modules by format name. ``auto`` takes the first in this order that knows a row."""

_ROWS_TO_RECOGNISE = 50


@dataclasses.dataclass(frozen=True)
class Source:
    """Files and the format they are read as; iterate over it to get their rows.

    Attributes:
      path: A file, a directory or a data set of the Hub, as for ``read``.
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

    @functools.cached_property
    def place(self) -> Place:
        """The data files, in order; looked up once."""
        return find(self.path, _aside())

    @property
    def files(self) -> tuple[str, ...]:
        """All files that the rows depend on; those of the Hub by their names there."""
        found = list(self.place.files)
        if self.own is not None:
            found.append(str(self.own.__file__))
        if self.tools_path:
            beside = _beside(self.importer, found[0], os.path.dirname(self.tools_path))
            found += [self.tools_path, *(name for name in beside if os.path.isfile(name))]
        return tuple(dict.fromkeys(found))

    def __iter__(self) -> Iterator[Trajectory | BadRow]:
        return (row for _, row in self.numbered())

    def numbered(self) -> Iterator[tuple[int, Trajectory | BadRow]]:
        """Yield every row with its number in its file, whatever its own ``line`` says."""
        for row in self.raw():
            for found in self.converted(row):
                yield row.line, found

    def raw(self, files: Sequence[str] | None = None) -> Iterator[RawRow]:
        """Yield the rows as they stand in the files, in order, for ``converted``.

        Args:
          files: Some of ``place.files``; all if None.
        """
        formats = FORMATS if self.own is None else {self.own.NAME: self.own, **FORMATS}
        is_row = functools.partial(_is_row, formats=formats)
        for file in self.place.files if files is None else files:
            yield from raw_rows(file, self.place.split, is_row)

    def converted(self, row: RawRow) -> Iterator[Trajectory | BadRow]:
        """Read one raw row: its trajectories, mostly one, or why there is none.

        It depends on nothing but the row and this source, which other processes can be sent.
        """
        repairs: Counter[str] = Counter()
        value, importer = parsed(row, repairs), self.importer
        if isinstance(value, BadRow):
            yield value
            return
        if name := evaluation_set(value):
            reason = f"an evaluation row ({name}), which must not be trained on"
            yield BadRow(row.path, row.line, reason, value)
            return
        seen = watched(value)
        # A row that holds several dialogues is split first; each is read or refused alone.
        several = hasattr(importer, "split") and isinstance(value, dict)
        parts = split_parts(seen, importer.split(seen)) if several else (seen,)
        unread: Mapping[str, int] | None = None
        for found in [self._trajectory(part, row) for part in parts]:
            if isinstance(found, Trajectory) and unread is None:
                # Counted once, with the first: all parts of the row have been read by now.
                unread = unread_keys(seen)
                if unread or repairs:
                    added = dict(Counter(found.repairs) + repairs)
                    found = dataclasses.replace(found, unread=unread, repairs=added)
            yield found

    def _trajectory(self, value: Any, row: RawRow) -> Trajectory | BadRow:
        named: dict[str, Any] = {"source": self.place.name(row.path), "line": row.line}
        if hasattr(self.importer, "load_tools"):
            named["tools"] = self.tools
        try:
            if not isinstance(value, dict):
                raise RowError(f"a row must be an object, not {type(value).__name__}")
            found = self.importer.trajectory(value, **named)
            _check(found)
            return settled(found)
        except RowError as error:
            reason = str(error)
        except (TypeError, LookupError, AttributeError, ValueError, RecursionError) as error:
            reason = f"not a {self.format} row: {error!r}"
        return BadRow(row.path, row.line, reason, plain(value))

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
    """Open a data set.

    Args:
      path: A file (JSON in any shape, CSV, Parquet, Arrow), a directory of files of one kind, or a
        data set of the Hub, ``organisation/name[@revision]``; with ``:split`` behind it, one split.
      format: A name in ``FORMATS``, or ``"auto"`` to recognise it by the first rows.
      tools_path: The file of the tools, for formats that keep them outside their rows; by default
        the file beside the data with the name that the format gives it.
      own: A user's importer (``custom.open_importer``), asked before all others and in place of
        one of its name.

    Returns:
      An iterable of ``Trajectory`` and, for rows that cannot be read, ``BadRow``.

    Raises:
      ValueError: An unknown format, rows that no importer recognises, a user's importer that raises
        when it is to recognise one, or a file of tools that cannot be read or that the format has
        no use for.
      DataError: There is nothing at ``path``, no such split, a file that is empty, damaged or no
        data, now or while reading on, or one of an evaluation set.
    """
    path, tools_path = str(path), str(tools_path)
    formats = FORMATS if own is None else {own.NAME: own, **FORMATS, own.NAME: own}
    if format != "auto" and format not in formats:
        near = difflib.get_close_matches(format, formats, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown format {format!r}; {hint}known: auto, {', '.join(formats)}")
    place, is_row = find(path, _aside()), functools.partial(_is_row, formats=formats)
    first = _first_rows(place, is_row)
    reason = "set by the configuration"
    if format == "auto":
        format, reason = _recognised(path, first, formats)  # noqa: A001
    taken = place.note
    if len(place.files) == 1 and kind(place.files[0]) == "JSON":
        taken = "; ".join(filter(None, (taken, _taken(place, is_row))))
    own = own if own is not None and own.NAME == format else None
    tools_path, tools = _tools(place, format, formats[format], tools_path)
    reason = "; ".join(filter(None, (reason, taken)))
    return Source(path, format, reason, tools_path, tools, own)


def _first_rows(place: Place, is_row: IsRow) -> list[tuple[RawRow, Any]]:
    """Return the first rows as they stand and as they are parsed.

    Raises:
      DataError: There are none.
    """
    rows = (row for file in place.files for row in raw_rows(file, place.split, is_row))
    found = [(row, parsed(row, Counter())) for row in itertools.islice(rows, _ROWS_TO_RECOGNISE)]
    if not found:
        raise DataError(f"{place.files[0]}: it holds no rows")
    return found


def _taken(place: Place, is_row: IsRow) -> str:
    file = place.files[0]
    return json_split(local_file(file) if is_file(file) else file, place.split, is_row)


def _recognised(
    path: str, rows: Sequence[tuple[RawRow, Any]], formats: Mapping[str, Any]
) -> tuple[str, str]:
    """Return the first of the formats, in their order, that knows one of the first rows."""
    for name, module in formats.items():
        for row, value in rows:
            try:
                reason = module.recognise(value)
            except Exception as error:
                raise ValueError(
                    f"{module.__file__}: recognise raised for row {row.line + 1} of {row.path}: "
                    f"{type(error).__name__}: {error}"
                ) from error
            if reason:
                return name, f"row {row.line + 1}: {reason}"
    values = [value for _, value in rows]
    if bad := next((value for value in values if isinstance(value, BadRow)), None):
        if all(isinstance(value, BadRow) for value in values):
            number = (
                f"none of its first {len(rows)} rows can" if len(rows) > 1 else "its row cannot"
            )
            raise DataError(f"{bad.path}: {number} be read; line {bad.line + 1}: {bad.reason}")
    if name := next(filter(None, map(evaluation_set, values)), ""):
        raise DataError(
            f"{path}: rows of {name}, an evaluation set, which must not be trained on; score it "
            "with `tl-jax evaluate --suite`, and name it in data.contamination_paths"
        )
    if sentence := advice(values):
        raise ValueError(f"{path}: format not recognised: {sentence}")
    keys = dict.fromkeys(key for value in values if isinstance(value, dict) for key in value)
    kinds = sorted({type(value).__name__ for value in values})
    seen = f"its rows have the keys {', '.join(keys)}" if keys else f"rows of {', '.join(kinds)}"
    raise ValueError(
        f"{path}: format not recognised ({seen}); set data.format to one of {', '.join(formats)}"
    )


def _is_row(value: Any, formats: Mapping[str, Any]) -> bool:
    """Whether any importer knows a value as a row."""
    try:
        row = with_lists(value, Counter()) if isinstance(value, dict) else value
        return any(module.recognise(row) for module in formats.values())
    except (TypeError, LookupError, AttributeError, ValueError):
        return False  # of a user's importer; it is told when the rows are recognised


def _aside() -> frozenset[str]:
    """Return names of files beside data that hold tools."""
    return frozenset(
        name.replace("{stem}", "*")
        for module in FORMATS.values()
        for name in getattr(module, "TOOLS_FILES", ())
    )


def _tools(place: Place, name: str, importer: Any, tools_path: str) -> tuple[str, Any]:
    """Find and load the file of the tools; an empty path and None if there is none."""
    if not hasattr(importer, "load_tools"):
        if tools_path:
            raise ValueError(
                f"format {name} has its tools in its rows; leave data.tools_path empty"
            )
        return "", None
    if not tools_path:
        path = place.files[0]
        folders = dict.fromkeys((os.path.dirname(path), os.path.dirname(place.folder)))
        candidates = [file for folder in folders for file in _beside(importer, path, folder)]
        tools_path = next((file for file in candidates if os.path.isfile(file)), "")
    elif not os.path.isfile(tools_path):
        raise DataError(f"{tools_path}: no such file; set data.tools_path to the tools")
    return tools_path, _loaded(name, importer, tools_path) if tools_path else None


def _loaded(name: str, importer: Any, path: str) -> Any:
    try:
        return importer.load_tools(path)
    except (TypeError, AttributeError, LookupError) as error:
        raise DataError(
            f"{path}: is not of the form in which {name} has its tools "
            f"({type(error).__name__}: {error}); set data.tools_path to its tools file"
        ) from error


def _beside(importer: Any, path: str, folder: str) -> list[str]:
    """Return where the files of the tools may be; ``{stem}`` is the data file's name."""
    stem = os.path.basename(path).partition(".json")[0]
    return [os.path.join(folder, name.replace("{stem}", stem)) for name in importer.TOOLS_FILES]


def _check(found: Any) -> None:
    if not isinstance(found, Trajectory):
        raise RowError(f"the importer returned {type(found).__name__}, not a Trajectory")
    if not any(message.role == "assistant" for message in found.messages):
        raise RowError("no assistant turn")
