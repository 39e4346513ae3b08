#!/usr/bin/env bash
# Gradients averaged inside shard_map are as many times too large as there are devices.
#
# Guess:  jax.shard_map takes a data-parallel step written for pmap: jax.grad of the local loss inside,
#         then lax.pmean of the gradients, gives the gradient of the mean loss on every device.
# Seen:   with jax 0.12.0 (and 0.10.2) jax.grad inside shard_map already adds the gradients of
#         replicated parameters over all devices, and pmean of a number that is equal everywhere leaves
#         it: on 8 devices the step is 8 times too large, without a warning. pmap of the same function,
#         and shard_map with check_vma=False, give the mean. Averaging the loss before jax.grad is
#         right with shard_map, but with check_vma=False and pmap it is then 0 or an eighth. Adam and
#         clipping hide the factor, rates of plain SGD and logged norms show it. The guide for moving
#         from pmap to shard_map does not speak of gradients.
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
import os
import sys

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
import jax
import jax.numpy as jnp
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

for name in ("jax", "numpy"):
    print(name, importlib.metadata.version(name))

mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
weight, data = jnp.float32(3.0), jnp.arange(16.0)


def loss(weight, data):
    return jnp.mean((weight * data - 1.0) ** 2)


def step(weight, data):
    return jax.lax.pmean(jax.grad(loss)(weight, data), "data")


def step_of_mean(weight, data):
    return jax.grad(lambda weight: jax.lax.pmean(loss(weight, data), "data"))(weight)


def sharded(function, check_vma):
    specs = (P(), P("data"))
    return float(
        jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=P(), check_vma=check_vma)(
            weight, data
        )
    )


true = float(jax.grad(loss)(weight, data))
seen = {
    "shard_map": sharded(step, True),
    "shard_map, check_vma=False": sharded(step, False),
    "pmap": float(
        jax.pmap(step, axis_name="data", in_axes=(None, 0))(weight, data.reshape(8, 2))[0]
    ),
    "shard_map, mean of the loss": sharded(step_of_mean, True),
}
print("gradient on one device:", true)
for name, value in seen.items():
    print(f"{name}: {value / true:g} times that")
if [round(value / true, 4) for value in seen.values()] != [8, 1, 1, 1]:
    sys.exit("the behaviour has changed: what jax.grad gives inside shard_map")
PYTHON
