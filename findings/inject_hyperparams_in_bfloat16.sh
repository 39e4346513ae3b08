#!/usr/bin/env bash
# inject_hyperparams rounds b2 to 1 where parameters are bfloat16, and Adam gives NaN.
#
# Guess:  optax.inject_hyperparams only makes numbers such as the learning rate part of the state: with
#         a constant rate adamw takes the same steps with it as without it, whatever the type of the
#         parameters.
# Seen:   with optax 0.2.8 the numbers take the type of the first leaf of the parameters. In bfloat16
#         b2=0.999 is 1, so Adam's correction of the second moment divides 0 by 0 and every parameter
#         is NaN after one step of finite gradients, where plain adamw trains. If the first leaf is
#         float32 all is well, though the others are bfloat16: a new leaf that sorts first can end or
#         start it. hyperparam_dtype=jnp.float32 avoids it.
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
import numpy as np
import optax

for name in ("jax", "optax", "numpy"):
    print(name, importlib.metadata.version(name))

WITHOUT = optax.adamw(1e-2)
WITH = optax.inject_hyperparams(optax.adamw)(1e-2)
FLOAT32 = optax.inject_hyperparams(optax.adamw, hyperparam_dtype=jnp.float32)(1e-2)


def train(optimizer, params):
    """Return whether all parameters are finite after three steps, and b2 as the state holds it."""
    state = optimizer.init(params)
    for _ in range(3):
        grads = jax.tree.map(lambda x: jnp.full_like(x, 0.25), params)
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    finite = all(np.isfinite(np.asarray(x, np.float32)).all() for x in jax.tree.leaves(params))
    return finite, float(getattr(state, "hyperparams", {"b2": 0.999})["b2"])


low = {"kernel": jnp.ones(4, jnp.bfloat16), "scale": jnp.ones(4, jnp.bfloat16)}
mixed = {"bias": jnp.ones(4, jnp.float32)} | low
seen = {}
for name, optimizer, params in (
    ("adamw, bfloat16", WITHOUT, low),
    ("injected, bfloat16", WITH, low),
    ("injected, first leaf float32", WITH, mixed),
    ("injected as float32, bfloat16", FLOAT32, low),
):
    seen[name], b2 = train(optimizer, params)
    print(f"{name}: b2 is {b2:.4g}, finite after three steps: {seen[name]}")
if list(seen.values()) != [True, False, True, True]:
    sys.exit("the behaviour has changed: the type that injected numbers take")
PYTHON
