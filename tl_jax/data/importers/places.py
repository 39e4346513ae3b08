"""What the place of a data set names: a file, a directory of files, or a data set of the Hub."""

from __future__ import annotations

import dataclasses
import fnmatch
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tl_jax.data.importers import hub_sets
from tl_jax.data.importers.json_files import IsRow, json_rows
from tl_jax.data.importers.rows import RawRow
from tl_jax.data.importers.sessions import gathered
from tl_jax.data.importers.splits import by_split, choose
from tl_jax.data.importers.tables import arrow_rows, csv_rows, parquet_rows
from tl_jax.errors import DataError

_KINDS = {
    ".json": "JSON", ".jsonl": "JSON", ".ndjson": "JSON",
    ".csv": "CSV", ".tsv": "CSV",
    ".parquet": "Parquet", ".pq": "Parquet",
    ".arrow": "Arrow", ".feather": "Arrow", ".ipc": "Arrow",
}  # fmt: skip
_COMPRESSED = ("JSON", "CSV")
"""Kinds that may have ``.gz`` behind their ending."""
_ENDINGS = ", ".join(_KINDS) + " (with .gz for JSON and CSV, too)"
_SPLIT = re.compile(r"\w[\w./-]*")
# What libraries write beside the rows of a data set.
_ASIDE = (
    *("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"),
    *("config.json", "package.json", "croissant.json", "cache-*.arrow"),
)


@dataclasses.dataclass(frozen=True)
class Place:
    """The files of a data set, in order.

    Attributes:
      files: Paths, or names on the Hub (``hub_sets``); they are all of one kind.
      folder: What their names begin with; rows call a file by the rest, with ``label`` before it.
      label: As said.
      split: The split asked for inside the only file; else empty.
      note: In words, which files were chosen; empty if all that are there.
    """

    files: tuple[str, ...]
    folder: str
    label: str = ""
    split: str = ""
    note: str = ""

    def name(self, file: str) -> str:
        """Return what rows call one of the files."""
        return self.label + file.removeprefix(self.folder)


def kind(name: str) -> str:
    """Return the kind of a file by its ending, ``.gz`` or not; empty if it is no data file."""
    stem = name.lower()
    compressed = stem.endswith(".gz")
    found = _KINDS.get(os.path.splitext(stem.removesuffix(".gz"))[1], "")
    return "" if compressed and found not in _COMPRESSED else found


def missing(text: str) -> str:
    """Return why there can be no data set at ``text``, or an empty text; the Hub is not asked."""
    if _local(text) or (_hub_id(text) and not kind(text)):
        return ""
    return f"no file {text}; give a file, a directory, the name of a data set on the Hub"


def is_hub_id(text: str) -> bool:
    """Whether ``text`` names a data set of the Hub and nothing on this machine."""
    return not _local(text) and not kind(text) and _hub_id(text) is not None


def find(text: str, aside: Collection[str] = ()) -> Place:
    """Find the files of a data set.

    Args:
      text: A file, a directory or ``organisation/name[@revision]``, each with ``:split`` behind it
        or not.
      aside: Names of files in a directory that hold no rows, with ``*`` for any text.

    Raises:
      DataError: There are none, or of several kinds or splits; the message says what to write.
    """
    if local := _local(text):
        path, split = local
        if os.path.isdir(path):
            return _in_directory(path, split, aside)
        if not kind(path):
            raise DataError(f"{path}: no data file by its name; known endings: {_ENDINGS}")
        return Place((path,), path.removesuffix(os.path.basename(path)), split=split)
    hub = _hub_id(text)
    if hub is None or kind(text):
        raise DataError(f"{text}: no such file; set data.path to a trajectory file")
    return _on_hub(text, *hub, aside)


def raw_rows(file: str, split: str, is_row: IsRow) -> Iterator[RawRow]:
    """Yield the rows of one file of a place, few in memory at a time.

    Raises:
      DataError: The file cannot be fetched or read.
    """
    path = hub_sets.local_file(file) if hub_sets.is_file(file) else file
    found = kind(file)
    if split and found != "JSON":
        raise DataError(f"{file}: there is no split {split!r}; a {found} file has no splits")
    if found == "JSON":
        rows = gathered(json_rows(path, split, is_row))
    else:
        rows = {"CSV": csv_rows, "Parquet": parquet_rows, "Arrow": arrow_rows}[found](path)
    return rows if path == file else (dataclasses.replace(row, path=file) for row in rows)


def _local(text: str) -> tuple[str, str] | None:
    """Return path and split if ``text`` names something on this machine."""
    if os.path.exists(text):
        return text, ""
    path, colon, split = text.rpartition(":")
    if colon and _SPLIT.fullmatch(split) and os.path.exists(path):
        return path, split
    return None


def _hub_id(text: str) -> tuple[str, str, str] | None:
    return None if text.startswith((".", "~", "/")) else hub_sets.parse_id(text)


def _in_directory(path: str, split: str, aside: Collection[str]) -> Place:
    names = [file.relative_to(path).as_posix() for file in Path(path).rglob("*") if file.is_file()]
    chosen, note = _files(hub_sets.card(path), names, split, path, aside)
    folder = os.path.join(path, "")
    return Place(tuple(folder + name for name in chosen), folder, note=note)


def _on_hub(text: str, name: str, revision: str, split: str, aside: Collection[str]) -> Place:
    commit, names, card = hub_sets.list_files(name, revision)
    where = text.removesuffix(f":{split}")
    chosen, note = _files(card, names, split, where, aside)
    prefix = hub_sets.file_name(name, commit, "")
    note = "; ".join(filter(None, (f"commit {commit[:7]}", note)))
    return Place(tuple(prefix + file for file in chosen), prefix, f"{name}/", note=note)


def _files(
    card: Mapping[str, Any],
    names: Sequence[str],
    split: str,
    where: str,
    aside: Collection[str],
) -> tuple[list[str], str]:
    """Return the data files of one split in order and, in words, what is left out."""
    if listed := _configurations(card, names):
        return _configured(listed, split, where)
    return _choose(names, split, where, aside)


def _choose(
    names: Sequence[str], split: str, where: str, aside: Collection[str]
) -> tuple[list[str], str]:
    """Return the files that their names say are data of a split; see ``_files``."""
    folder, slash, split = split.rpartition("/")
    data = [
        name
        for name in names
        if name.startswith(folder + slash)
        and kind(name)
        and not any(part.startswith((".", "_")) for part in name.split("/"))
        and not any(fnmatch.fnmatch(name.rpartition("/")[2], other) for other in (*_ASIDE, *aside))
    ]
    if not data:
        raise DataError(f"{where}: it holds no data file; known endings: {_ENDINGS}")
    kinds = {kind(name): name for name in sorted(data, reverse=True)}
    if len(kinds) > 1:
        found = "; ".join(f"{what}: {name}" for what, name in kinds.items())
        raise DataError(f"{where}: its files are of several kinds ({found}); name one file instead")
    splits = by_split(data)
    asked, note = choose(splits, split, where)
    return splits[asked], note


def _configurations(card: Mapping[str, Any], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the files by split of every configuration that a card declares."""
    entries = card.get("configs")
    declared = [
        entry
        for entry in (entries if isinstance(entries, list) else [])
        if isinstance(entry, Mapping) and entry.get("data_files")
    ]
    return {str(e.get("config_name")): _declared(e["data_files"], names) for e in declared}


def _declared(data_files: Any, names: Sequence[str]) -> dict[str, list[str]]:
    """Return the files by split of the patterns in a card."""
    entries = data_files if isinstance(data_files, list) else [data_files]
    found: dict[str, list[str]] = {}
    for entry in entries:
        split, patterns = "train", entry
        if isinstance(entry, Mapping):
            split, patterns = str(entry.get("split", "train")), entry.get("path")
        for pattern in patterns if isinstance(patterns, list) else [patterns]:
            matches = fnmatch.filter(names, str(pattern).replace("**/", "*"))
            found.setdefault(split, []).extend(sorted(filter(kind, matches)))
    return {split: files for split, files in found.items() if files}


def _configured(
    listed: Mapping[str, Mapping[str, list[str]]], split: str, where: str
) -> tuple[list[str], str]:
    """Return the files of a split of a configuration and, in words, what is left out."""
    config, _, split = split.rpartition("/")
    name = config or next(iter(listed))
    if name not in listed:
        raise DataError(f"{where}: no configuration {config!r}; there are: {', '.join(listed)}")
    if len(listed) > 1 and not config:
        raise DataError(
            f"{where}: it has several configurations ({', '.join(listed)}); say which, with a "
            f"split: {where}:{name}/train"
        )
    asked, note = choose(listed[name], split, where)
    return listed[name][asked], note
