"""The one table from parameter paths to Hugging Face tensor names."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

Path = tuple[str, ...]

LOCAL_ROOTS = ("value_head", "critic")
"""First path keys of parameters that have no counterpart in a checkpoint."""

IGNORED_SUFFIXES = (".rotary_emb.inv_freq",)
"""Tensors old checkpoints carry that follow from the configuration."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """How one parameter lies in a Hugging Face checkpoint.

    Attributes:
      name: Tensor name; ``{i}`` stands for the layer number of a stacked parameter.
      stacked: Whether the parameter stacks all layers along its first dimension.
      transpose: Whether the checkpoint holds ``[out, in]`` where we hold ``[in, out]``.
    """

    name: str
    stacked: bool = False
    transpose: bool = False

    def layer_name(self, layer: int) -> str:
        """Return the tensor name for one layer (of no effect on an unstacked parameter)."""
        return self.name.replace("{i}", str(layer))


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One tensor of a checkpoint and where it lies in ours.

    Attributes:
      path: Parameter path.
      layer: Index along the parameter's first dimension; None when it is not stacked.
      shape: Shape in the checkpoint.
    """

    path: Path
    layer: int | None
    shape: tuple[int, ...]


def _layer(name: str) -> Entry:
    return Entry(f"model.layers.{{i}}.{name}", stacked=True)


def _linear(path: Path, name: str) -> dict[Path, Entry]:
    kernel = dataclasses.replace(_layer(f"{name}.weight"), transpose=True)
    return {(*path, "kernel"): kernel, (*path, "bias"): _layer(f"{name}.bias")}


TABLE: dict[Path, Entry] = {
    ("embed", "embedding"): Entry("model.embed_tokens.weight"),
    ("layers", "attn_norm", "scale"): _layer("input_layernorm.weight"),
    **_linear(("layers", "attn", "q"), "self_attn.q_proj"),
    **_linear(("layers", "attn", "k"), "self_attn.k_proj"),
    **_linear(("layers", "attn", "v"), "self_attn.v_proj"),
    **_linear(("layers", "attn", "o"), "self_attn.o_proj"),
    ("layers", "attn", "q_norm", "scale"): _layer("self_attn.q_norm.weight"),
    ("layers", "attn", "k_norm", "scale"): _layer("self_attn.k_norm.weight"),
    ("layers", "mlp_norm", "scale"): _layer("post_attention_layernorm.weight"),
    **_linear(("layers", "mlp", "gate"), "mlp.gate_proj"),
    **_linear(("layers", "mlp", "up"), "mlp.up_proj"),
    **_linear(("layers", "mlp", "down"), "mlp.down_proj"),
    ("final_norm", "scale"): Entry("model.norm.weight"),
    ("lm_head", "kernel"): Entry("lm_head.weight", transpose=True),
}
"""Every parameter of every family; a model has those that its configuration declares."""


def flatten(tree: dict[str, Any], prefix: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield ``(path, leaf)`` of a nested dict, in table order where the table knows the path."""
    leaves = list(_walk(tree, prefix))
    order = {path: position for position, path in enumerate(TABLE)}
    return iter(sorted(leaves, key=lambda leaf: order.get(leaf[0], len(order))))


def unflatten(leaves: dict[Path, Any]) -> dict[str, Any]:
    """Return the nested dict with the given leaves."""
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        node = tree
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = leaf
    return tree


def tensors(shapes: dict[Path, tuple[int, ...]]) -> dict[str, Tensor]:
    """Return every tensor of the checkpoint that holds parameters of the given shapes.

    Layers come one after another, as ``transformers`` orders them.

    Args:
      shapes: Parameter path to parameter shape; local parameters must be left out.
    """
    found: list[tuple[float, str, Tensor]] = []
    for path, shape in shapes.items():
        entry = TABLE[path]
        block = shape[1:] if entry.stacked else shape
        block = block[::-1] if entry.transpose else block
        for layer in range(shape[0]) if entry.stacked else (None,):
            name = entry.name if layer is None else entry.layer_name(layer)
            place = layer if layer is not None else -1.0 if path[0] == "embed" else math.inf
            found.append((place, name, Tensor(path, layer, block)))
    return {name: tensor for _, name, tensor in sorted(found, key=lambda item: item[0])}


def _walk(tree: dict[str, Any], prefix: Path) -> Iterator[tuple[Path, Any]]:
    for key, node in tree.items():
        path = (*prefix, key)
        if isinstance(node, dict):
            yield from _walk(node, path)
        else:
            yield path, node
