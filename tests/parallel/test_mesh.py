"""Mesh sizes: one may be left open, and wrong ones are refused with the setting to change."""

import jax
import pytest
from jax.sharding import AxisType

from tl_jax.config import ConfigError, MeshConfig
from tl_jax.parallel import mesh


@pytest.mark.parametrize(
    ("sizes", "devices", "expected"),
    [
        ((1, -1, 1), 8, (1, 8, 1)),
        ((-1, 2, 2), 8, (2, 2, 2)),
        ((2, 1, -1), 8, (2, 1, 4)),
        ((2, 2, 2), 8, (2, 2, 2)),
        ((2, 4, -1), 8, (2, 4, 1)),
        ((1, -1, 1), 1, (1, 1, 1)),
    ],
)
def test_an_open_size_takes_the_remaining_devices(sizes, devices, expected):
    assert mesh.resolve_sizes(MeshConfig(*sizes), devices) == expected


@pytest.mark.parametrize("sizes", [(3, -1, 1), (2, 2, 1), (16, 1, 1), (4, 4, -1)])
def test_sizes_that_do_not_fit_the_devices_are_refused(sizes):
    with pytest.raises(ConfigError, match=r"data x fsdp x tensor = .* 8 devices.*config\.mesh"):
        mesh.resolve_sizes(MeshConfig(*sizes), 8)


@pytest.mark.parametrize("sizes", [(-1, -1, 1), (0, -1, 1), (-2, 1, 1)])
def test_sizes_without_a_meaning_are_refused(sizes):
    with pytest.raises(ConfigError, match="must be positive, at most one -1"):
        mesh.resolve_sizes(MeshConfig(*sizes), 8)


def test_the_mesh_is_automatic_and_uses_the_devices_given():
    made = mesh.make_mesh(MeshConfig(2, -1, 1), jax.devices()[:4])
    assert dict(made.shape) == {"data": 2, "fsdp": 2, "tensor": 1}
    assert made.axis_types == (AxisType.Auto,) * 3
    assert set(made.devices.flat) == set(jax.devices()[:4])
    assert mesh.make_mesh(MeshConfig()).size == len(jax.devices())
