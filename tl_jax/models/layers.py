"""Building blocks of the decoder as stateless Flax NNX modules, each parameter declared once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from tl_jax.config import ModelConfig
from tl_jax.models import lora, nf4
from tl_jax.ops import kernels
from tl_jax.ops.attention import Row
from tl_jax.ops.cached_attention import cached_attention
from tl_jax.ops.lookup import look_up
from tl_jax.ops.matmul import matmul
from tl_jax.ops.rope import apply_rotary
from tl_jax.parallel.sharding import constrain, cut

Initializer = Callable[[jax.Array, tuple[int, ...], Any], jax.Array]

_kernel_init = nnx.initializers.variance_scaling(1.0, "fan_in", "normal")
_embedding_init = nnx.initializers.normal(0.02)
# As in PEFT: uniform within 1 / sqrt(in).
_adapter_init = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
_zeros = nnx.initializers.zeros_init()
_ones = nnx.initializers.ones_init()


@dataclasses.dataclass(frozen=True)
class ParamInfo:
    """A parameter without its values: shape, dtype and the logical name of each axis."""

    shape: tuple[int, ...]
    dtype: Any
    axes: tuple[str | None, ...]


def declare(
    rngs: nnx.Rngs,
    shape: tuple[int, ...],
    axes: tuple[str | None, ...],
    init: Initializer,
    dtype: str,
) -> nnx.Param:
    """Declare a parameter; everything else about it is derived from this call."""
    return nnx.Param(init(rngs.params(), shape, jnp.dtype(dtype)), axes=axes)


class RMSNorm(nnx.Module):
    """Root-mean-square normalisation with a learned scale, computed in float32.

    It is over the last axis, of ``size`` (by default the embedding's).
    """

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs, size: int | None = None):
        self.eps = config.norm_eps
        self.scale = declare(rngs, (size or config.embed_dim,), (None,), _ones, config.param_dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        wide = x.astype(jnp.float32)
        wide = wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + self.eps)
        return (wide * self.scale[...].astype(jnp.float32)).astype(x.dtype)


class Linear(nnx.Module):
    """A matrix product; the kernel is ``[in, out]``, the transpose of the checkpoint's.

    A bias lies as the output axis of the kernel does. A ``path`` that ``config.lora`` targets gets
    an adapter, which starts without effect: ``lora_b`` is zero. Rematerialisation finds the output
    under its path.
    """

    def __init__(
        self,
        config: ModelConfig,
        sizes: tuple[int, int],
        axes: tuple[str | None, str | None],
        rngs: nnx.Rngs,
        *,
        bias: bool = False,
        path: str = "",
    ):
        self.path = path
        self.is_packed = lora.packs(config.lora, path)
        if self.is_packed:
            shape = nf4.scales_shape(sizes)
            self.kernel_codes = declare(rngs, sizes, axes, _zeros, "uint4")
            self.kernel_scales = declare(rngs, shape, axes, _zeros, config.param_dtype)
        else:
            self.kernel = declare(rngs, sizes, axes, _kernel_init, config.param_dtype)
        self.has_bias = bias
        if bias:
            self.bias = declare(rngs, sizes[1:], axes[1:], _zeros, config.param_dtype)
        self.scale = lora.scale(config.lora) if lora.adapts(config.lora, path) else None
        if self.scale is not None:
            rank, dtype = config.lora.rank, config.lora.dtype
            self.lora_a = declare(rngs, (sizes[0], rank), (axes[0], None), _adapter_init, dtype)
            self.lora_b = declare(rngs, (rank, sizes[1]), (None, axes[1]), _zeros, dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        if self.is_packed:
            kernel = nf4.dequantised(self.kernel_codes[...], self.kernel_scales[...], x.dtype)
        else:
            kernel = self.kernel[...].astype(x.dtype)
        out = matmul(x, kernel)
        if self.has_bias:
            out = out + self.bias[...].astype(x.dtype)
        if self.scale is not None:
            narrow = matmul(x, self.lora_a[...].astype(x.dtype))
            out = out + matmul(narrow, self.lora_b[...].astype(x.dtype)) * self.scale
        return checkpoint_name(out, self.path)


class Embedding(nnx.Module):
    """Token embeddings ``[V, D]``."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        shape = (config.vocab_size, config.embed_dim)
        self.embedding = declare(
            rngs, shape, ("vocab", "embed"), _embedding_init, config.param_dtype
        )

    def __call__(self, tokens_BT: jax.Array, dtype: str) -> jax.Array:
        table_VD = self.embedding[...].astype(dtype)
        if cut("length") > 1:
            # From a part of every vector there is no direct way to whole vectors of a part of the
            # tokens: the compiler would give every device all of them.
            table_VD = constrain(table_VD, "vocab", None)
        return look_up(table_VD, tokens_BT)


class Attention(nnx.Module):
    """Grouped-query self-attention with rotary positions.

    ``project`` and ``attend`` are separate so that a key-value cache can stand between them.
    """

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.config = config
        embed, head = config.embed_dim, config.head_dim
        heads, kv_heads = config.num_heads * head, config.num_kv_heads * head

        def linear(name: str, sizes: tuple[int, int], axes: tuple[str, str]) -> Linear:
            return Linear(config, sizes, axes, rngs, bias=name in biased, path=f"attn/{name}")

        biased = "" if config.attention_bias == "none" else config.attention_bias
        self.q = linear("q", (embed, heads), ("embed", "heads"))
        self.k = linear("k", (embed, kv_heads), ("embed", "kv_heads"))
        self.v = linear("v", (embed, kv_heads), ("embed", "kv_heads"))
        self.o = linear("o", (heads, embed), ("heads", "embed"))
        if config.qk_norm:
            self.q_norm = RMSNorm(config, rngs, head)
            self.k_norm = RMSNorm(config, rngs, head)

    def project(
        self, x_BTD: jax.Array, cos_BTh: jax.Array, sin_BTh: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Return rotated queries ``[B, N, T, H]``, rotated keys and values ``[B, K, T, H]``."""

        def heads(x: jax.Array) -> jax.Array:
            split = x.reshape(*x.shape[:2], -1, self.config.head_dim)
            return constrain(split.swapaxes(1, 2), "batch", "act_heads", "length", None)

        q_BNTH, k_BKTH, v_BKTH = heads(self.q(x_BTD)), heads(self.k(x_BTD)), heads(self.v(x_BTD))
        if self.config.qk_norm:
            q_BNTH, k_BKTH = self.q_norm(q_BNTH), self.k_norm(k_BKTH)
        return (
            apply_rotary(q_BNTH, cos_BTh, sin_BTh),
            apply_rotary(k_BKTH, cos_BTh, sin_BTh),
            v_BKTH,
        )

    def attend(
        self,
        q_BNTH: jax.Array,
        k_BKSH: jax.Array,
        v_BKSH: jax.Array,
        row: Row[jax.Array],
        *,
        window: int | jax.Array,
    ) -> jax.Array:
        """Attend (see ``ops.kernels.attend``) and project back to embed."""
        config = self.config
        out_BNTH = kernels.attend(
            *(q_BNTH, k_BKSH, v_BKSH, row),
            kind=config.attention,
            blocks=config.splash,
            window=window,
        )
        return self.project_back(out_BNTH)

    def project_back(self, out_BNTH: jax.Array) -> jax.Array:
        """Return what the heads found as vectors of embed, ``[B, T, D]``."""
        out_BTNH = out_BNTH.swapaxes(1, 2)
        return self.o(out_BTNH.reshape(*out_BTNH.shape[:2], -1))


class Mlp(nnx.Module):
    """SwiGLU feed-forward layer."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        def linear(name: str, sizes: tuple[int, int], axes: tuple[str, str]) -> Linear:
            return Linear(config, sizes, axes, rngs, bias=config.mlp_bias, path=f"mlp/{name}")

        up, down = (config.embed_dim, config.mlp_dim), (config.mlp_dim, config.embed_dim)
        self.gate = linear("gate", up, ("embed", "mlp"))
        self.up = linear("up", up, ("embed", "mlp"))
        self.down = linear("down", down, ("mlp", "embed"))

    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        hidden_BTF = jax.nn.silu(self.gate(x_BTD)) * self.up(x_BTD)
        return self.down(constrain(hidden_BTF, "batch", "length", "act_mlp"))


class Block(nnx.Module):
    """One pre-norm transformer layer."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.attn_norm = RMSNorm(config, rngs)
        self.attn = Attention(config, rngs)
        self.mlp_norm = RMSNorm(config, rngs)
        self.mlp = Mlp(config, rngs)

    def project(
        self, x_BTD: jax.Array, cos_BTh: jax.Array, sin_BTh: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Return the queries, keys and values of the normalised input."""
        return self.attn.project(self.attn_norm(x_BTD), cos_BTh, sin_BTh)

    def finish(
        self,
        x_BTD: jax.Array,
        q_BNTH: jax.Array,
        k_BKSH: jax.Array,
        v_BKSH: jax.Array,
        row: Row[jax.Array],
        *,
        window: int | jax.Array,
    ) -> jax.Array:
        """Add attention and feed-forward outputs to the residual stream."""
        return self._add(x_BTD, self.attn.attend(q_BNTH, k_BKSH, v_BKSH, row, window=window))

    def finish_with_cache(
        self,
        x_BTD: jax.Array,
        q_BNTH: jax.Array,
        keys_BKHS: jax.Array,
        values_BKSH: jax.Array,
        positions_BT: jax.Array,
        window: int,
    ) -> jax.Array:
        """Do so with the keys and values of a cache, as ``cached_attention`` reads them."""
        found = cached_attention(q_BNTH, keys_BKHS, values_BKSH, positions_BT, window=window)
        return self._add(x_BTD, self.attn.project_back(found))

    def _add(self, x_BTD: jax.Array, attended_BTD: jax.Array) -> jax.Array:
        x_BTD = x_BTD + attended_BTD
        x_BTD = x_BTD + self.mlp(self.mlp_norm(x_BTD))
        return constrain(x_BTD, "batch", "length", "act_embed")
