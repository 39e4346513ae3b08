"""Layouts follow from logical axes; what cannot be laid out is named."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from tl_jax.config import MeshConfig, ModelConfig
from tl_jax.errors import ConfigError
from tl_jax.models import functional
from tl_jax.parallel import sharding
from tl_jax.parallel.mesh import make_mesh, make_sampling_mesh

MODEL = ModelConfig(
    vocab_size=64, embed_dim=32, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8, mlp_dim=64
)


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(MeshConfig(2, 2, 2))


def test_logical_axes_become_mesh_axes():
    assert sharding.spec(("layers", "embed", "mlp")) == P(None, ("fsdp", "sequence"), "tensor")
    assert sharding.spec(("batch", "length", None)) == P(("data", "fsdp"), "sequence", None)


@pytest.mark.parametrize(
    ("axes", "mesh_axis"),
    [
        (("vocab", "mlp"), "tensor"),
        (("embed", "embed"), "fsdp"),
        (("batch", "embed"), "fsdp"),
        (("length", "embed"), "sequence"),
        (("act_heads", "act_mlp"), "tensor"),
    ],
)
def test_two_axes_on_one_mesh_axis_are_refused(axes, mesh_axis):
    with pytest.raises(ValueError, match=f"'{axes[0]}'.*use mesh axis '{mesh_axis}' twice"):
        sharding.spec(axes)


def test_an_unknown_axis_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown logical axis 'embde'; known: vocab, embed"):
        sharding.spec(("embde",))


def test_every_parameter_gets_the_layout_of_its_declaration(mesh):
    declared = functional.abstract_params(MODEL, value_head=True)
    layout = sharding.param_shardings(declared, mesh)
    assert layout["layers"]["mlp"]["down"]["kernel"].spec == P(None, "tensor", ("fsdp", "sequence"))
    assert layout["embed"]["embedding"].spec == P("tensor", ("fsdp", "sequence"))
    assert layout["final_norm"]["scale"].spec == P(None)
    count = len(jax.tree.leaves(declared, is_leaf=lambda x: hasattr(x, "axes")))
    assert len(jax.tree.leaves(layout)) == count
    # Only small vectors are held whole by every device.
    for path, one in jax.tree_util.tree_leaves_with_path(layout):
        if one.is_fully_replicated:
            assert path[-1].key in ("scale", "bias")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"vocab_size": 63}, ("embedding", "'vocab'", "63", "'tensor'")),
        ({"embed_dim": 31}, ("embed", "31", "'fsdp'")),
        ({"mlp_dim": 33}, ("mlp", "33", "'tensor'")),
    ],
)
def test_a_dimension_that_does_not_divide_is_named(mesh, change, words):
    declared = functional.abstract_params(dataclasses.replace(MODEL, **change))
    with pytest.raises(ConfigError, match="is not divisible by mesh axis") as caught:
        sharding.param_shardings(declared, mesh)
    for word in (*words, "size 2", "config.mesh"):
        assert word in str(caught.value)


def test_rows_whose_tokens_do_not_divide_are_named(mesh):
    sharding.check_length(30, "config.data.max_length", mesh.shape)
    words = "config.data.max_length = 30 tokens .* mesh axis 'sequence' of size 4"
    with pytest.raises(ConfigError, match=words):
        sharding.check_length(30, "config.data.max_length", {"sequence": 4})


def test_rows_of_a_batch_lie_over_data_and_fsdp(mesh):
    placed = jax.device_put(np.zeros((8, 6)), sharding.batch_sharding(mesh))
    assert {shard.data.shape for shard in placed.addressable_shards} == {(2, 6)}
    whole = jax.device_put(np.zeros((8, 6)), sharding.replicated(mesh))
    assert whole.is_fully_replicated
    shared = sharding.batch_sharding(make_mesh(MeshConfig(1, 2, 1, 4)))
    placed = jax.device_put(np.zeros((8, 12)), shared)
    assert {shard.data.shape for shard in placed.addressable_shards} == {(4, 3)}
    # A process reads whole rows, of which it places its own tokens.
    assert sharding.own_rows(shared, 8).tolist() == list(range(8))


def test_a_hint_without_a_mesh_is_no_operation():
    x = jnp.ones((4, 4))
    assert sharding.constrain(x, "batch", "act_embed") is x
    assert not jax.make_jaxpr(lambda a: sharding.constrain(a, "batch", "act_mlp"))(x).eqns


def test_a_hint_within_a_mesh_decides_the_layout(mesh):
    with jax.set_mesh(mesh):
        out = jax.jit(lambda a: sharding.constrain(a * 1, "batch", "act_mlp"))(jnp.ones((4, 4)))
    expected = NamedSharding(mesh, P(("data", "fsdp"), "tensor"))
    assert out.sharding.is_equivalent_to(expected, 2)


def test_parameters_move_to_the_mesh_of_sampling_by_one_program(mesh):
    """There every device keeps its part of each matrix, and none has to be gathered."""
    declared = functional.abstract_params(dataclasses.replace(MODEL, num_kv_heads=4))
    layout = sharding.param_shardings(declared, mesh)
    keys = iter(range(100))
    params = jax.tree.map(
        lambda info, where: jax.device_put(np.full(info.shape, next(keys), np.float32), where),
        *(declared, layout),
        is_leaf=lambda x: hasattr(x, "axes"),
    )
    other = make_sampling_mesh(mesh, 4)
    sharding._mover.cache_clear()
    for _ in range(2):
        found = sharding.moved(params, other)
    assert sharding._mover.cache_info().misses == 1
    assert dict(other.shape) == {"data": 2, "fsdp": 1, "sequence": 1, "tensor": 4}
    assert list(other.devices.flat) == list(mesh.devices.flat)
    assert jax.tree.map(lambda x: x.sharding, found) == sharding.param_shardings(declared, other)
    jax.tree.map(np.testing.assert_array_equal, found, params)
    up = found["layers"]["mlp"]["up"]["kernel"]
    assert {shard.data.shape for shard in up.addressable_shards} == {(2, 32, 16)}
    assert sharding.moved(found, other) is found


def test_devices_that_share_a_row_keep_their_parameters_when_text_is_sampled():
    mesh = make_mesh(MeshConfig(1, 2, 2, 2))
    other = make_sampling_mesh(mesh, 0)
    assert dict(other.shape) == {"data": 1, "fsdp": 4, "sequence": 1, "tensor": 2}
    layout = sharding.param_shardings(functional.abstract_params(MODEL), mesh)["embed"]
    params = jax.device_put({"embedding": np.arange(64.0 * 32).reshape(64, 32)}, layout)
    found = sharding.moved(params, other)["embedding"]
    assert found.sharding.mesh == other
    np.testing.assert_array_equal(found, params["embedding"])
    for old, new in zip(
        params["embedding"].addressable_shards, found.addressable_shards, strict=True
    ):
        assert old.data.unsafe_buffer_pointer() == new.data.unsafe_buffer_pointer()
    assert make_sampling_mesh(other, 0) == other


def test_a_mesh_of_sampling_that_does_not_fit_is_refused(mesh):
    with pytest.raises(ConfigError, match="sampling_tensor 3 does not divide 8 devices"):
        make_sampling_mesh(mesh, 3)
