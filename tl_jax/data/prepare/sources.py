"""The sources of a data set: files or the embedded tool world, each with a weight."""

from __future__ import annotations

import dataclasses
import os
import types
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from tl_jax.config import DataConfig
from tl_jax.data import importers, synthetic
from tl_jax.data.prepare.files import source_hash
from tl_jax.data.trajectory import Trajectory, to_json
from tl_jax.errors import ConfigError

SYNTHETIC = "synthetic"


@dataclasses.dataclass(frozen=True)
class WeightedSource:
    """Rows to prepare.

    Attributes:
      name: What reports call it.
      rows: Trajectories and bad rows, read lazily: an ``importers.Source``, ``EmbeddedWorld``, or
        anything to iterate over, once for each time that the rows are needed.
      identity: Changes whenever the rows do.
      weight: How often each trajectory is taken for training; the part behind the point is the
        share of trajectories that is taken once more. 1 takes each once, 0.5 takes half of them.
        Held-out trajectories and prompts of reward training are written at most once.
    """

    name: str
    rows: Iterable[Trajectory | importers.BadRow]
    identity: str = ""
    weight: float = 1.0

    @property
    def read_as(self) -> str:
        """What the rows were taken for and why, in words; empty where they are no file's."""
        rows = self.rows
        return f"{rows.format} ({rows.reason})" if isinstance(rows, importers.Source) else ""

    def raw(self) -> Iterator[importers.RawRow]:
        """Yield the rows as they stand, each with its number in the file, for ``converted``."""
        if isinstance(self.rows, importers.Source | EmbeddedWorld):
            return self.rows.raw()
        return (importers.RawRow(self.name, n, row) for n, row in enumerate(self.rows))

    def converted(self, row: importers.RawRow) -> Iterable[Trajectory | importers.BadRow]:
        """Return the trajectories of a raw row, mostly one, or why there is none."""
        if isinstance(self.rows, importers.Source | EmbeddedWorld):
            return self.rows.converted(row)
        return (row.value,)

    def reader(self) -> WeightedSource:
        """Return what another process needs for ``converted``: no rows that lie in memory."""
        apart = isinstance(self.rows, importers.Source | EmbeddedWorld)
        return self if apart else dataclasses.replace(self, rows=())


@dataclasses.dataclass(frozen=True)
class EmbeddedWorld:
    """Dialogues of the embedded tool world, each made where it is needed.

    Attributes:
      count: How many.
      seed: Of the dialogues.
    """

    count: int
    seed: int

    def __iter__(self) -> Iterator[Trajectory]:
        return synthetic.trajectories(self.count, seed=self.seed, split="train")

    def raw(self) -> Iterator[importers.RawRow]:
        """Yield the number of every dialogue."""
        return (importers.RawRow(SYNTHETIC, number, None) for number in range(self.count))

    def converted(self, row: importers.RawRow) -> tuple[Trajectory]:
        """Return the dialogue of a number."""
        return (synthetic.trajectory(row.line, seed=self.seed, split="train"),)


def parse_source(text: str, own: Collection[str] = ()) -> tuple[str, str, float]:
    """Split ``path[:format][@weight]`` into path, format (``auto`` if not given) and weight.

    The path may have a split behind it (``rows:train``, ``org/name@revision:train``), which stays
    with it. From the right: a number behind the last ``@`` is the weight, then the name of a format
    behind the last ``:`` is the format, and what is left is the path. Behind the bare name of a
    data set on the Hub a number may be a weight or a revision, and is refused.

    Args:
      text: As above.
      own: Names of formats beside those of the package.

    Raises:
      ConfigError: No path, a weight that is not above 0, or a number that may be a revision.
    """
    path, at, number = text.rpartition("@")
    weight = 1.0
    if at:
        try:
            weight = float(number)
        except ValueError:
            path = text  # a file name with an @
    else:
        path = text
    if not 0 < weight < float("inf"):
        raise ConfigError(f"config.data.sources: the weight in {text!r} must be above 0")
    if path != text and not set(path) & set(":@") and importers.is_hub_id(path):
        raise ConfigError(
            f"config.data.sources: {number} in {text!r} may be a weight or a revision; write "
            f"{path}@main@{number} for the weight, {path}@{number}@1 for the revision"
        )
    head, _, name = path.rpartition(":")
    if head and name in ("auto", *importers.FORMATS, *own):
        path = head
    else:
        name = "auto"
    if not path:
        raise ConfigError(f"config.data.sources: {text!r} must be 'path[:format][@weight]'")
    return path, name, weight


def open_sources(data: DataConfig, seed: int) -> list[WeightedSource]:
    """Open ``data.sources``, or ``data.path`` where there are none.

    Raises:
      ConfigError: As for ``check_sources``, or the rows are of no known format.
    """
    own = importers.open_importer(data.importer) if data.importer else None
    return [_open(*entry, own, data, seed) for entry in check_sources(data, own)]


def check_sources(
    data: DataConfig, own: types.ModuleType | None = None
) -> list[tuple[str, str, float, str]]:
    """Return path, format, weight and setting of every source, each one that is there.

    Args:
      data: Settings of the data.
      own: The module of ``data.importer``, whose name may stand behind a file; opened if None.

    Raises:
      ConfigError: ``sources`` and ``path`` are both set, a file does not exist, a source is named
        twice, or ``data.importer`` lacks something or has no file to read.
    """
    if data.importer and own is None:
        own = importers.open_importer(data.importer)
    if data.sources:
        for name, unset in (("path", SYNTHETIC), ("format", "auto"), ("tools_path", "")):
            if (value := getattr(data, name)) != unset:
                raise ConfigError(
                    f"config.data.{name} is {value!r} but config.data.sources is set, too; write "
                    "every file, with its format where need be, into config.data.sources"
                )
        names = () if own is None else (own.NAME,)
        found = [(*parse_source(text, names), "config.data.sources") for text in data.sources]
    else:
        found = [(data.path, data.format, 1.0, "config.data.path")]
    paths = [path for path, *_ in found]
    if twice := [path for path in paths if paths.count(path) > 1]:
        raise ConfigError(f"config.data.sources names {twice[0]} twice; give it one weight")
    if own is not None and set(paths) == {SYNTHETIC}:
        raise ConfigError(
            f"config.data.importer is {data.importer!r}, but the embedded tool world needs none; "
            "set config.data.path to your file"
        )
    for path, _, _, setting in found:
        if path != SYNTHETIC and (reason := importers.missing(path)):
            raise ConfigError(f"{setting}: {reason}, or '{SYNTHETIC}'")
    if data.tools_path and not Path(data.tools_path).is_file():
        raise ConfigError(f"config.data.tools_path: no file {data.tools_path}")
    return found


def _open(
    path: str,
    form: str,
    weight: float,
    setting: str,
    own: types.ModuleType | None,
    data: DataConfig,
    seed: int,
) -> WeightedSource:
    if path == SYNTHETIC:
        count = data.synthetic_trajectories
        rows = EmbeddedWorld(count, seed)
        return WeightedSource(path, rows, f"{path}/{count}/{seed}", weight)
    try:
        source = importers.read(path, form, data.tools_path, own)
    except ValueError as error:
        raise ConfigError(f"{setting}: {error}") from error
    # The name of a file on the Hub has its commit in it, which says as much as its bytes.
    hashes = "/".join(
        name if importers.is_hub_file(name) else source_hash(name) for name in source.files
    )
    return WeightedSource(path, source, f"{source.format}/{hashes}", weight)


def are_others(data: DataConfig, seed: int, made_of: Mapping[str, Sequence[str | float]]) -> bool:
    """Whether the settings name other sources than a data set was made of; no file is read.

    What has another name may still have the same rows.

    Args:
      data: Settings of the data.
      seed: Of the run.
      made_of: Identity and weight of the data set's sources, by name.
    """
    if data.importer:  # its own formats may stand behind a name
        return False
    named = [parse_source(text) for text in data.sources] or [(data.path, data.format, 1.0)]
    found = {os.path.abspath(name): entry for name, entry in made_of.items()}
    if {os.path.abspath(path) for path, _, _ in named} != found.keys():
        return True
    world = f"{SYNTHETIC}/{data.synthetic_trajectories}/{seed}"
    return any(
        found[os.path.abspath(path)][1] != weight
        or (path == SYNTHETIC and found[os.path.abspath(path)][0] != world)
        for path, _, weight in named
    )


def refused_unread(
    row: Trajectory | importers.BadRow, line: int, name: str
) -> Trajectory | importers.BadRow:
    """Return a row, or in its place a bad row if it has keys that nothing read.

    Args:
      row: What a source gave.
      line: Its number in the file, from 0.
      name: The file.
    """
    if isinstance(row, importers.BadRow) or not row.unread:
        return row
    keys = ", ".join(sorted(row.unread))
    reason = f"nothing reads {keys} (data.strict): remove or rename it, or set data.strict=false"
    return importers.BadRow(name, line, reason, to_json(row), row.unread)


def identities(sources: Sequence[WeightedSource]) -> list[list[str | float]]:
    """Return what the rows of the sources depend on, JSON-ready."""
    return [[source.identity, source.weight] for source in sources]
