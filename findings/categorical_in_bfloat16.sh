#!/usr/bin/env bash
# jax.random.categorical of bfloat16 logits draws the first few tokens only.
#
# Guess:  logits as a model in bfloat16 gives them are coarse, but jax.random.categorical draws from
#         their softmax: with equal logits over 32,768 tokens every token is as likely, and the mean of
#         the ids drawn is about 16,384.
# Seen:   with jax 0.12.0 (and 0.10.2) the noise is drawn in the type of the logits. In bfloat16 it
#         takes 128 values, hundreds of tokens tie for the greatest, and the first of them wins: the
#         mean id is about 120, and no id beyond 2,000 is drawn in 400 draws. In float32 it is right.
#         So samples do not come from the distribution under which their probabilities are computed
#         later.
#
# Needs pip and a network. Exits 1 if the behaviour is another one.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf -- "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet --no-compile \
    "jax==0.12.0; python_version >= '3.12'" "jax==0.10.2; python_version < '3.12'" \
    "numpy==2.5.5; python_version >= '3.12'" "numpy==2.4.6; python_version < '3.12'"
JAX_PLATFORMS=cpu "$folder/env/bin/python" - <<'PYTHON'
import importlib.metadata
import sys

import jax
import jax.numpy as jnp
import numpy as np

for name in ("jax", "numpy"):
    print(name, importlib.metadata.version(name))

key = jax.random.key(0)
ids = {}
for kind in ("float32", "bfloat16"):
    ids[kind] = np.asarray(jax.random.categorical(key, jnp.zeros(32768, kind), shape=(400,)))
    print(f"equal logits, {kind}: mean id {ids[kind].mean():.0f}, greatest {ids[kind].max()}")
# A tail of 2,000 unlikely tokens that has a seventh of the probability.
logits = jnp.where(jnp.arange(2001) == 0, 9.4, 0.0)
share = float(jax.nn.softmax(logits)[1:].sum())
tail = {}
for kind in ("float32", "bfloat16"):
    drawn = jax.random.categorical(key, logits.astype(kind), shape=(4000,))
    tail[kind] = float((drawn > 0).mean())
    print(f"a tail of probability {share:.3f} is drawn in {kind}: {tail[kind]:.3f}")
right = abs(ids["float32"].mean() - 16384) < 2000 and abs(tail["float32"] - share) < 0.03
if not (right and ids["bfloat16"].max() < 4000 and tail["bfloat16"] < 0.01):
    sys.exit("the behaviour has changed: how categorical draws from bfloat16 logits")
PYTHON
