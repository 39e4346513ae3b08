"""Two processes that hold halves of the parameters write one model, the first of them alone."""

import os
import socket
import subprocess
import sys

import jax
import pytest
from safetensors.numpy import load_file

from tl_jax.config import ModelConfig
from tl_jax.convert import to_hf
from tl_jax.models import functional

CONFIG = ModelConfig(64, 32, 2, 4, 2, 8, 48)

PROGRAM = """
import sys
import jax
from tl_jax.config import MeshConfig
from tl_jax.convert import from_hf, hf_directory, to_hf
from tl_jax.convert.hf_directory import CheckpointError
from tl_jax.parallel.mesh import make_mesh, start_distributed

start_distributed()
source, target = sys.argv[1:]
params = from_hf.load(source, make_mesh(MeshConfig(data=1, fsdp=2, tensor=1)))
assert not params["layers"]["mlp"]["up"]["kernel"].is_fully_addressable
told = []
to_hf.save(params, target, source=source, on_tensor=lambda *now: told.append(now))
assert bool(told) == (jax.process_index() == 0)
try:
    to_hf.save(params, target, source=source)
except CheckpointError as error:
    print(error)
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "hf"
    to_hf.save(functional.init(CONFIG, jax.random.key(0)), path, config=CONFIG)
    return path


def test_the_first_process_writes_what_all_hold_together(source, tmp_path):
    shared = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "XLA_FLAGS": "",
        "JAX_NUM_CPU_DEVICES": "1",
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}",
        "JAX_NUM_PROCESSES": "2",
    }
    command = [sys.executable, "-c", PROGRAM, str(source), str(tmp_path / "out")]
    running = [
        subprocess.Popen(
            command,
            env={**shared, "JAX_PROCESS_ID": str(index)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    try:
        ended = [process.communicate(timeout=500) for process in running]
    finally:
        for process in running:
            process.kill()
    for process, (_, errors) in zip(running, ended, strict=True):
        assert process.returncode == 0, errors
    assert "already exists" in ended[0][0]
    assert "the first process cannot write there" in ended[1][0]
    first, again = (load_file(path / "model.safetensors") for path in (source, tmp_path / "out"))
    assert first.keys() == again.keys()
    assert all(first[name].tobytes() == again[name].tobytes() for name in first)
    assert {file.name for file in source.iterdir()} == {
        file.name for file in (tmp_path / "out").iterdir()
    }
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
