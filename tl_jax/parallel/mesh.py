"""The device mesh and the start of the distributed runtime."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from tl_jax.config import MeshConfig
from tl_jax.errors import ConfigError

logger = logging.getLogger(__name__)

Devices = Sequence[Any]
"""Of ``jax.Device``, which the library leaves without a type."""

# Devices next to each other share a layer, then a row, then parameters.
AXES = ("data", "fsdp", "sequence", "tensor")

# Where this process stands in its cluster, said outright.
_ADDRESS, _COUNT, _INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
# Variables from which jax.distributed finds that out on its own.
_CLUSTER_VARIABLES = (
    _ADDRESS,
    "COORDINATOR_ADDRESS",
    "MEGASCALE_COORDINATOR_ADDRESS",
    # Only inside a job step (srun): in the batch script nobody else would come.
    "SLURM_STEP_NODELIST",
    "OMPI_MCA_orte_hnp_uri",
)
# Set to 1 on TPU VMs, whose metadata server and not the environment names the other hosts.
_DISTRIBUTED = "TL_JAX_DISTRIBUTED"


def start_distributed() -> None:
    """Connect this process to its cluster if the environment describes one.

    Must run before anything touches devices. ``JAX_COORDINATOR_ADDRESS``, ``JAX_NUM_PROCESSES``
    and ``JAX_PROCESS_ID`` together say where this process stands; else JAX finds out in a Slurm
    or Open MPI job, in a TPU pod of GKE, and on TPU VMs with ``TL_JAX_DISTRIBUTED=1``. A single
    TPU VM also lists itself in ``TPU_WORKER_HOSTNAMES``; one host needs no coordinator.

    Raises:
      ConfigError: The environment says this half, or the devices are those of several hosts that
        were not connected.
    """
    given = [name for name in (_COUNT, _INDEX) if os.environ.get(name)]
    hosts = os.environ.get("TPU_PROCESS_ADDRESSES") or os.environ.get("TPU_WORKER_HOSTNAMES", "")
    if given:
        jax.distributed.initialize(
            _required(_ADDRESS), _whole_number(_COUNT), _whole_number(_INDEX)
        )
    elif (
        "," in hosts
        or os.environ.get(_DISTRIBUTED) == "1"
        or any(os.environ.get(name) for name in _CLUSTER_VARIABLES)
    ):
        jax.distributed.initialize()
    elif jax.process_count() > 1:
        raise ConfigError(
            f"this is one of {jax.process_count()} hosts of a TPU slice; start the same command "
            f"on each with {_DISTRIBUTED}=1, as launch/tpu_vm.sh does"
        )


def _required(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise ConfigError(f"set {name}: {_ADDRESS}, {_COUNT} and {_INDEX} go together")
    return value


def _whole_number(name: str) -> int:
    value = _required(name)
    if not value.isdecimal():
        raise ConfigError(f"{name}={value} must be a whole number")
    return int(value)


def resolve_sizes(config: MeshConfig, device_count: int) -> dict[str, int]:
    """Return the size of every axis, in the order of ``AXES``, with -1 replaced.

    Raises:
      ConfigError: The sizes do not multiply to ``device_count``.
    """
    sizes = [getattr(config, axis) for axis in AXES]
    if sizes.count(-1) > 1 or any(size == 0 or size < -1 for size in sizes):
        raise ConfigError(f"mesh sizes must be positive, at most one -1; got {sizes}")
    known = int(np.prod([size for size in sizes if size != -1]))
    if -1 in sizes and device_count % known == 0:
        sizes[sizes.index(-1)] = device_count // known
    if int(np.prod(sizes)) != device_count:
        raise ConfigError(
            f"mesh {' x '.join(AXES)} = {' x '.join(map(str, sizes))} does not match "
            f"{device_count} devices; change config.mesh"
        )
    return dict(zip(AXES, sizes, strict=True))


def make_mesh(config: MeshConfig, devices: Devices | None = None) -> Mesh:
    """Return a mesh with the axes ``AXES``, all Auto.

    Several slices of TPUs, which only the data-centre network connects, lie along ``data``.

    Args:
      config: Axis sizes; one may be -1.
      devices: Devices to use; all of them by default.

    Raises:
      ConfigError: The sizes do not fit the number of devices or of slices.
    """
    devices = jax.devices() if devices is None else list(devices)
    sizes = tuple(resolve_sizes(config, len(devices)).values())
    types = (AxisType.Auto,) * len(AXES)
    slices = count_slices(devices)
    if slices == 1:
        try:
            return jax.make_mesh(sizes, AXES, axis_types=types, devices=devices)
        except NotImplementedError:  # 4 x 64 on a torus of 16 x 16, say
            logger.warning("mesh %s cuts the sides of the slice into parts", sizes)
        grid = mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
        return Mesh(grid, AXES, axis_types=types)
    if sizes[0] % slices:
        raise ConfigError(
            f"config.mesh.data {sizes[0]} is not divisible by the {slices} slices; only the "
            "gradient may go from slice to slice"
        )
    within = (sizes[0] // slices, *sizes[1:])
    grid = mesh_utils.create_hybrid_device_mesh(
        within, (slices, 1, 1, 1), devices, allow_split_physical_axes=True
    )
    return Mesh(grid, AXES, axis_types=types)


def count_slices(devices: Devices) -> int:
    """Return the number of TPU slices that ``devices`` belong to, 1 on other devices.

    GPUs and CPUs of several hosts have a ``slice_index`` as well, one per host, but any axis may
    lie across their network.
    """
    if devices[0].platform != "tpu":
        return 1
    return len({getattr(device, "slice_index", 0) for device in devices})


def make_sampling_mesh(mesh: Mesh, tensor: int) -> Mesh:
    """Return the mesh on which text is sampled: the same devices, but none along sequence.

    A token at a time, there is nothing to split. With ``tensor`` there are none along fsdp either:
    training gathers each layer's matrices once for thousands of tokens, but sampling would for
    every token; so each device keeps its part of them and of the work, and exchanges activations.

    Args:
      mesh: The mesh of training.
      tensor: Devices that share a layer; 0 leaves parameters where they are, with the devices along
        sequence as more of those along fsdp.

    Raises:
      ConfigError: ``tensor`` does not divide the devices.
    """
    if tensor and mesh.size % tensor:
        raise ConfigError(
            f"config.mesh.sampling_tensor {tensor} does not divide {mesh.size} devices"
        )
    # In the same order, so that one program can move arrays from mesh to mesh.
    data, fsdp, sequence, within = mesh.devices.shape
    sizes = (-1, 1, 1, tensor) if tensor else (data, fsdp * sequence, 1, within)
    return Mesh(mesh.devices.reshape(sizes), AXES, axis_types=mesh.axis_types)
