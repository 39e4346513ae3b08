"""The two memories of a device: its own, and that of its host, which it reads by direct access."""

from __future__ import annotations

from typing import Any

import jax

DEVICE, HOST = "device", "pinned_host"
"""JAX's names of them."""


def held_in(kind: str, tree: Any) -> Any:
    """Return the arrays in the memory ``kind``, sharded as they are.

    Those that are there already, and whatever is no array of JAX, are not copied.
    """

    def one(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array) or leaf.sharding.memory_kind == kind:
            return leaf
        return jax.device_put(leaf, leaf.sharding.with_memory_kind(kind))

    return jax.tree.map(one, tree)


def offloaded(tree: Any) -> Any:
    """Return the arrays in the host's memory; the device's is free again, as if donated."""
    there = jax.block_until_ready(held_in(HOST, tree))
    for old, new in zip(jax.tree.leaves(tree), jax.tree.leaves(there), strict=True):
        if old is not new:
            old.delete()
    return there
