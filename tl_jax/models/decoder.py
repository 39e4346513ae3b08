"""The decoder of all families: embedding, stacked layers, final norm, output projection."""

from __future__ import annotations

import jax
from flax import nnx

from tl_jax.config import ModelConfig
from tl_jax.models.heads import ValueHead
from tl_jax.models.layers import Block, Embedding, Linear, RMSNorm


class Decoder(nnx.Module):
    """Holds every parameter of the model; ``functional.py`` computes with it.

    The parameters of the layers are stacked: each has a leading axis of ``num_layers``.
    """

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs, *, value_head: bool = False):
        self.embed = Embedding(config, rngs)
        keys = jax.random.split(rngs.params(), config.num_layers)
        self.layers = jax.vmap(lambda key: Block(config, nnx.Rngs(params=key)))(keys)
        self.final_norm = RMSNorm(config, rngs)
        if not config.tie_embeddings:
            sizes = (config.embed_dim, config.vocab_size)
            self.lm_head = Linear(config, sizes, ("embed", "vocab"), rngs)
        if value_head:
            self.value_head = ValueHead(config.embed_dim, rngs)
