"""What a layer keeps for its backward pass; the rest is computed a second time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from tl_jax.ops import kernels

_QKV = ("attn/q", "attn/k", "attn/v")
_MATRICES = (*_QKV, "attn/o", "mlp/gate", "mlp/up", "mlp/down")

KEPT: dict[str, tuple[str, ...]] = {
    "full": (),
    "attention": (kernels.SAVED,),
    "qkv": (*_QKV, kernels.SAVED),
    # A second matmul costs much more than the memory of its result. What an adapter adds is kept
    # in the sum, not beside it.
    "dots": _MATRICES,
    "minimal": (*_MATRICES, kernels.SAVED),
}
"""Names of the kept values by policy: the outputs of matrices by their paths, and of attention.

Policy ``"none"`` keeps everything.
"""


def rematerialised(layer: Callable[..., Any], policy: str) -> Callable[..., Any]:
    """Return ``layer`` with a backward pass that keeps what ``KEPT`` says of the policy."""
    if policy == "none":
        return layer
    names = jax.checkpoint_policies.save_only_these_names(*KEPT[policy])
    return jax.checkpoint(layer, policy=names)
