"""The sources of a data set: files or the embedded tool world, each with a weight."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from tl_jax.config import DataConfig
from tl_jax.data import importers, synthetic
from tl_jax.data.prepare.files import source_hash
from tl_jax.data.trajectory import Trajectory
from tl_jax.errors import ConfigError

SYNTHETIC = "synthetic"


@dataclasses.dataclass(frozen=True)
class WeightedSource:
    """Rows to prepare.

    Attributes:
      name: What reports call it.
      rows: Trajectories and bad rows; read lazily, once.
      identity: Changes whenever the rows do.
      weight: How often each trajectory is taken for training; the part behind the point is the
        share of trajectories that is taken once more. 1 takes each once, 0.5 takes half of them.
        Held-out trajectories and prompts of reward training are written at most once.
    """

    name: str
    rows: Iterable[Trajectory | importers.BadRow]
    identity: str = ""
    weight: float = 1.0

    def numbered(self) -> Iterator[tuple[int, Trajectory | importers.BadRow]]:
        """Yield every row with its number in the file, or in ``rows`` where there is no file."""
        if isinstance(self.rows, importers.Source):
            return self.rows.numbered()
        return enumerate(self.rows)


def parse_source(text: str, own: Collection[str] = ()) -> tuple[str, str, float]:
    """Split ``path[:format][@weight]`` into path, format (``auto`` if not given) and weight.

    Args:
      text: As above.
      own: Names of formats beside those of the package.

    Raises:
      ConfigError: No path, or a weight that is not above 0.
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
      ConfigError: Both are set, a file does not exist or is of no known format, a source is
        named twice, or ``data.importer`` lacks something or has no file to read.
    """
    own = importers.open_importer(data.importer) if data.importer else None
    if own is not None and {parse_source(s)[0] for s in data.sources or [data.path]} == {SYNTHETIC}:
        raise ConfigError(
            f"config.data.importer is {data.importer!r}, but the embedded tool world needs none; "
            "set config.data.path to your file"
        )
    if not data.sources:
        return [_open(data.path, data.format, 1.0, own, data, seed, "config.data.path")]
    for name, unset in (("path", SYNTHETIC), ("format", "auto"), ("tools_path", "")):
        if (value := getattr(data, name)) != unset:
            raise ConfigError(
                f"config.data.{name} is {value!r} but config.data.sources is set, too; write "
                "every file, with its format where need be, into config.data.sources"
            )
    names = () if own is None else (own.NAME,)
    parsed = [parse_source(text, names) for text in data.sources]
    paths = [path for path, _, _ in parsed]
    if twice := [path for path in paths if paths.count(path) > 1]:
        raise ConfigError(f"config.data.sources names {twice[0]} twice; give it one weight")
    return [_open(*entry, own, data, seed, "config.data.sources") for entry in parsed]


def _open(
    path: str,
    form: str,
    weight: float,
    own: types.ModuleType | None,
    data: DataConfig,
    seed: int,
    setting: str,
) -> WeightedSource:
    if path == SYNTHETIC:
        count = data.synthetic_trajectories
        rows = synthetic.trajectories(count, seed=seed, split="train")
        return WeightedSource(path, rows, f"{path}/{count}/{seed}", weight)
    if not Path(path).is_file():
        raise ConfigError(f"{setting}: no file {path}; give a file or '{SYNTHETIC}'")
    try:
        source = importers.read(path, form, data.tools_path, own)
    except (ValueError, FileNotFoundError) as error:
        raise ConfigError(f"{setting}: {error}") from error
    hashes = "/".join(map(source_hash, source.files))
    return WeightedSource(path, source, f"{source.format}/{hashes}", weight)


def identities(sources: Sequence[WeightedSource]) -> list[list[str | float]]:
    """Return what the rows of the sources depend on, JSON-ready."""
    return [[source.identity, source.weight] for source in sources]
