"""How long a training phase was to be, and how it ended, as the run directory says."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tl_jax.data.prepare.files import LOADER_REPORT
from tl_jax.data.prepare.length import steps_of_epochs
from tl_jax.report.read import number, read_json

_SECTIONS = {"supervised": "train", "reward": "ppo"}


def asked_steps(run_dir: Path, config: Mapping[str, Any], stage: str) -> int:
    """Return the steps that the settings ask for; 0 if they do not say.

    Epochs are as many steps as the prepared data fill with them.
    """
    epochs = number(_setting(config, _SECTIONS.get(stage, ""), "epochs"))
    if stage == "supervised" and epochs > 0:
        rows = number(read_json(run_dir / "data" / LOADER_REPORT).get("rows"))
        batch = number(_setting(config, "data", "batch_size"))
        known = rows > 0 and batch > 0 and math.isfinite(epochs * rows / batch)
        return steps_of_epochs(epochs, int(rows), int(batch)) if known else 0
    count = number(_setting(config, _SECTIONS.get(stage, ""), "steps"))
    return int(count) if math.isfinite(count) else 0


def ended_early(run_dir: Path, stage: str, done: int, asked: int) -> bool:
    """Whether a phase was ended after ``done`` of ``asked`` steps as its score got no better."""
    try:
        path = run_dir / "checkpoints" / f"{stage}-ended.json"
        return json.loads(path.read_text(encoding="utf-8")) == [done, asked]
    except (OSError, ValueError, RecursionError):
        return False


def _setting(config: Mapping[str, Any], section: str, name: str) -> Any:
    found = config.get(section)
    return found.get(name) if isinstance(found, Mapping) else None
