"""Each policy of rematerialisation keeps what it names, and no more."""

import dataclasses
import math

import jax
import numpy as np

from tl_jax.config import ModelConfig
from tl_jax.models import functional, remat
from tl_jax.types import Batch

MODEL = ModelConfig(
    vocab_size=11, embed_dim=8, num_layers=3, num_heads=4, num_kv_heads=2, head_dim=6, mlp_dim=20
)
B, T = 2, 5


def kept(policy):
    """How many numbers the forward pass leaves for the backward pass."""
    model = dataclasses.replace(MODEL, remat=policy)
    rows = np.zeros((B, T), np.int32)
    batch = Batch(rows, rows, rows.astype(np.float32), rows, rows)

    def run(params):
        return jax.vjp(lambda p: functional.hidden_states(p, batch, model), params)[1]

    params = jax.tree.map(
        lambda info: jax.ShapeDtypeStruct(info.shape, info.dtype),
        functional.abstract_params(model),
        is_leaf=lambda leaf: hasattr(leaf, "axes"),
    )
    left = jax.eval_shape(run, params)
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(left))


def test_each_policy_keeps_what_it_names_and_no_more():
    least = kept("full")
    q, kv, mlp, embed = 4 * 6, 2 * 6, 20, 8
    matrices = q + 2 * kv + embed + 2 * mlp + embed
    per_token = B * T * MODEL.num_layers
    sizes = {name: (kept(name) - least) / per_token for name in remat.KEPT}
    assert sizes.pop("full") == 0
    assert sizes.pop("attention") == q
    assert sizes.pop("qkv") == q + q + 2 * kv
    # Nothing of the layer is computed from the output of its last matrix.
    assert sizes.pop("dots") == matrices - embed
    assert sizes.pop("minimal") == matrices - embed + q
    assert not sizes and kept("none") - least > (matrices + q) * per_token
