"""Score the newest model of a run, ``tl_jax.evaluate(run, phase="")``; the room of evaluation.

The room is itself the public function ``tl_jax.evaluate``: see ``evaluate.run.evaluate_phase``.

Example:
  >>> import tl_jax as tl
  >>> from tl_jax.config.presets import tiny
  >>> run = tl.Run(tiny("runs/tiny"))
  >>> _ = tl.prepare(run)
  >>> results = tl.evaluate(run)  # doctest: +ELLIPSIS
  evaluate ...
  >>> sorted(results["sets"])
  ['synthetic/reworded', 'synthetic/seen', 'synthetic/unseen']
"""

from __future__ import annotations

import sys
import types
from typing import Any


class _Room(types.ModuleType):
    """A package that can be called: the function and the room have one name."""

    def __call__(self, run: Any, phase: str = "") -> dict[str, Any]:
        from tl_jax.evaluate.run import evaluate_phase

        return evaluate_phase(run, phase)


sys.modules[__name__].__class__ = _Room
