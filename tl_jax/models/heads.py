"""The value head of reward training."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from tl_jax.models.layers import declare

_zeros = nnx.initializers.zeros_init()


class ValueHead(nnx.Module):
    """Predict the return at each token; zero at first, so that it starts without bias."""

    def __init__(self, embed_dim: int, rngs: nnx.Rngs):
        self.kernel = declare(rngs, (embed_dim, 1), ("embed", None), _zeros, "float32")
        self.bias = declare(rngs, (1,), (None,), _zeros, "float32")

    def __call__(self, hidden_BTD: jax.Array) -> jax.Array:
        return (hidden_BTD.astype(jnp.float32) @ self.kernel[...] + self.bias[...])[..., 0]
