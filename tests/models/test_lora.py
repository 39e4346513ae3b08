"""Adapters: which matrices have one, what they add, and what of the model is trained."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec as P

from tl_jax.config import LoraConfig, MeshConfig, ModelConfig, ModelSourceConfig, RunConfig
from tl_jax.convert import names
from tl_jax.errors import ConfigError
from tl_jax.models import critic, functional, layers, lora
from tl_jax.parallel import sharding
from tl_jax.parallel.mesh import make_mesh
from tl_jax.types import Batch

BASE = ModelConfig(
    vocab_size=64,
    embed_dim=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    mlp_dim=48,
    attention_bias="qkv",
)
LORA = LoraConfig(rank=3, alpha=6.0, targets="attn/(q|k|v)|mlp/down")
MODEL = dataclasses.replace(BASE, lora=LORA)
ADAPTED = {("attn", "q"), ("attn", "k"), ("attn", "v"), ("mlp", "down")}

IDS = np.random.default_rng(0).integers(1, 64, (2, 9)).astype(np.int32)
ROWS = Batch(IDS, IDS, IDS, np.tile(np.arange(9, dtype=np.int32), (2, 1)), np.ones_like(IDS))


@pytest.fixture(scope="module")
def fresh():
    """A model with new adapters."""
    return jax.jit(lambda key: functional.init(MODEL, key))(jax.random.key(0))


@pytest.fixture(scope="module")
def params(fresh):
    """A model whose adapters have an effect."""
    rng = np.random.default_rng(1)
    moved = {
        path: rng.normal(size=leaf.shape).astype(np.float32) if path[-1] == lora.B else leaf
        for path, leaf in names.flatten(fresh)
    }
    return names.unflatten(moved)


def apply(params, model):
    return np.asarray(jax.jit(functional.apply, static_argnums=2)(params, ROWS, model))


def test_new_adapters_change_no_logit(fresh):
    trained, frozen = lora.split(fresh, LORA)
    assert all(np.any(leaf) for path, leaf in names.flatten(trained) if path[-1] == lora.A)
    np.testing.assert_array_equal(apply(fresh, MODEL), apply(frozen, BASE))


def test_first_factors_are_spread_as_in_peft():
    wide = dataclasses.replace(MODEL, lora=dataclasses.replace(LORA, rank=50))
    linear = layers.Linear(wide, (400, 1), (None, None), nnx.Rngs(params=0), path="attn/q")
    values = np.asarray(linear.lora_a[...])
    # Uniform within 1 / sqrt(in).
    assert 0.99 * 0.05 < np.abs(values).max() <= 0.05
    assert np.std(values) == pytest.approx(0.05 / np.sqrt(3), rel=0.02)


def test_an_adapted_model_is_the_one_with_merged_kernels(params):
    merged = names.unflatten(merged_leaves(params))
    np.testing.assert_allclose(apply(params, MODEL), apply(merged, BASE), atol=2e-4)
    assert np.abs(apply(params, MODEL) - apply(lora.split(params, LORA)[1], BASE)).max() > 0.1


def merged_leaves(params):
    leaves = dict(names.flatten(params))
    found = {path: leaf for path, leaf in leaves.items() if path[-1] not in (lora.A, lora.B)}
    for path in [path for path in leaves if path[-1] == lora.A]:
        kernel = (*path[:-1], "kernel")
        stacks = zip(leaves[kernel], leaves[path], leaves[(*path[:-1], lora.B)], strict=True)
        found[kernel] = np.stack([lora.merged_kernel(*matrices, LORA) for matrices in stacks])
    return found


def test_the_effect_grows_with_alpha_over_rank(params):
    for alpha, rank in ((12.0, 3), (3.0, 3)):
        config = LoraConfig(rank=rank, alpha=alpha)
        one = lora.merged_kernel(np.zeros((4, 5)), np.ones((4, rank)), np.ones((rank, 5)), config)
        np.testing.assert_array_equal(one, np.full((4, 5), alpha, np.float32))


def test_the_targeted_matrices_have_adapters_and_nothing_else_is_trained(params):
    trained, frozen = lora.split(params, LORA)
    found = {path for path, _ in names.flatten(trained)}
    assert found == {
        ("layers", *module, factor) for module in ADAPTED for factor in (lora.A, lora.B)
    }
    declared = functional.abstract_params(BASE)
    assert {path for path, _ in names.flatten(frozen)} == {
        path for path, _ in names.flatten(declared)
    }
    whole = dict(names.flatten(lora.joined(trained, frozen)))
    assert all(whole.pop(path) is leaf for path, leaf in names.flatten(params)) and not whole
    assert lora.split(params, LoraConfig()) == (params, {})


def test_a_separate_critic_has_adapters_of_its_own_on_the_same_frozen_trunk(params):
    declared = critic.abstract_params(MODEL, separate=True)
    trained, frozen = lora.split(declared, LORA)
    assert trained.keys() == {"layers", critic.HEAD, critic.TRUNK}
    assert trained[critic.TRUNK] == {"layers": trained["layers"]}
    shared = critic.with_trunk(lora.split(params, LORA)[1], separate=True)
    assert jax.tree.structure(shared) == jax.tree.structure(
        frozen, is_leaf=lambda leaf: hasattr(leaf, "axes")
    )
    kernel = shared["layers"]["attn"]["q"]["kernel"]
    assert shared[critic.TRUNK]["layers"]["attn"]["q"]["kernel"] is kernel


def test_factors_lie_as_the_sides_of_their_matrix():
    mesh = make_mesh(MeshConfig(2, 2, 2))
    placed = sharding.param_shardings(functional.abstract_params(MODEL), mesh)
    for path in ADAPTED:
        module = placed["layers"][path[0]][path[1]]
        layers, first, second = module["kernel"].spec
        assert module[lora.A].spec == P(layers, first, None)
        assert module[lora.B].spec == P(layers, None, second)


def test_factors_have_a_type_of_their_own():
    half = dataclasses.replace(MODEL, param_dtype="bfloat16")
    trained, frozen = lora.split(functional.abstract_params(half), LORA)
    assert {str(leaf.dtype) for _, leaf in names.flatten(trained)} == {"float32"}
    assert {str(leaf.dtype) for _, leaf in names.flatten(frozen)} == {"bfloat16"}


def test_adapters_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match=r"targets 'attn/q_proj' matches none of attn/q, attn/k"):
        lora.check(RunConfig(lora=LoraConfig(rank=2, targets="attn/q_proj")))
    with pytest.raises(ConfigError, match=r"targets '\(attn': missing"):
        lora.check(RunConfig(lora=LoraConfig(rank=2, targets="(attn")))
    with pytest.raises(ConfigError, match="adapter is read with config.lora.rank above 0 only"):
        lora.check(RunConfig(model=ModelSourceConfig(adapter="somewhere")))
    lora.check(RunConfig(lora=LORA, model=ModelSourceConfig(adapter="somewhere")))
