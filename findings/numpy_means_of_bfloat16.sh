#!/usr/bin/env bash
# numpy's mean of bfloat16 numbers is a fraction of the true one.
#
# Guess:  jax.device_get gives arrays that numpy averages about as well as jax.numpy does: np.mean of
#         4,096 losses of type bfloat16 around 2 is about 2. numpy sums float16 pairwise and takes
#         means of it in float32.
# Seen:   with numpy 2.5.5 and ml_dtypes 0.6.0 sums of bfloat16 are made one by one in bfloat16: beyond
#         256 times the summands nothing more is added. The mean of 4,096 ones is 0.0625, that of 4,096
#         losses from 1.5 to 2.5 is a small fraction of 2, and the standard deviation of ones is not 0.
#         jnp.mean of the same arrays is right, and so is numpy's mean of float16. Figures that are
#         averaged on the host, and statistics of weights, need dtype=np.float32.
#
# Needs pip and a network. Exits 1 if the behaviour is another one.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf -- "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --no-compile \
    "jax==0.12.0; python_version >= '3.12'" "jax==0.10.2; python_version < '3.12'" \
    ml_dtypes==0.6.0 "numpy==2.5.5; python_version >= '3.12'" \
    "numpy==2.4.6; python_version < '3.12'"
JAX_PLATFORMS=cpu "$folder/env/bin/python" - <<'PYTHON'
import importlib.metadata
import sys

import jax
import jax.numpy as jnp
import numpy as np

for name in ("jax", "ml_dtypes", "numpy"):
    print(name, importlib.metadata.version(name))

ones = jax.device_get(jnp.ones(4096, jnp.bfloat16))
losses = jax.device_get(jax.random.uniform(jax.random.key(0), (4096,), minval=1.5, maxval=2.5))
low = losses.astype(jnp.bfloat16)
print("mean of ones: jnp", jnp.mean(ones), "numpy", ones.mean(), "float16", ones.astype("f2").mean())
print("standard deviation of ones: jnp", jnp.std(ones), "numpy", ones.std())
print("mean of losses: jnp", jnp.mean(low), "numpy", low.mean(), "in float32", low.mean(dtype="f4"))
right = jnp.mean(ones) == 1 and ones.astype("f2").mean() == 1 and abs(low.mean(dtype="f4") - 2) < 0.02
if not (right and ones.mean() == 0.0625 and ones.std() > 0.1 and low.mean() < 0.3):
    sys.exit("the behaviour has changed: how numpy adds up bfloat16")
PYTHON
