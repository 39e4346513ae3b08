#!/usr/bin/env bash
# jax.lax.top_k puts the NaN of a calculation last, where jnp.argmax finds it.
#
# Guess:  NaN counts as greatest in jax.lax.top_k, jnp.argmax, jnp.max and jnp.sort: where a logit is
#         NaN the top-k values hold it, and a sampler or router that starts with top_k gives NaN, too,
#         which a check of its results sees.
# Seen:   with jax 0.12.0 (and 0.10.2) on CPUs of type x86 that holds for jnp.nan itself. The NaN that
#         calculations give there (0/0, inf-inf) has its sign bit set, and top_k orders it below minus
#         infinity: the values are finite, the token or expert taken is one of the others, and nothing
#         shows that the model is broken. argmax, max and sort treat both alike.
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
import platform
import sys

import jax
import jax.numpy as jnp

for name in ("jax", "numpy"):
    print(name, importlib.metadata.version(name))
print(platform.machine())


def look(logits):
    """Return whether top_k's values, argmax and the end of sort show the NaN at place 1."""
    values, places = jax.lax.top_k(logits, 2)
    shown = bool(jnp.isnan(values).any()), int(jnp.argmax(logits)) == 1
    print("  top_k", values, places, "argmax", jnp.argmax(logits), "sort", jnp.sort(logits))
    return *shown, bool(jnp.isnan(jnp.sort(logits)[-1]))


zero, endless = jnp.zeros(()), jnp.full((), jnp.inf)
seen = {}
for name, nan in {
    "jnp.nan": jnp.full((), jnp.nan),
    "0/0": jax.jit(jnp.divide)(zero, zero),
    "inf-inf": jax.jit(jnp.subtract)(endless, endless),
}.items():
    print(f"{name}, sign bit {bool(jnp.signbit(nan))}:")
    seen[name] = look(jnp.array([1.0, 0.0, 2.0, 3.0]).at[1].set(nan))
hidden = (False, True, True)
if seen != {"jnp.nan": (True, True, True), "0/0": hidden, "inf-inf": hidden}:
    sys.exit("the behaviour has changed: where top_k puts a NaN")
PYTHON
