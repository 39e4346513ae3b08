"""The device mesh and the start of the distributed runtime."""

from __future__ import annotations

import os
from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from tl_jax.config import ConfigError, MeshConfig

AXES = ("data", "fsdp", "tensor")

# Environment variables by which jax.distributed recognises a cluster on its own.
_CLUSTER_VARIABLES = (
    "JAX_COORDINATOR_ADDRESS",
    "COORDINATOR_ADDRESS",
    "TPU_WORKER_HOSTNAMES",
    "MEGASCALE_COORDINATOR_ADDRESS",
    "SLURM_JOB_ID",
    "OMPI_MCA_orte_hnp_uri",
)


def start_distributed() -> None:
    """Connect this process to its cluster if the environment describes one.

    Must run before anything touches devices. A single TPU VM also lists itself in
    ``TPU_WORKER_HOSTNAMES``; one host needs no coordinator.
    """
    hosts = os.environ.get("TPU_WORKER_HOSTNAMES", "")
    others = [name for name in _CLUSTER_VARIABLES if name != "TPU_WORKER_HOSTNAMES"]
    if "," in hosts or any(os.environ.get(name) for name in others):
        jax.distributed.initialize()


def resolve_sizes(config: MeshConfig, device_count: int) -> tuple[int, int, int]:
    """Return the three axis sizes with -1 replaced.

    Raises:
      ConfigError: The sizes do not multiply to ``device_count``.
    """
    sizes = [config.data, config.fsdp, config.tensor]
    if sizes.count(-1) > 1 or any(size == 0 or size < -1 for size in sizes):
        raise ConfigError(f"mesh sizes must be positive, at most one -1; got {sizes}")
    known = int(np.prod([size for size in sizes if size != -1]))
    if -1 in sizes and device_count % known == 0:
        sizes[sizes.index(-1)] = device_count // known
    if int(np.prod(sizes)) != device_count:
        raise ConfigError(
            f"mesh data x fsdp x tensor = {' x '.join(map(str, sizes))} does not match "
            f"{device_count} devices; change config.mesh"
        )
    return sizes[0], sizes[1], sizes[2]


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Return a mesh with axes ``("data", "fsdp", "tensor")``, all Auto.

    Args:
      config: Axis sizes; one may be -1.
      devices: Devices to use; all of them by default.
    """
    devices = jax.devices() if devices is None else list(devices)
    sizes = resolve_sizes(config, len(devices))
    return jax.make_mesh(sizes, AXES, axis_types=(AxisType.Auto,) * 3, devices=devices)
