"""Memory that computations on the CPU free stays with the process."""

import importlib.util
import os
import subprocess
import sys
import types

import pytest

from tl_jax.parallel import host_memory

PROGRAM = """
import resource, sys
from tl_jax.parallel import host_memory

kept = host_memory.keep_freed() if sys.argv[1] == "kept" else None
import jax, jax.numpy as jnp

# The inner product is scratch memory of 64 MiB.
program = jax.jit(lambda x: jnp.tanh(x @ x.T) @ x)
x = jnp.ones((4096, 8))
# What other threads ask for meanwhile may split a block that is kept; after some runs there are
# enough of them.
for _ in range(30):
    program(x).block_until_ready()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    program(x).block_until_ready()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="about the C library of Linux")
def test_a_program_that_runs_again_finds_its_scratch_memory():
    faults = {}
    for mode in ("kept", "default"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, mode], capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        said, count = done.stdout.split()
        faults[mode] = int(count)
        if mode == "kept" and said != "True":
            pytest.skip("another C library")
    # 64 MiB are 16384 pages of 4 KiB, in each of ten runs.
    assert faults["default"] > 100_000
    assert faults["kept"] < 40_000


SPLIT = """
import ctypes
from tl_jax.parallel import host_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20

kept = host_memory.keep_freed()
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
before = resident()
large = []
for _ in range(16):
    large.append(library.malloc(ctypes.c_size_t(2**23)))
    library.malloc(ctypes.c_size_t(100))  # stays, so that the large ones do not become one
    ctypes.memset(ctypes.c_void_p(large[-1]), 1, 2**23)
for block in large:
    library.free(ctypes.c_void_p(block))
freed = resident() - before
little, much = host_memory.give_back(0.9), host_memory.give_back(0.0)
print(kept, freed, little, much / 2**20, resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="about the C library of Linux")
def test_freed_memory_goes_back_once_too_much_of_it_is_kept():
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", SPLIT], capture_output=True, text=True, timeout=300, env=environment
    )
    assert done.returncode == 0, done.stderr
    kept, freed, little, much, left = done.stdout.split()
    if kept != "True":
        pytest.skip("another C library")
    assert float(freed) > 120  # MiB, of 128
    assert int(little) == 0
    assert float(much) > 120 and float(left) < 8


@pytest.mark.skipif(sys.platform != "linux", reason="about the C library of Linux")
def test_a_plugin_for_other_devices_counts_unless_only_the_cpu_is_asked_for(monkeypatch):
    asked = []
    library = types.SimpleNamespace(
        mallopt=lambda name, value: asked.append(name) or 1, gnu_get_libc_version=lambda: b"2.36"
    )
    monkeypatch.setattr(host_memory.ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "libtpu" or None)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    assert not host_memory.keep_freed() and not asked
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert host_memory.keep_freed() and asked
