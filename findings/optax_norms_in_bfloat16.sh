#!/usr/bin/env bash
# The global norm of many small gradients in bfloat16 stops growing at 16.
#
# Guess:  optax.tree.norm, and so clip_by_global_norm, adds up squares as jnp.sum does, which is exact
#         to the type's precision for bfloat16 since it adds in float32: 576 gradients of norm 1 have
#         the norm 24, and clipped to 1 they have the norm 1.
# Seen:   with optax 0.2.8 each leaf's squares are summed well, but the sums of the leaves are added
#         one by one in the gradients' own type: in bfloat16 at 256 a further 1 is lost, the norm is
#         16, and what clip_by_global_norm(1.0) returns has the norm 1.5. In float32 both are right. So
#         a model of many layers with gradients in bfloat16 is clipped too little, and reports too
#         small a norm.
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


def norm(tree):
    """Return the norm of all leaves together, computed in float64."""
    return float(np.sqrt(sum((np.asarray(x, np.float64) ** 2).sum() for x in jax.tree.leaves(tree))))


seen = {}
clip = optax.clip_by_global_norm(1.0)
for kind in ("float32", "bfloat16"):
    grads = [jnp.full((4,), 0.5, kind) for _ in range(576)]
    clipped, _ = clip.update(grads, clip.init(grads))
    seen[kind] = float(optax.tree.norm(grads)), round(norm(clipped), 3)
    print(f"{kind}: true norm {norm(grads)}, optax.tree.norm and the norm after clipping: {seen[kind]}")
# One leaf with the same numbers is right: only the sum over leaves is lost.
whole = float(optax.tree.norm([jnp.full((2304,), 0.5, "bfloat16")]))
print("the same numbers in one leaf of bfloat16:", whole)
if seen != {"float32": (24.0, 1.0), "bfloat16": (16.0, 1.5)} or whole != 24.0:
    sys.exit("the behaviour has changed: how optax adds up the norm of bfloat16 gradients")
PYTHON
