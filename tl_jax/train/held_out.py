"""Held-out calls while a phase trains: scored every so many steps, and the best model is kept."""

from __future__ import annotations

import collections
import json
import math
import shutil
from collections.abc import Callable, Mapping
from typing import Any

from tl_jax.data.prepare.files import VALIDATION_PROMPTS
from tl_jax.errors import ConfigError
from tl_jax.evaluate.suites import SUITES, own_data
from tl_jax.evaluate.suites.choose import read_items
from tl_jax.evaluate.tasks import evaluate, task_set
from tl_jax.models import lora
from tl_jax.parallel import processes
from tl_jax.run.checkpoint import Checkpoints
from tl_jax.run.directory import Run
from tl_jax.run.record import read_own, replace_text
from tl_jax.types import Params, TrainState

Measure = Callable[[TrainState], dict[str, float]]

_LOSS = "validation_loss"
_NEVER = 1 << 60
_MEND = (
    "it says how good the best model is that lies beside it, which else a worse one would replace: "
    'put it back, or write {"value": SCORE, "since": 0, "at": STEP} with what metrics.jsonl says'
)


def make_measure(run: Run, frozen: Params) -> Measure | None:
    """Return what scores a state on the held-out turns of the run's data, or None without any.

    It gives TS, PI and CF in percent, as ``held_out_cf``, and the share of each error category
    that was met, as ``held_out_format_error``. At most ``evaluate.held_out_tasks`` turns are asked.
    """
    limits, path = run.config.evaluate, str(run.data_dir / VALIDATION_PROMPTS)
    if not limits.every or not limits.held_out_tasks or not own_data.is_there(path):
        return None
    suite = SUITES[own_data.NAME]
    items = own_data.spread(read_items(suite, path), limits.held_out_tasks)
    items = own_data.spread(items, limits.max_tasks or len(items))
    tasks = task_set(suite, items, run.renderer, max_prompt_length=limits.max_prompt_length)
    sample = run.sampler(limits.max_new_tokens, 0.0, 1.0, stop_strings=limits.stop_strings)
    constrain = run.constraints() if limits.constrained else None

    def measure(state: TrainState) -> dict[str, float]:
        _, scores, records = evaluate(
            tasks,
            lora.joined(state.params, frozen),
            sample=sample,
            renderer=run.renderer,
            batch_size=limits.batch_size,
            constrain=constrain,
        )
        kinds = collections.Counter(record["category"] for record in records)
        levels = {
            name: scores["scores"][name]
            for name in ("ts", "pi", "cf", "no_call")
            if name in scores["scores"]
        }
        shares = {kind: 100 * count / len(records) for kind, count in kinds.items()}
        return {f"held_out_{name}": value for name, value in {**levels, **shares}.items()}

    return measure


class Best:
    """Keep the model of the best ``evaluate.best``, and say when it gets no better.

    It lies beside the checkpoints of the phase, which training goes on from; what is scored,
    exported and trained by the next phase is the best model. How far it has come is kept, so that
    a resumed phase goes on the same; with another score it begins to look for the best anew.

    Args:
      run: The run.
      phase: The phase that trains.
      start: Steps of it that are done; at 0 what lies there is of another training.

    Raises:
      ConfigError: The record of how good it is is damaged.
    """

    def __init__(self, run: Run, phase: str, start: int):
        limits = run.config.evaluate
        self._name = _LOSS if limits.best == _LOSS else f"held_out_{limits.best}"
        self._on = bool(limits.best)
        self._patience = limits.patience
        self._directory = run.best_dir(phase)
        self._file = self._directory.with_suffix(".json")
        self._seen: dict[str, Any] = {}
        if start:
            found = read_own(self._file, _MEND)
            if not isinstance(found, dict | None):
                raise ConfigError(f"{self._file} is damaged; {_MEND}")
            # What another score has reached says nothing about this one.
            self._seen = found if found and found.get("score", self._name) == self._name else {}
        elif processes.is_first():
            shutil.rmtree(self._directory, ignore_errors=True)
            self._file.unlink(missing_ok=True)

    def see(self, measured: Mapping[str, float], step: int, state: TrainState) -> bool:
        """Take what was measured after a step, and keep the state if it is the best so far.

        Returns:
          Whether training should stop: the score was no better ``evaluate.patience`` times in a
          row.
        """
        value = measured.get(self._name, math.nan)
        if not self._on or not math.isfinite(value) or step <= self._seen.get("at", 0):
            return False
        sign = -1 if self._name == _LOSS else 1
        better = "value" not in self._seen or sign * value > sign * self._seen["value"]
        if better:
            facts = {"score": self._name, "value": value}
            with Checkpoints(self._directory, _NEVER, keep=1) as kept:
                kept.save(step, state, None, facts, force=True)
                kept.wait()
            self._seen = {"score": self._name, "value": value, "step": step, "since": 0}
        else:
            self._seen = {**self._seen, "since": self._seen["since"] + 1}
        self._seen["at"] = step
        if processes.is_first():
            self._file.parent.mkdir(parents=True, exist_ok=True)
            replace_text(self._file, json.dumps(self._seen) + "\n")
        return bool(self._patience) and self._seen["since"] >= self._patience
