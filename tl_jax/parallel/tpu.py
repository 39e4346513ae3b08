"""TPU chips as published, and pods of them that exist for the compiler only."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import os
import re
from collections.abc import Sequence
from typing import Any

from tl_jax.errors import ConfigError

GIB = 1024**3

# libtpu asks for the machine it is on; on one without a TPU this answers.
_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-16",
    "TPU_WORKER_HOSTNAMES": "localhost",
}


@dataclasses.dataclass(frozen=True)
class Chip:
    """Peaks of one device, as JAX counts devices (TPU7x: two to a chip).

    Attributes:
      flops: bfloat16 operations per second.
      hbm_bytes: Memory that the compiler grants a program; it refuses more.
      hbm_bandwidth: Bytes per second.
      ici_bandwidth: Bytes per second out of the chip, over all links of the torus together.
      host_bandwidth: Bytes per second to the host, and as many back.
      clock: Cycles per second: ``flops`` by two for each multiplier of its matrix units.
      devices: JAX devices in a chip.

    Source: the pages of v5e, v5p, v6e and TPU7x at cloud.google.com/tpu/docs; ``hbm_bytes`` is
    what libtpu 0.0.42.1 says when a program does not fit (0.0.52 grants up to 0.01 GiB less);
    ``host_bandwidth`` is from the chapter on TPUs of "How to Scale Your Model"
    (jax-ml.github.io/scaling-book), TPU7x's taken to be v6e's.
    """

    flops: float
    hbm_bytes: float
    hbm_bandwidth: float
    ici_bandwidth: float
    host_bandwidth: float
    clock: float
    devices: int = 1


CHIPS = {
    "v5e": Chip(197e12, 15.75 * GIB, 819e9, 200e9, 16e9, 1.5e9),
    "v5p": Chip(459e12, 95.74 * GIB, 2765e9, 600e9, 16e9, 1.75e9),
    "v6e": Chip(918e12, 31.25 * GIB, 1640e9, 448e9, 32e9, 1.75e9),
    "tpu7x": Chip(2307e12 / 2, 94.75 * GIB, 7380e9 / 2, 1200e9 / 2, 32e9, 2.2e9, devices=2),
}
"""By the name that a topology begins with."""


def is_compiler_installed() -> bool:
    """Whether programs for TPUs can be compiled here (the package libtpu)."""
    return importlib.util.find_spec("libtpu") is not None


def parse(topology: str) -> tuple[str, int]:
    """Return the chip's name and the number of JAX devices of, say, ``"v5e:16x16"``.

    Raises:
      ConfigError: The text is not a chip of ``CHIPS``, a colon and sizes.
    """
    name, _, sizes = topology.partition(":")
    if name not in CHIPS or not re.fullmatch(r"\d+(x\d+){1,2}", sizes):
        raise ConfigError(
            f"topology {topology!r} must be one of {', '.join(CHIPS)}, a colon and the sizes of "
            "the torus, such as v5e:16x16 or v5p:4x4x4"
        )
    return name, math.prod(map(int, sizes.split("x"))) * CHIPS[name].devices


def devices(topology: str, slices: int = 1) -> Sequence[Any]:
    """Return the devices of a pod that need not exist; programs can be compiled for them.

    Args:
      topology: Such as ``"v5e:16x16"``, one slice.
      slices: Slices, connected by the data-centre network.

    Raises:
      ConfigError: An unknown topology, or libtpu is not installed.
    """
    parse(topology)
    if not is_compiler_installed():
        raise ConfigError(
            "the compiler for TPUs is the package libtpu, for x86-64 Linux; install it with "
            ".venv/bin/pip install --constraint tools/constraints.txt libtpu"
        )
    # Before anything loads libtpu. A real TPU machine sets these itself.
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from jax.experimental import topologies

    several = {"num_slices": slices} if slices > 1 else {}
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=topology, **several)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"libtpu refuses topology {topology!r}: {error}") from error
    return found.devices


def read_flags(text: str) -> dict[str, str]:
    """Return compiler options of flags as in ``launch/xla_flags`` or ``LIBTPU_INIT_ARGS``."""
    lines = (line.partition("#")[0] for line in text.splitlines())
    words = [word for line in lines for word in line.split()]
    return dict(word.removeprefix("--").split("=", 1) for word in words)
