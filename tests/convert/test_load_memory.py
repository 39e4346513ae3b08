"""Loading a large checkpoint takes the memory of its parameters and little more."""

import json
import math
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tl_jax.config import ModelConfig
from tl_jax.convert import names
from tl_jax.models import functional, registry

MIB = 1024**2
# 512 MiB of float32 in four files; the largest parameters are the three of the MLP.
CONFIG = ModelConfig(
    vocab_size=8192,
    embed_dim=1024,
    num_layers=12,
    num_heads=16,
    num_kv_heads=16,
    head_dim=64,
    mlp_dim=2048,
    tie_embeddings=True,
)
LARGEST = 12 * 1024 * 2048 * 4

PROGRAM = """
import json, sys
import jax
from tl_jax.config import MeshConfig
from tl_jax.convert import from_hf, hf_directory
from tl_jax.parallel.mesh import make_mesh

mesh = make_mesh(MeshConfig(data=1, fsdp=4, tensor=2))
jax.block_until_ready(jax.numpy.zeros(8))
parts = []
read = hf_directory.TensorFiles.read

def count(self, name, index):
    block = read(self, name, index)
    spans = [part.indices(size)[:2] for part, size in zip(index, self.shape(name))]
    parts.append((name, spans, block.nbytes))
    return block

hf_directory.TensorFiles.read = count

def memory(name):
    # Of this process alone: what getrusage says also counts the process that started it.
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name)) * 1024

before = memory("VmRSS:")
params = jax.block_until_ready(from_hf.load(sys.argv[1], mesh))
peak = memory("VmHWM:")
first = params["layers"]["attn_norm"]["scale"][:, 0].tolist()
print(json.dumps({"added": peak - before, "parts": parts, "first": first}))
"""


def tensors():
    declared = names.flatten(functional.abstract_params(CONFIG))
    return names.tensors({path: info.shape for path, info in declared})


def write_sparse(directory):
    """Write a checkpoint of holes, which takes no space; layer ``i`` has an ``i`` in a norm."""
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(registry.to_hf_config(CONFIG)))
    files = {}
    for number in range(4):
        entries, end, marks = {}, 0, {}
        for name, tensor in tensors().items():
            if (tensor.layer or 0) % 4 == number:
                start, end = end, end + 4 * math.prod(tensor.shape)
                place = {"shape": tensor.shape, "data_offsets": [start, end]}
                entries[name] = {"dtype": "F32", **place}
                files[name] = f"part{number}.safetensors"
                if name.endswith("input_layernorm.weight"):
                    marks[start] = tensor.layer
        header = json.dumps(entries).encode()
        header += b" " * (-len(header) % 8)
        with (directory / f"part{number}.safetensors").open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            data = file.tell()
            file.truncate(data + end)
            for start, layer in marks.items():
                file.seek(data + start)
                file.write(struct.pack("<f", layer))
    index = {"metadata": {}, "weight_map": files}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to measure memory")
def test_half_a_gigabyte_is_read_once_and_held_once(tmp_path):
    write_sparse(tmp_path / "m")
    sizes = {name: 4 * math.prod(tensor.shape) for name, tensor in tensors().items()}
    assert 512 * MIB < sum(sizes.values()) < 513 * MIB
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "m")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["first"] == list(range(CONFIG.num_layers))
    parts = [(name, json.dumps(spans)) for name, spans, _ in found["parts"]]
    assert len(set(parts)) == len(parts)
    read = dict.fromkeys(sizes, 0)
    for name, _, size in found["parts"]:
        read[name] += size
    assert read == sizes
    extra = found["added"] - sum(sizes.values())
    assert extra < LARGEST + 64 * MIB, f"{extra / MIB:.0f} MiB beyond the parameters"
