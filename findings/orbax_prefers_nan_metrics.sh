#!/usr/bin/env bash
# An orbax CheckpointManager that keeps the best deletes the best after a NaN.
#
# Guess:  with best_fn and max_to_keep=1 orbax's CheckpointManager keeps the checkpoint with the least
#         loss (best_mode='min'); one whose evaluation gave NaN is never the best.
# Seen:   with orbax-checkpoint 0.12.8 checkpoints are sorted by their metrics, and NaN compares as
#         neither less nor greater: after the losses 1.0, NaN the first is deleted and the one with NaN
#         is kept, best_step() says so, too, and after 2.0, 1.0, NaN, 3.0 the worst of all is left. In
#         mode max it is the same. The cure is a best_fn that turns NaN into the worst number.
#
# Needs pip and a network. Exits 1 if the behaviour is another one.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf -- "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --no-compile orbax-checkpoint==0.12.8 \
    "jax==0.12.0; python_version >= '3.12'" "jax==0.10.2; python_version < '3.12'" \
    "numpy==2.5.5; python_version >= '3.12'" "numpy==2.4.6; python_version < '3.12'"
JAX_PLATFORMS=cpu "$folder/env/bin/python" - <<'PYTHON'
import importlib.metadata
import math
import sys
import tempfile

import numpy as np
import orbax.checkpoint as ocp

for name in ("orbax-checkpoint", "jax", "numpy"):
    print(name, importlib.metadata.version(name))


def keep(losses, mode="min", best_fn=lambda metrics: metrics["loss"]):
    """Return the steps that are kept of one checkpoint per loss."""
    options = ocp.CheckpointManagerOptions(
        best_fn=best_fn, best_mode=mode, max_to_keep=1, enable_async_checkpointing=False
    )
    with tempfile.TemporaryDirectory() as folder, ocp.CheckpointManager(
        folder, options=options
    ) as manager:
        for step, loss in enumerate(losses):
            tree = ocp.args.StandardSave({"weight": np.ones(2)})
            manager.save(step, args=tree, metrics={"loss": loss})
        print(f"{mode} of {losses}: kept {manager.all_steps()}, best {manager.best_step()}")
        return manager.all_steps()


def careful(metrics):
    return math.inf if math.isnan(metrics["loss"]) else metrics["loss"]


nan = math.nan
seen = [
    keep([2.0, 1.0, 3.0]),
    keep([1.0, nan]),
    keep([2.0, 1.0, nan, 3.0]),
    keep([2.0, nan, 1.0], "max"),
    keep([2.0, 1.0, nan, 3.0], best_fn=careful),
]
if seen != [[1], [1], [3], [2], [1]]:
    sys.exit("the behaviour has changed: how a NaN ranks among the metrics of checkpoints")
PYTHON
