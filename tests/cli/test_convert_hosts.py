"""Two processes that hold halves of the parameters export one model, the first of them alone."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

PROGRAM = """
import dataclasses, io, sys
import jax
from rich.console import Console
from tl_jax.cli import convert
from tl_jax.run.directory import Run
from tl_jax.config import LoraConfig, MeshConfig, ModelSourceConfig
from tl_jax.config import PpoConfig, RunConfig, TrainConfig
from tl_jax.convert import to_hf
from tl_jax.errors import ModelError
from tl_jax.parallel.mesh import start_distributed
from tl_jax.config.fields import ConfigError
from tl_jax.run.checkpoint import Checkpoints

start_distributed()
source, run_dir = sys.argv[1:]
model = ModelSourceConfig(path=source)
workspace = Run(RunConfig(run_dir, model=model, mesh=MeshConfig(data=1, fsdp=2, tensor=1)))
with jax.set_mesh(workspace.mesh):
    trained = jax.jit(lambda tree: jax.tree.map(lambda x: 2 * x, tree))(workspace.params("before"))
    assert not trained["layers"]["mlp"]["up"]["kernel"].is_fully_addressable
    with Checkpoints(workspace.checkpoint_dir("supervised"), 1, 1) as checkpoints:
        checkpoints.save(1, {"params": trained}, None, {}, force=True)
console = Console(file=io.StringIO(), soft_wrap=True)
convert.main(workspace, console, **dataclasses.asdict(convert.Request()))
assert ("written:" in console.file.getvalue()) == (jax.process_index() == 0)
refusals = []
try:
    convert.main(workspace, console, **dataclasses.asdict(convert.Request()))
except ConfigError as error:
    refusals.append(str(error))
try:
    to_hf.save(trained, workspace.export_dir, source=source)
except ModelError as error:
    refusals.append(str(error))
print(refusals)
adapted = Run(
    RunConfig(
        run_dir + "-lora",
        model=model,
        lora=LoraConfig(rank=2),
        mesh=workspace.config.mesh,
        train=TrainConfig(steps=0),
        ppo=PpoConfig(steps=0),
    )
)
convert.main(adapted, console, **dataclasses.asdict(convert.Request(adapter=True)))
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
def test_the_first_process_writes_what_all_hold_together(model_dir, tmp_path):
    shared = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "XLA_FLAGS": "",
        "JAX_NUM_CPU_DEVICES": "1",
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}",
        "JAX_NUM_PROCESSES": "2",
    }
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(model_dir), str(tmp_path / "run")],
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
    for output, _ in ended:
        assert "export exists; give another --target" in output
    assert "already exists" in ended[0][0]
    assert "the first process cannot write there" in ended[1][0]
    export = tmp_path / "run" / "export"
    before, after = (load_file(path / "model.safetensors") for path in (model_dir, export))
    assert before.keys() == after.keys()
    assert all(np.array_equal(after[name], 2 * before[name]) for name in before)
    adapter = tmp_path / "run-lora" / "adapter"
    factors = load_file(adapter / "adapter_model.safetensors")
    assert sum("lora_A" in name for name in factors) == len(factors) / 2 > 0
    assert all(np.any(factors[name]) == ("lora_A" in name) for name in factors)
    assert (adapter / "tokenizer.json").exists() and (adapter / "README.md").exists()
    names = {file.name for file in export.iterdir()}
    assert names == {file.name for file in model_dir.iterdir()} | {"README.md"}
    assert {path.name for path in export.parent.iterdir()} == {"checkpoints", "export"}
