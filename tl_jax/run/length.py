"""How many steps the supervised phase has: as set, or as many as its epochs take."""

from __future__ import annotations

from pathlib import Path

from tl_jax.config import RunConfig
from tl_jax.data.prepare.files import LOADER_REPORT
from tl_jax.data.prepare.length import steps_of_epochs
from tl_jax.errors import ConfigError
from tl_jax.report.read import read_json


def supervised_steps(config: RunConfig) -> int:
    """Return the steps of the supervised phase; 0 leaves it out.

    Raises:
      ConfigError: They are epochs of data that are not prepared.
    """
    train, data = config.train, Path(config.run_dir) / "data"
    if not train.epochs:
        return train.steps
    report = read_json(data / LOADER_REPORT)
    if not report.get("complete"):
        raise ConfigError(
            f"config.train.epochs={train.epochs:g} are counted in rows of {data}, which are not "
            "prepared; run `tl-jax prepare` with this configuration"
        )
    return steps_of_epochs(train.epochs, report["rows"], config.data.batch_size)
