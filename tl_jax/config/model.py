"""The architecture of a model and how it is computed, as frozen dataclasses."""

from __future__ import annotations

import dataclasses

from tl_jax.config.fields import above_zero, choice, not_negative, number, positive


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """How rotary frequencies are stretched for texts longer than those of the first training.

    ``"linear"`` divides all frequencies by ``factor``; ``"llama3"`` and ``"yarn"`` only the low
    ones, told apart by the turns they make in ``original_max_position`` tokens (llama3: up to
    ``low_freq_factor`` turns wholly, from ``high_freq_factor`` not; yarn: ``beta_slow`` and
    ``beta_fast``, whose bounds ``truncate`` rounds to whole pairs). ``attention_factor`` multiplies
    cosines and sines.
    """

    kind: str = choice("none", "linear", "llama3", "yarn", default="none")
    factor: float = number(1.0, least=1)
    original_max_position: int = positive(8192)
    low_freq_factor: float = above_zero(1.0)
    high_freq_factor: float = above_zero(4.0)
    beta_fast: float = above_zero(32.0)
    beta_slow: float = above_zero(1.0)
    truncate: bool = True
    attention_factor: float = above_zero(1.0)


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters: with a ``rank`` above 0 only they, and a critic, are trained.

    A matrix ``W`` of a layer becomes ``W + alpha / rank * A B``. ``targets`` is a regular
    expression that the whole path of a matrix must match to get one: ``attn/q``, ``attn/k``,
    ``attn/v``, ``attn/o``, ``mlp/gate``, ``mlp/up``, ``mlp/down``. ``dtype`` is the type of ``A``
    and ``B``, whatever that of the frozen parameters. ``frozen="nf4"`` holds the frozen matrices
    of the layers in 4 bits (QLoRA; needs the package qwix).
    """

    rank: int = not_negative(0)
    alpha: float = above_zero(16.0)
    targets: str = "(attn|mlp)/.*"
    dtype: str = choice("float32", "bfloat16", default="float32")
    frozen: str = choice("full", "nf4", default="full")


@dataclasses.dataclass(frozen=True)
class SplashConfig:
    """Blocks of the attention kernels for TPUs, in tokens: ``block_q`` queries, ``block_kv`` keys.

    Large blocks are faster, until a chip's vector memory is full; small ones skip more of what is
    hidden. With ``"splash"``, ``fused_backward`` computes the gradients of queries and of keys in
    one kernel, for less work and more memory: queries get a gradient per block of keys, summed
    afterwards.
    """

    block_q: int = positive(512)
    block_kv: int = positive(512)
    fused_backward: bool = False


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Architecture of a decoder of the LLaMA kind and how to compute it.

    Sizes come from a Hugging Face ``config.json`` (``models/registry.py``) or, for a model
    trained from scratch, from the ``model`` section of the run configuration.

    ``attention_bias`` names the projections of attention that add a bias; ``mlp_bias`` is about
    all three of the feed-forward layer. ``qk_norm`` normalises each head of queries and keys
    before it is rotated. ``sliding_windows`` has one entry per layer: a token sees itself and the
    ``window - 1`` tokens before it, with 0 all of them (empty: 0 everywhere).
    """

    vocab_size: int
    embed_dim: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    mlp_dim: int
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling = RopeScaling()
    norm_eps: float = 1e-5
    attention_bias: str = choice("none", "qkv", "qkvo", default="none")
    mlp_bias: bool = False
    qk_norm: bool = False
    sliding_windows: tuple[int, ...] = ()
    tie_embeddings: bool = False
    max_position: int = 2048
    dtype: str = choice("float32", "bfloat16", default="float32")
    param_dtype: str = choice("float32", "bfloat16", default="float32")
    remat: str = choice(
        *("none", "minimal", "dots", "qkv", "attention", "full", "attention_offload", "offload"),
        default="minimal",
    )
    unroll: int = positive(1)
    attention: str = choice(
        *("auto", "chunked", "dense", "tree", "splash", "cudnn"), default="auto"
    )
    splash: SplashConfig = SplashConfig()
    lora: LoraConfig = LoraConfig()
