#!/usr/bin/env bash
# The gradient of a frequent token's embedding stops growing in bfloat16.
#
# Guess:  jnp.sum adds bfloat16 in float32, products of matrices do, too, and so does what jax.grad
#         makes of a look-up in a table of embeddings: a token that stands 4,096 times in a batch, with
#         a gradient of 1 at each place, has the gradient 4,096.
# Seen:   with jax 0.12.0 (and 0.10.2) on CPU the gradient of take and of indexing adds one by one in
#         the table's type. In bfloat16 it is 256: of the gradient of any frequent token (a line end, a
#         tag of a chat template) a part is lost. jax.ops.segment_sum and .at[].add are the same. A
#         product with one-hot rows gives 4,096. That a table in float32 is only cast to bfloat16
#         before the look-up, as mixed precision does, does not help: the sum is made before the cast
#         is undone. Look up first and cast then, or add in float32.
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

for name in ("jax", "numpy"):
    print(name, importlib.metadata.version(name))

tokens = jnp.zeros(4096, int)


def gradient(look_up, kind):
    """Return the gradient of the first embedding, each place adding 1 to it."""
    table = jnp.zeros((8, 2), kind)
    grads = jax.jit(jax.grad(lambda table: look_up(table).astype(jnp.float32).sum()))(table)
    return float(grads[0, 0])


seen = {
    "take, float32": gradient(lambda t: jnp.take(t, tokens, axis=0), "float32"),
    "take, bfloat16": gradient(lambda t: jnp.take(t, tokens, axis=0), "bfloat16"),
    "indexing, bfloat16": gradient(lambda t: t[tokens], "bfloat16"),
    "float32, cast, then take": gradient(lambda t: t.astype("bfloat16")[tokens], "float32"),
    "float32, take, then cast": gradient(lambda t: t[tokens].astype("bfloat16"), "float32"),
    "one-hot, bfloat16": gradient(lambda t: jax.nn.one_hot(tokens, 8, dtype=t.dtype) @ t, "bfloat16"),
    "segment_sum, bfloat16": float(jax.ops.segment_sum(jnp.ones(4096, "bfloat16"), tokens, 8)[0]),
    "jnp.sum, bfloat16": float(jnp.ones(4096, "bfloat16").sum()),
}
for name, value in seen.items():
    print(f"{name}: {value:.0f}")
lost = {name for name, value in seen.items() if value == 256}
wrong = {"take, bfloat16", "indexing, bfloat16", "float32, cast, then take", "segment_sum, bfloat16"}
if lost != wrong or any(value != 4096 for name, value in seen.items() if name not in lost):
    sys.exit("the behaviour has changed: the type in which gradients of look-ups are added")
PYTHON
