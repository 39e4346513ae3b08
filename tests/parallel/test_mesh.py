"""Mesh sizes (one may be left open, wrong ones are refused) and who starts the cluster."""

from types import SimpleNamespace

import jax
import pytest
from jax.sharding import AxisType

from tl_jax.config import MeshConfig
from tl_jax.errors import ConfigError
from tl_jax.parallel import mesh


@pytest.mark.parametrize(
    ("sizes", "devices", "expected"),
    [
        ((1, -1, 1), 8, (1, 8, 1, 1)),
        ((-1, 2, 2), 8, (2, 2, 2, 1)),
        ((2, 1, -1), 8, (2, 1, 4, 1)),
        ((2, 2, 2), 8, (2, 2, 2, 1)),
        ((2, 4, -1), 8, (2, 4, 1, 1)),
        ((1, -1, 1, 4), 8, (1, 2, 1, 4)),
        ((1, 2, 1, -1), 8, (1, 2, 1, 4)),
        ((1, -1, 1), 1, (1, 1, 1, 1)),
    ],
)
def test_an_open_size_takes_the_remaining_devices(sizes, devices, expected):
    names = ("data", "fsdp", "tensor", "sequence")
    found = mesh.resolve_sizes(MeshConfig(*sizes), devices)
    assert found == dict(zip(names, expected, strict=True)) and tuple(found) == mesh.AXES


@pytest.mark.parametrize("sizes", [(3, -1, 1), (2, 2, 1), (16, 1, 1), (4, 4, -1), (1, 2, 1, 3)])
def test_sizes_that_do_not_fit_the_devices_are_refused(sizes):
    with pytest.raises(
        ConfigError, match=r"data x fsdp x sequence x tensor = .* 8 dev.*config\.mesh"
    ):
        mesh.resolve_sizes(MeshConfig(*sizes), 8)


@pytest.mark.parametrize("sizes", [(-1, -1, 1), (0, -1, 1), (-2, 1, 1)])
def test_sizes_without_a_meaning_are_refused(sizes):
    with pytest.raises(ConfigError, match="must be positive, at most one -1"):
        mesh.resolve_sizes(MeshConfig(*sizes), 8)


def test_the_mesh_is_automatic_and_uses_the_devices_given():
    made = mesh.make_mesh(MeshConfig(2, -1, 1), jax.devices()[:4])
    assert dict(made.shape) == {"data": 2, "fsdp": 2, "sequence": 1, "tensor": 1}
    assert made.axis_types == (AxisType.Auto,) * 4
    assert set(made.devices.flat) == set(jax.devices()[:4])
    assert mesh.make_mesh(MeshConfig()).size == len(jax.devices())


CLUSTER = (
    "JAX_COORDINATOR_ADDRESS",
    "JAX_NUM_PROCESSES",
    "JAX_PROCESS_ID",
    "COORDINATOR_ADDRESS",
    "TPU_PROCESS_ADDRESSES",
    "TPU_WORKER_HOSTNAMES",
    "MEGASCALE_COORDINATOR_ADDRESS",
    "SLURM_JOB_ID",
    "SLURM_STEP_NODELIST",
    "OMPI_MCA_orte_hnp_uri",
    "TL_JAX_DISTRIBUTED",
)


@pytest.fixture
def connections(monkeypatch):
    """Run outside of any cluster and record how jax.distributed is started."""
    for name in CLUSTER:
        monkeypatch.delenv(name, raising=False)
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *arguments: calls.append(arguments))
    return calls


@pytest.mark.parametrize(("platform", "slices"), [("tpu", 2), ("gpu", 1), ("cpu", 1)])
def test_hosts_without_tpus_are_no_slices(platform, slices):
    devices = [SimpleNamespace(platform=platform, slice_index=host) for host in (0, 0, 1, 1)]
    assert mesh.count_slices(devices) == slices


def test_a_place_in_the_cluster_that_is_given_is_taken(monkeypatch, connections):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "127.0.0.1:4000")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "4")
    monkeypatch.setenv("JAX_PROCESS_ID", "0")
    mesh.start_distributed()
    assert connections == [("127.0.0.1:4000", 4, 0)]


@pytest.mark.parametrize("missing", CLUSTER[:3])
def test_half_a_place_in_the_cluster_is_refused_with_what_is_missing(
    monkeypatch, connections, missing
):
    for name, value in zip(CLUSTER[:3], ("127.0.0.1:4000", "4", "1"), strict=True):
        if name != missing:
            monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"set {missing}"):
        mesh.start_distributed()
    assert not connections


def test_a_place_that_is_no_number_is_refused(monkeypatch, connections):
    for name, value in zip(CLUSTER[:3], ("127.0.0.1:4000", "4", "first"), strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="JAX_PROCESS_ID=first must be a whole number"):
        mesh.start_distributed()
    assert not connections


@pytest.mark.parametrize(
    "variables",
    [
        {"JAX_COORDINATOR_ADDRESS": "host:1"},
        {"TPU_WORKER_HOSTNAMES": "host-0,host-1"},
        {"TPU_PROCESS_ADDRESSES": "host-0:8471,host-1:8471"},
        {"MEGASCALE_COORDINATOR_ADDRESS": "host"},
        {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "node[1-2]"},
        {"TL_JAX_DISTRIBUTED": "1"},
    ],
    ids=lambda variables: "+".join(variables),
)
def test_a_cluster_that_jax_knows_is_left_to_jax(monkeypatch, connections, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    mesh.start_distributed()
    assert connections == [()]


@pytest.mark.parametrize(
    "variables",
    [{}, {"TPU_WORKER_HOSTNAMES": "localhost"}, {"SLURM_JOB_ID": "7"}, {"TL_JAX_DISTRIBUTED": "0"}],
    ids=lambda variables: "+".join(variables) or "nothing",
)
def test_a_host_of_its_own_connects_to_nobody(monkeypatch, connections, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    mesh.start_distributed()
    assert not connections


def test_hosts_of_a_slice_that_do_not_know_each_other_are_refused(monkeypatch, connections):
    monkeypatch.setattr(jax, "process_count", lambda: 4)
    with pytest.raises(ConfigError, match="one of 4 hosts.*TL_JAX_DISTRIBUTED=1"):
        mesh.start_distributed()
