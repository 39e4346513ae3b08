#!/usr/bin/env bash
# nnx.update takes a misspelt name and a wrong shape without a word.
#
# Guess:  nnx.update(model, state) copies the state into the variables that the model has: a name that
#         it does not have, or an array of another shape than the variable's, is an error, as a missing
#         weight is one in torch's load_state_dict.
# Seen:   with flax 0.12.12 (and 0.12.8) a variable under a name that the model lacks becomes a new
#         attribute, which counts among the parameters though nothing reads it, and the one that was
#         meant keeps its random start; an array of another shape and type takes the place of the old
#         one, and broadcasting may hide it: a bias of one element serves. Names and shapes of
#         nnx.state(model) have to be compared with the state first.
#
# Needs pip and a network. Exits 1 if the behaviour is another one.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf -- "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --no-compile \
    "jax==0.12.0; python_version >= '3.12'" "jax==0.10.2; python_version < '3.12'" \
    "flax==0.12.12; python_version >= '3.12'" "flax==0.12.8; python_version < '3.12'" \
    "numpy==2.5.5; python_version >= '3.12'" "numpy==2.4.6; python_version < '3.12'"
JAX_PLATFORMS=cpu "$folder/env/bin/python" - <<'PYTHON'
import importlib.metadata
import sys

import jax
import jax.numpy as jnp
from flax import nnx

for name in ("jax", "flax", "numpy"):
    print(name, importlib.metadata.version(name))


def fresh():
    return nnx.Linear(3, 4, rngs=nnx.Rngs(0))


def outcome(state):
    """Return the names of the model's variables after the update, or the error."""
    model = fresh()
    try:
        nnx.update(model, state)
    except Exception as error:
        return type(error).__name__
    shapes = {path[-1]: leaf.shape for path, leaf in nnx.to_flat_state(nnx.state(model))}
    print("  variables:", shapes, "result:", model(jnp.ones((2, 3))).shape)
    same = bool((model.kernel[...] == fresh().kernel[...]).all())
    return sorted(shapes), same, shapes["bias"]


weight = nnx.Param(jnp.ones((3, 4)))
print("the right name:")
right = outcome(nnx.State({"kernel": weight}))
print("a name that the model lacks:")
added = outcome(nnx.State({"kernal": weight}))
print("a bias of one element of bfloat16:")
shape = outcome(nnx.State({"bias": nnx.Param(jnp.ones((1,), jnp.bfloat16))}))
print(right, added, shape, sep="\n")
two = ["bias", "kernel"]
expected = [(two, False, (4,)), (["bias", "kernal", "kernel"], True, (4,)), (two, True, (1,))]
if [right, added, shape] != expected:
    sys.exit("the behaviour has changed: what nnx.update makes of other names and shapes")
PYTHON
