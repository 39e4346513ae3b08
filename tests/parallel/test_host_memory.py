"""Memory that computations on the CPU free stays with the process."""

import subprocess
import sys

import pytest

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
            pytest.skip("another C library, or a plugin for other devices")
    # 64 MiB are 16384 pages of 4 KiB, in each of ten runs.
    assert faults["default"] > 100_000
    assert faults["kept"] < 40_000
