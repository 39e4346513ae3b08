"""Arrays move between the two memories of a device and stay what they are."""

import jax
import numpy as np
from jax.sharding import NamedSharding

from tl_jax.config import MeshConfig
from tl_jax.parallel import memory
from tl_jax.parallel.mesh import make_mesh


def sharded():
    where = NamedSharding(make_mesh(MeshConfig()), jax.P("fsdp"))
    return {"x": jax.device_put(np.arange(32.0), where), "name": "not an array"}


def test_an_array_keeps_values_and_sharding_in_the_memory_of_the_host_and_back():
    tree = sharded()
    there = memory.held_in(memory.HOST, tree)
    back = memory.held_in(memory.DEVICE, there)
    assert there["x"].sharding.memory_kind == memory.HOST
    assert there["x"].sharding.spec == tree["x"].sharding.spec
    assert back["x"].sharding == tree["x"].sharding
    for found in (there, back):
        np.testing.assert_array_equal(found["x"], tree["x"])
        assert found["name"] == tree["name"]


def test_what_lies_there_already_is_not_copied():
    tree = sharded()
    there = memory.held_in(memory.HOST, tree)
    assert memory.held_in(memory.DEVICE, tree)["x"] is tree["x"]
    assert memory.offloaded(there)["x"] is there["x"] and not there["x"].is_deleted()


def test_what_is_evicted_is_on_the_device_no_more():
    tree = {"x": sharded()["x"]}
    values = np.asarray(tree["x"])
    there = memory.offloaded(tree)
    assert tree["x"].is_deleted() and there["x"].sharding.memory_kind == memory.HOST
    np.testing.assert_array_equal(there["x"], values)
