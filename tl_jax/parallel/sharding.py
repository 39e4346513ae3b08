"""Logical axes and where they lie on the mesh."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import AbstractMesh, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from tl_jax.errors import ConfigError

MeshAxes = str | tuple[str, ...] | None

# Parameters: FSDP splits the embed side of each matrix, tensor parallelism the other side. Devices
# that share a row hold parts of them, too. Activations (act_*): rows over data and fsdp, their
# tokens over sequence, features of the inner layers over tensor.
RULES: dict[str, MeshAxes] = {
    "vocab": "tensor",
    "embed": ("fsdp", "sequence"),
    "heads": "tensor",
    "kv_heads": "tensor",
    "mlp": "tensor",
    "layers": None,
    "batch": ("data", "fsdp"),
    "length": "sequence",
    "act_embed": None,
    "act_heads": "tensor",
    "act_mlp": "tensor",
    "act_vocab": "tensor",
}


class Declared(Protocol):
    """What a parameter declaration must say: its shape and the logical name of each axis."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def axes(self) -> tuple[str | None, ...]: ...


def spec(axes: tuple[str | None, ...]) -> P:
    """Return the PartitionSpec of an array with these logical axes.

    Raises:
      ValueError: An unknown axis name, or two axes that want the same mesh axis.
    """
    entries: list[MeshAxes] = []
    used: set[str] = set()
    for axis in axes:
        if axis is not None and axis not in RULES:
            raise ValueError(f"unknown logical axis {axis!r}; known: {', '.join(RULES)}")
        entry = None if axis is None else RULES[axis]
        names = () if entry is None else (entry,) if isinstance(entry, str) else entry
        clash = used.intersection(names)
        if clash:
            raise ValueError(f"logical axes {axes} use mesh axis {sorted(clash)[0]!r} twice")
        used.update(names)
        entries.append(entry)
    return P(*entries)


def parts(mesh: Mesh | AbstractMesh, axes: MeshAxes) -> int:
    """Return into how many parts an array axis that lies along these mesh axes is cut."""
    names = () if axes is None else (axes,) if isinstance(axes, str) else axes
    return math.prod(mesh.shape[name] for name in names)


def cut(axis: str) -> int:
    """Return into how many parts the mesh in context cuts a logical axis; 1 without a mesh."""
    mesh = jax.sharding.get_abstract_mesh()
    return 1 if mesh.empty else parts(mesh, RULES[axis])


def check_length(size: int, name: str, mesh_shape: Mapping[str, int]) -> None:
    """Refuse rows whose tokens cannot be spread evenly.

    Args:
      size: Tokens of a row.
      name: The setting that decides it.
      mesh_shape: Sizes of the mesh axes.

    Raises:
      ConfigError: The message names the setting and the axis.
    """
    devices = mesh_shape["sequence"]
    if size % devices:
        raise ConfigError(
            f"{name} = {size} tokens are not divisible by mesh axis 'sequence' of size {devices}; "
            "change it or config.mesh.sequence"
        )


def param_shardings(declared: Any, mesh: Mesh) -> Any:
    """Return the NamedSharding of every declared parameter (same nested dict).

    Raises:
      ConfigError: A dimension that its mesh axis does not divide.
    """

    def one(path: Any, info: Declared) -> NamedSharding:
        partition = spec(info.axes)
        for size, axis, entry in zip(info.shape, info.axes, partition, strict=True):
            if size % parts(mesh, entry):
                raise ConfigError(
                    f"{jax.tree_util.keystr(path)}: axis {axis!r} of size {size} is not divisible "
                    f"by mesh axis {entry!r} of size {parts(mesh, entry)}; change config.mesh"
                )
        return NamedSharding(mesh, partition)

    return jax.tree_util.tree_map_with_path(one, declared, is_leaf=lambda x: hasattr(x, "axes"))


def placed(declared: Any, mesh: Mesh) -> Any:
    """Return shape, type and sharding on the mesh of every declared parameter."""
    return jax.tree.map(
        lambda info, where: jax.ShapeDtypeStruct(info.shape, info.dtype, sharding=where),
        declared,
        param_shardings(declared, mesh),
        is_leaf=lambda x: hasattr(x, "axes"),
    )


def moved(tree: Any, mesh: Mesh) -> Any:
    """Return arrays as they lie on another mesh of the same devices, moved by one program.

    Where that mesh has every part on the device that has it already, nothing moves.

    Raises:
      ValueError: A dimension that an axis of ``mesh`` does not divide.
    """
    layout = jax.tree.map(lambda leaf: NamedSharding(mesh, leaf.sharding.spec), tree)
    if layout == jax.tree.map(lambda leaf: leaf.sharding, tree):
        return tree
    if jax.tree.all(jax.tree.map(_lies_as, tree, layout)):
        return jax.tree.map(_relabelled, tree, layout)
    return _mover(tuple(jax.tree.leaves(layout)), jax.tree.structure(layout))(tree)


def _lies_as(leaf: jax.Array, where: NamedSharding) -> bool:
    return leaf.sharding.is_equivalent_to(where, leaf.ndim)


def _relabelled(leaf: jax.Array, where: NamedSharding) -> jax.Array:
    shards = [shard.data for shard in leaf.addressable_shards]
    return jax.make_array_from_single_device_arrays(leaf.shape, where, shards)


@functools.lru_cache(maxsize=8)
def _mover(shardings: tuple[NamedSharding, ...], structure: Any) -> Any:
    layout = jax.tree.unflatten(structure, shardings)
    return jax.jit(lambda tree: tree, out_shardings=layout)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Return the sharding of ``[B, T]`` arrays: rows over data and fsdp, tokens over sequence."""
    return NamedSharding(mesh, spec(("batch", "length")))


def own_rows(where: NamedSharding, count: int) -> np.ndarray:
    """Return which of ``count`` rows lie on devices of this process, ascending.

    Args:
      where: From ``batch_sharding``.
      count: Rows of the global batch; its mesh axes divide it.
    """
    by_row = NamedSharding(where.mesh, P(where.spec[0]))
    parts = by_row.addressable_devices_indices_map((count,)).values()
    return np.unique(np.concatenate([np.arange(count)[index] for index in parts]))


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding of values that every device holds whole."""
    return NamedSharding(mesh, P())


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Hint the layout of an activation; without a mesh in context, return ``x`` unchanged."""
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return jax.lax.with_sharding_constraint(x, spec(axes))
