"""Each policy of rematerialisation keeps what it names, where it says, and no more."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Primitive

from tl_jax.config import ModelConfig
from tl_jax.models import functional, remat
from tl_jax.ops import cudnn, kernels
from tl_jax.types import Batch

MODEL = ModelConfig(
    vocab_size=11, embed_dim=8, num_layers=3, num_heads=4, num_kv_heads=2, head_dim=6, mlp_dim=20
)
B, T = 2, 5


def kept(policy):
    """How many numbers the forward pass leaves on the device, and how many on its host."""
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
    left = jax.make_jaxpr(run)(params).out_avals
    there = [leaf for leaf in left if leaf.memory_space == jax.memory.Space.Host]
    sizes = [sum(math.prod(leaf.shape) for leaf in leaves) for leaves in (left, there)]
    return sizes[0] - sizes[1], sizes[1]


def test_each_policy_keeps_what_it_names_and_no_more():
    least, _ = kept("full")
    q, kv, mlp, embed = 4 * 6, 2 * 6, 20, 8
    attended = q + 4  # and each head's norm of the softmax
    matrices = q + 2 * kv + embed + 2 * mlp + embed
    per_token = B * T * MODEL.num_layers
    sizes = {name: (kept(name)[0] - least) / per_token for name in remat.KEPT}
    assert sizes.pop("full") == 0
    # The input of each layer, too, is not on the device.
    assert sizes.pop("offload") == sizes.pop("attention_offload") == -embed
    assert sizes.pop("attention") == attended
    assert sizes.pop("qkv") == attended + q + 2 * kv
    # Nothing of the layer is computed from the output of its last matrix.
    assert sizes.pop("dots") == matrices - embed
    assert sizes.pop("minimal") == matrices - embed + attended
    assert not sizes and kept("none")[0] - least > (matrices + q) * per_token
    there = {name: kept(name)[1] / per_token for name in remat.KEPT}
    assert there.pop("offload") == embed
    assert there.pop("attention_offload") == embed + attended
    assert not any(there.values())


@pytest.mark.parametrize("policy", remat.KEPT)
def test_what_is_counted_is_what_is_kept_but_for_norms_and_the_last_output(policy):
    per_token = B * T * MODEL.num_layers
    least = kept("full")[0] - MODEL.embed_dim * per_token
    names = {*remat.KEPT[policy]}
    here, there = remat.widths(dataclasses.replace(MODEL, remat=policy))
    norms = MODEL.num_heads if kernels.SAVED in names else 0
    norms_there = norms if kernels.SAVED in remat.OFFLOADED.get(policy, ()) else 0
    last = MODEL.embed_dim if "mlp/down" in names else 0
    found = kept(policy)
    assert (found[0] - least) / per_token == here - last + norms - norms_there
    assert found[1] / per_token == there + norms_there


@pytest.mark.parametrize("policy", remat.KEPT)
def test_cudnn_attends_once_where_the_output_of_attention_is_kept(policy):
    """A stand-in with the name of JAX's primitive, which wants an NVIDIA GPU to be traced."""
    stand_in = Primitive(cudnn.PRIMITIVE)
    stand_in.def_abstract_eval(lambda x: x)

    @jax.custom_vjp
    def attend(x):
        return stand_in.bind(x)

    def forward(x):
        out = stand_in.bind(x)
        return out, out

    attend.defvjp(forward, lambda out, grad: (grad * out,))

    def layer(x):
        return jnp.sin(attend(jnp.sin(x)))

    gradient = jax.grad(lambda x: remat.rematerialised(layer, policy)(x))
    times = str(jax.make_jaxpr(gradient)(1.0)).count(f"= {cudnn.PRIMITIVE}")
    assert times == (1 if kernels.SAVED in remat.KEPT[policy] else 2)
