"""The model as pure functions of a nested dict of parameters."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol

import flax.struct
import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from tl_jax.config import ModelConfig
from tl_jax.models import remat, rotary, windows
from tl_jax.models.decoder import Decoder
from tl_jax.models.heads import ValueHead
from tl_jax.models.layers import Block, Embedding, ParamInfo, RMSNorm
from tl_jax.ops.attention import Row
from tl_jax.parallel.sharding import constrain
from tl_jax.types import Params


class TokenRows(Protocol):
    """What the model reads of a batch."""

    tokens: Any
    positions: Any
    visible_until: Any


class Cache(flax.struct.PyTreeNode):
    """Keys and values of earlier tokens; the token at a position is in the slot of that number.

    Slots from ``index`` on may hold anything: no token sees the slots of later positions, and the
    token of a position writes its own before it is read.

    Attributes:
      keys: One ``[B, K, H, S]`` array per layer.
      values: One ``[B, K, S, H]`` array per layer.
      index: ``[B]`` int32 tokens of each row, its next slot.
    """

    keys: tuple[jax.Array, ...]
    values: tuple[jax.Array, ...]
    index: jax.Array


def abstract_params(config: ModelConfig, *, value_head: bool = False) -> dict[str, Any]:
    """Return the nested dict of ``ParamInfo``: what every parameter looks like.

    Stacked layers carry a leading axis named ``layers``.
    """
    module = jax.eval_shape(lambda: Decoder(config, nnx.Rngs(params=0), value_head=value_head))
    declared: dict[str, Any] = {}
    for path, param in nnx.to_flat_state(nnx.split(module)[1]):
        shape, axes = param.get_value().shape, param.axes
        axes = ("layers",) * (len(shape) - len(axes)) + tuple(axes)
        node = declared
        for key in path[:-1]:
            node = node.setdefault(str(key), {})
        node[str(path[-1])] = ParamInfo(tuple(shape), param.get_value().dtype, axes)
    return declared


def init(config: ModelConfig, key: jax.Array, *, value_head: bool = False) -> Params:
    """Return freshly initialised parameters (``value_head`` adds a zero head)."""
    module = Decoder(config, nnx.Rngs(params=key), value_head=value_head)
    return nnx.to_pure_dict(nnx.split(module)[1])


def hidden_states(params: Params, batch: TokenRows, config: ModelConfig) -> jax.Array:
    """Return the final hidden states ``[B, T, D]`` of packed rows.

    Args:
      params: Parameters as from ``init`` or ``convert.from_hf.load``.
      batch: ``tokens``, ``positions``, ``visible_until``, each ``[B, T]`` int32 (``types.Batch``).
        A token sees the earlier tokens of its text, in layers with a sliding window the last of
        them.
      config: The architecture.
    """
    row = Row(jnp.asarray(batch.positions), jnp.asarray(batch.visible_until))
    block_graph = _graph(Block, config)
    angles = rotary.angles(row.positions, config)

    shared_window, limits_L = windows.scanned(config)

    def layer(x_BTD: jax.Array, xs: tuple[Params, Any]) -> tuple[jax.Array, None]:
        x_BTD = checkpoint_name(x_BTD, remat.INPUT)
        layer_params, limit = xs
        block = nnx.merge(block_graph, layer_params)
        q_BNTH, k_BKTH, v_BKTH = block.project(x_BTD, *angles)
        window = shared_window if limit is None else limit
        return block.finish(x_BTD, q_BNTH, k_BKTH, v_BKTH, row, window=window), None

    x_BTD = _embed(params, jnp.asarray(batch.tokens), config)
    x_BTD, _ = jax.lax.scan(
        remat.rematerialised(layer, config.remat),
        x_BTD,
        (params["layers"], limits_L),
        unroll=min(config.unroll, config.num_layers),
    )
    return nnx.merge(_graph(RMSNorm, config), params["final_norm"])(x_BTD)


def head_kernel(params: Params, config: ModelConfig) -> jax.Array:
    """Return the output projection ``[D, V]`` (the embedding's transpose when tied)."""
    if config.tie_embeddings:
        return params["embed"]["embedding"].T
    return params["lm_head"]["kernel"]


def logits(params: Params, hidden_BTD: jax.Array, config: ModelConfig) -> jax.Array:
    """Return float32 logits ``[..., V]`` of hidden states ``[..., D]``."""
    kernel_DV = head_kernel(params, config).astype(hidden_BTD.dtype)
    return jnp.dot(hidden_BTD, kernel_DV, preferred_element_type=jnp.float32)


def apply(params: Params, batch: TokenRows, config: ModelConfig) -> jax.Array:
    """Return float32 logits ``[B, T, V]`` of packed rows (see ``hidden_states``)."""
    return logits(params, hidden_states(params, batch, config), config)


def values(params: Params, hidden_BTD: jax.Array, *, stop_gradient: bool) -> jax.Array:
    """Return the value head's predictions ``[B, T]`` float32.

    With ``stop_gradient`` the value loss trains the head alone and leaves the trunk as it is.
    """
    if stop_gradient:
        hidden_BTD = jax.lax.stop_gradient(hidden_BTD)
    graph = _graph(ValueHead, hidden_BTD.shape[-1])
    return nnx.merge(graph, params["value_head"])(hidden_BTD)


def unstack_layers(params: Params) -> Params:
    """Return the parameters with ``layers`` as a tuple of per-layer dicts.

    Decoding reads each layer's matrices once per token; slices of the stack made inside the loop
    would be copied every time.
    """
    count = jax.tree.leaves(params["layers"])[0].shape[0]
    layers = tuple(jax.tree.map(lambda x, i=i: x[i], params["layers"]) for i in range(count))
    return {**params, "layers": layers}


def init_cache(config: ModelConfig, batch_size: int, length: int) -> Cache:
    """Return an empty cache of ``length`` slots per row in the compute dtype.

    Rows lie on the mesh as those of a batch do, heads as those of attention.
    """
    rows, heads = (batch_size, config.num_kv_heads), config.head_dim

    def empty(*sizes: int, axes: tuple[str | None, ...]) -> tuple[jax.Array, ...]:
        return tuple(
            constrain(jnp.zeros((*rows, *sizes), config.dtype), "batch", "act_heads", *axes)
            for _ in range(config.num_layers)
        )

    return Cache(
        keys=empty(heads, length, axes=(None, "length")),
        values=empty(length, heads, axes=("length", None)),
        index=constrain(jnp.zeros(batch_size, jnp.int32), "batch"),
    )


def apply_with_cache(
    params: Params, tokens_BT: jax.Array, cache: Cache, config: ModelConfig
) -> tuple[jax.Array, Cache]:
    """Append T tokens to every row of the cache and return their final hidden states.

    Each row must have T slots from ``cache.index`` on. Tokens that are padding stand behind those
    that are not; the caller sets ``index`` back to leave them, or others, out again.

    Args:
      params: Parameters whose layers are unstacked (``unstack_layers``).
      tokens_BT: New tokens; a row's take its slots ``cache.index`` to ``cache.index + T - 1``.
      cache: Earlier tokens.
      config: The architecture.

    Returns:
      ``(hidden_BTD, cache)``.
    """
    positions_BT = cache.index[:, None] + jnp.arange(tokens_BT.shape[1], dtype=jnp.int32)
    angles = rotary.angles(positions_BT, config)
    block_graph = _graph(Block, config)
    keys, vals = list(cache.keys), list(cache.values)
    x_BTD = _embed(params, tokens_BT, config)
    layer_windows = windows.per_layer(config)
    for i, layer_params in enumerate(params["layers"]):
        block = nnx.merge(block_graph, layer_params)
        q_BNTH, k_BKTH, v_BKTH = block.project(x_BTD, *angles)
        keys[i] = _write(keys[i], k_BKTH.swapaxes(2, 3), cache.index, axis=2)
        vals[i] = _write(vals[i], v_BKTH, cache.index, axis=1)
        x_BTD = block.finish_with_cache(
            x_BTD, q_BNTH, keys[i], vals[i], positions_BT, layer_windows[i]
        )
    hidden_BTD = nnx.merge(_graph(RMSNorm, config), params["final_norm"])(x_BTD)
    return hidden_BTD, Cache(tuple(keys), tuple(vals), cache.index + tokens_BT.shape[1])


def _write(slots: jax.Array, new: jax.Array, index_B: jax.Array, *, axis: int) -> jax.Array:
    """Put each row's new tokens into its slots, which lie along ``axis`` of the row."""

    def one(row: jax.Array, tokens: jax.Array, start: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(row, tokens, start, axis)

    return jax.vmap(one)(slots, new, index_B)


def _embed(params: Params, tokens_BT: jax.Array, config: ModelConfig) -> jax.Array:
    embedding = nnx.merge(_graph(Embedding, config), params["embed"])
    return constrain(embedding(tokens_BT, config.dtype), "batch", "length", "act_embed")


@functools.lru_cache(maxsize=128)
def _graph(module: Callable[[Any, nnx.Rngs], nnx.Module], argument: ModelConfig | int) -> Any:
    return nnx.split(jax.eval_shape(lambda: module(argument, nnx.Rngs(params=0))))[0]
