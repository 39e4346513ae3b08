"""What a layer keeps for its backward pass, and where; the rest is computed a second time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from tl_jax.config import ModelConfig
from tl_jax.ops import cudnn, kernels
from tl_jax.parallel import memory

INPUT = "layer"
"""Name of the input of a layer, which is always kept."""

_QKV = ("attn/q", "attn/k", "attn/v")
_MATRICES = (*_QKV, "attn/o", "mlp/gate", "mlp/up", "mlp/down")

KEPT: dict[str, tuple[str, ...]] = {
    "full": (),
    "offload": (),
    "attention": (kernels.SAVED,),
    "attention_offload": (kernels.SAVED,),
    "qkv": (*_QKV, kernels.SAVED),
    # A second matmul costs much more than the memory of its result. What an adapter adds is kept
    # in the sum, not beside it.
    "dots": _MATRICES,
    "minimal": (*_MATRICES, kernels.SAVED),
}
"""Names of the values kept beside the input: the outputs of matrices by their paths, of attention.

Policy ``"none"`` keeps everything.
"""

OFFLOADED: dict[str, tuple[str, ...]] = {
    "offload": (INPUT,),
    "attention_offload": (INPUT, kernels.SAVED),
}
"""Names of the values that wait in the memory of the host, by policy."""


def rematerialised(layer: Callable[..., Any], policy: str) -> Callable[..., Any]:
    """Return ``layer`` with a backward pass that keeps what the policy says."""
    if policy == "none":
        return layer
    there = OFFLOADED.get(policy, ())
    names = jax.checkpoint_policies.save_and_offload_only_these_names(
        names_which_can_be_saved=[name for name in KEPT[policy] if name not in there],
        names_which_can_be_offloaded=list(there),
        offload_src=memory.DEVICE,
        offload_dst=memory.HOST,
    )

    def keeps(primitive: Any, *operands: Any, **parameters: Any) -> Any:
        if primitive.name == cudnn.PRIMITIVE:
            return kernels.SAVED in KEPT[policy]
        return names(primitive, *operands, **parameters)

    return jax.checkpoint(layer, policy=keeps)


def widths(model: ModelConfig) -> tuple[int, int]:
    """Return how many numbers a token leaves in each layer: on the device, and on its host.

    Policy ``"none"`` is counted as ``"minimal"``.
    """
    heads, kv_heads = (n * model.head_dim for n in (model.num_heads, model.num_kv_heads))
    sizes = {"attn/q": heads, "attn/k": kv_heads, "attn/v": kv_heads, kernels.SAVED: heads}
    sizes |= {"mlp/gate": model.mlp_dim, "mlp/up": model.mlp_dim}
    there = OFFLOADED.get(model.remat, ())
    found = {True: 0, False: 0}
    for name in (INPUT, *KEPT.get(model.remat, KEPT["minimal"])):
        found[name in there] += sizes.get(name, model.embed_dim)
    return found[False], found[True]
