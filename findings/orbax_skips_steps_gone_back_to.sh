#!/usr/bin/env bash
# An orbax CheckpointManager saves nothing after a training has gone back.
#
# Guess:  a training that restores step 5 of 10 after a spike of its loss and goes on saves its steps 6
#         to 10 anew with CheckpointManager.save, or gets an error: orbax raises StepAlreadyExistsError
#         for a step that is there.
# Seen:   with orbax-checkpoint 0.12.8 save does nothing for any step that is not later than the latest
#         one, and says so by returning False only, also for steps that are not there; a job that ends
#         before step 11 leaves the abandoned run as the latest state, from which the next job goes on.
#         With force=True step 6 is written, and latest_step() is 6, but for the next process that
#         opens the folder it is 10. The later steps have to be deleted when going back.
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
import sys
import tempfile

import numpy as np
import orbax.checkpoint as ocp

for name in ("orbax-checkpoint", "jax", "numpy"):
    print(name, importlib.metadata.version(name))

options = ocp.CheckpointManagerOptions(max_to_keep=4, enable_async_checkpointing=False)


def state(number):
    return ocp.args.StandardSave({"weight": np.full(2, number)})


def open_again(folder):
    with ocp.CheckpointManager(folder, options=options) as manager:
        return manager.latest_step()


with tempfile.TemporaryDirectory() as folder:
    with ocp.CheckpointManager(folder, options=options) as manager:
        print("saved 5 and 10:", [manager.save(step, args=state(1.0)) for step in (5, 10)])
        manager.restore(5, args=ocp.args.StandardRestore({"weight": np.zeros(2)}))
        again = [manager.save(step, args=state(2.0)) for step in (6, 7, 8, 9)]
        print("saved 6 to 9 after going back to 5:", again, "steps", manager.all_steps())
        forced = manager.save(6, args=state(2.0), force=True)
        latest = manager.latest_step()
    reopened = open_again(folder)
    print("with force=True:", forced, "latest", latest, "and in the next process", reopened)
    with ocp.CheckpointManager(folder, options=options) as manager:
        manager.delete(10)
        cured = manager.save(7, args=state(2.0))
    print("after deleting step 10, saved 7:", cured, "latest", open_again(folder))
if (again, forced, latest, reopened, cured) != ([False] * 4, True, 6, 10, True):
    sys.exit("the behaviour has changed: which steps a CheckpointManager saves after going back")
PYTHON
