#!/usr/bin/env bash
# After one NaN gradient optax.MultiSteps around apply_if_finite never updates again.
#
# Guess:  apply_if_finite leaves out the steps whose gradients are not finite. Around it MultiSteps
#         averages the gradients of k batches; one bad batch costs the one step that it is part of, and
#         the next k good batches make a step.
# Seen:   with optax 0.2.8 MultiSteps empties its average by multiplying it with 0, and 0 times NaN is
#         NaN: every later average is NaN, too, and apply_if_finite leaves out every step for the rest
#         of the training (and after max_consecutive_errors it writes NaN into the parameters). Nothing
#         is raised, and losses are finite all along. With zero_nans inside it is the same.
#         should_skip_update_fn=optax.skip_not_finite of MultiSteps keeps the bad batch out.
#
# Needs pip and a network. Exits 1 if the behaviour is another one.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf -- "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --no-compile \
    "jax==0.12.0; python_version >= '3.12'" "jax==0.10.2; python_version < '3.12'" optax==0.2.8 \
    "numpy==2.5.5; python_version >= '3.12'" "numpy==2.4.6; python_version < '3.12'"
JAX_PLATFORMS=cpu "$folder/env/bin/python" - <<'PYTHON'
import importlib.metadata
import sys

import jax
import jax.numpy as jnp
import optax

for name in ("jax", "optax", "numpy"):
    print(name, importlib.metadata.version(name))


def train(optimizer):
    """Return how many of twelve steps of two batches moved the parameter; one batch is NaN."""
    params = {"w": jnp.ones(2)}
    state = optimizer.init(params)
    update, moved = jax.jit(optimizer.update), 0
    for batch in range(24):
        grads = {"w": jnp.array([0.1, jnp.nan if batch == 3 else 0.1])}
        updates, state = update(grads, state, params)
        moved += bool(jnp.all(updates["w"] < 0))
        params = optax.apply_updates(params, updates)
    return moved, bool(jnp.isfinite(params["w"]).all())


sgd = optax.sgd(0.1)
seen = {}
for name, optimizer in {
    "apply_if_finite around MultiSteps": optax.apply_if_finite(
        optax.MultiSteps(sgd, 2).gradient_transformation(), 100
    ),
    "MultiSteps with skip_not_finite": optax.MultiSteps(
        sgd, 2, should_skip_update_fn=optax.skip_not_finite
    ),
    "MultiSteps around apply_if_finite": optax.MultiSteps(optax.apply_if_finite(sgd, 100), 2),
    "the same, 3 errors allowed": optax.MultiSteps(optax.apply_if_finite(sgd, 3), 2),
    "MultiSteps around zero_nans": optax.MultiSteps(optax.chain(optax.zero_nans(), sgd), 2),
}.items():
    seen[name] = train(optimizer)
    print(f"{name}: {seen[name][0]} steps of 12 moved all, parameters finite: {seen[name][1]}")
if list(seen.values()) != [(11, True), (11, True), (1, True), (1, False), (1, True)]:
    sys.exit("the behaviour has changed: what a NaN does to the average of MultiSteps")
PYTHON
