"""Where metrics go beside ``metrics.jsonl``: TensorBoard always, Weights & Biases and Trackio."""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tl_jax.config import RunConfig, TrackingConfig
from tl_jax.config.fields import to_dict
from tl_jax.errors import ConfigError
from tl_jax.run.record import replace_text

if TYPE_CHECKING:
    import tensorboardX

logger = logging.getLogger(__name__)

ID_FILE = "tracking.json"


class Tracker(Protocol):
    """What takes the metrics of a run; only the first process has any."""

    def write(self, stage: str, step: int, values: Mapping[str, int | float]) -> None:
        """Take the finite values of a step of a stage."""
        ...

    def resume(self, stage: str, step: int) -> None:
        """Take note that a stage goes on after ``step``; later steps will be written again."""
        ...

    def close(self) -> None:
        """Hand over what is still to be written."""
        ...


class TensorBoard:
    """Write ``tensorboard/<stage>`` in the run directory."""

    def __init__(self, run_dir: Path):
        self._run_dir = run_dir
        self._boards: dict[str, tensorboardX.SummaryWriter] = {}

    def write(self, stage: str, step: int, values: Mapping[str, int | float]) -> None:
        """Write them to the board of the stage."""
        board = self._boards.get(stage) or self._boards.setdefault(stage, self._open(stage))
        for name, value in values.items():
            board.add_scalar(name, value, step)
        board.flush()

    def resume(self, stage: str, step: int) -> None:
        """Have the board of the stage forget what follows ``step``."""
        if stage in self._boards:
            self._boards.pop(stage).close()
        if step > 0:
            self._boards[stage] = self._open(stage, purge_step=step + 1)

    def close(self) -> None:
        """Close all boards."""
        while self._boards:
            self._boards.popitem()[1].close()

    def _open(self, stage: str, **options: Any) -> tensorboardX.SummaryWriter:
        # It imports torch where there is one: seconds, which no command waits for before it is due.
        import tensorboardX

        return tensorboardX.SummaryWriter(str(self._run_dir / "tensorboard" / stage), **options)


class Online:
    """Log to a run of a tracking service, whose axis of each stage is that stage's steps.

    Such a run forgets nothing: steps that are done again after a stop stand in it twice. A service
    that fails ends no training: that is said once, and it gets nothing more.
    """

    def __init__(self, name: str, log: Any, finish: Any):
        self._name, self._log, self._finish = name, log, finish
        self._failed = False

    def write(self, stage: str, step: int, values: Mapping[str, int | float]) -> None:
        """Log them under the name of the stage."""
        named = {f"{stage}/{name}": value for name, value in values.items()}
        self._try(self._log, {**named, f"{stage}/step": step})

    def resume(self, stage: str, step: int) -> None:
        """Do nothing: what was logged stays."""

    def close(self) -> None:
        """Finish the run."""
        self._try(self._finish)

    def _try(self, function: Any, *arguments: Any) -> None:
        if self._failed:
            return
        try:
            function(*arguments)
        except Exception as error:  # whatever its own faults are
            self._failed = True
            logger.warning(
                "%s gets no more metrics (%s: %s); metrics.jsonl has them all",
                self._name,
                type(error).__name__,
                error,
            )


def check(tracking: TrackingConfig) -> None:
    """Refuse trackers that are not installed.

    Raises:
      ConfigError: The message names the extra that brings them.
    """
    for name in tracking.trackers:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"config.tracking.trackers: {name} is not installed; "
                f"`pip install 'tl_jax[{name}]'`, or take it out"
            )


def open_trackers(config: RunConfig) -> list[Tracker]:
    """Return the trackers of ``config.tracking``, beside TensorBoard.

    Raises:
      ConfigError: One is not installed, or cannot begin a run.
    """
    check(config.tracking)
    found: list[Tracker] = []
    for name in config.tracking.trackers:
        try:
            found.append(_OPEN[name](config))
        except Exception as error:  # whatever their own faults are
            raise ConfigError(
                f"config.tracking.trackers: {name} cannot begin a run "
                f"({type(error).__name__}: {error}); log in to it, or set "
                "config.tracking.offline=True"
            ) from error
    return found


def _wandb(config: RunConfig) -> Tracker:
    wandb = importlib.import_module("wandb")
    run = wandb.init(
        project=config.tracking.project,
        name=Path(config.run_dir).name,
        id=_identity(config),
        resume="allow",
        dir=config.run_dir,
        mode="offline" if config.tracking.offline else "online",
        config=to_dict(config),
    )
    for stage in ("supervised", "reward"):
        run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
    return Online("wandb", run.log, run.finish)


def _trackio(config: RunConfig) -> Tracker:
    trackio = importlib.import_module("trackio")
    # It keeps runs on this machine (TRACKIO_DIR) unless a Space is named in its own variables.
    trackio.init(
        project=config.tracking.project,
        name=f"{Path(config.run_dir).name}-{_identity(config)}",
        resume="allow",
        config=to_dict(config),
        embed=False,
    )
    return Online("trackio", trackio.log, trackio.finish)


_OPEN = {"wandb": _wandb, "trackio": _trackio}


def _identity(config: RunConfig) -> str:
    """Return the name of the run at a service: drawn once, so that a resumed run goes on there."""
    path = Path(config.run_dir) / ID_FILE
    if not path.is_file():
        replace_text(path, json.dumps({"id": secrets.token_hex(4)}) + "\n")
    return str(json.loads(path.read_text(encoding="utf-8"))["id"])
