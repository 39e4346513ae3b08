#!/usr/bin/env bash
# In dot_product_attention a row whose keys are all masked attends to the future.
#
# Guess:  jax.nn.dot_product_attention with is_causal=True never lets a position see later ones,
#         whatever else is masked: where a mask leaves a row no key (padding on the left), its result
#         is 0 or NaN.
# Seen:   with jax 0.12.0 (and 0.10.2), implementation xla, masked scores are a large negative number,
#         all the same, so that such a row's softmax is even: the result is the mean of all values,
#         later positions and other documents included, and gradients flow into them. With
#         key_value_seq_lengths of 0 it is the mean of the padding. Rows past query_seq_lengths are 0,
#         as expected. A loss that is masked at those rows is not enough where their results are
#         normalised or pooled over.
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

attend = jax.nn.dot_product_attention
query = jax.random.normal(jax.random.key(0), (1, 4, 1, 8))
value = jnp.broadcast_to(jnp.arange(4.0)[None, :, None, None], (1, 4, 1, 8))
left_padded = jnp.array([False, True, True, True])[None, None, None, :]


def first(value):
    """Return what the first position gets, which may see no key."""
    return attend(query, query, value, mask=left_padded, is_causal=True)[0, 0, 0, 0]


no_keys = attend(query, query, value, key_value_seq_lengths=jnp.array([0]))[0, :, 0, 0]
no_queries = attend(query, query, value, query_seq_lengths=jnp.array([2]))[0, :, 0, 0]
from_places = jax.grad(first)(value)[0, :, 0, 0]
print("values of the four positions:", value[0, :, 0, 0])
print("causal, first key masked, the first position gets", first(value))
print("its gradient into the four positions:", from_places)
print("no key by key_value_seq_lengths:", no_keys)
print("two queries by query_seq_lengths:", no_queries)
as_seen = np.allclose(first(value), 1.5) and np.allclose(from_places, 0.25)
if not (as_seen and np.allclose(no_keys, 1.5) and np.allclose(no_queries[2:], 0)):
    sys.exit("the behaviour has changed: what a row without keys attends to")
PYTHON
