"""Start a Python program as several processes that are one cluster, over gloo on the CPU."""

import os
import socket
import subprocess
import sys

from xla_flags import compile_flags

from tl_jax.config import ModelSourceConfig

MODEL = ModelSourceConfig(
    path="scratch",
    scratch_vocab_size=300,
    scratch_embed_dim=16,
    scratch_num_layers=1,
    scratch_num_heads=2,
    scratch_num_kv_heads=1,
    scratch_mlp_dim=32,
)
"""The smallest that trains."""

BEGIN = """
import functools, json, sys
import jax
from absl import flags
flags.FLAGS.mark_as_parsed()
# A machine under load may stop for minutes.
jax.distributed.initialize = functools.partial(
    jax.distributed.initialize, heartbeat_timeout_seconds=3600, shutdown_timeout_seconds=600
)
from tl_jax.config import RunConfig
from tl_jax.run.directory import Run
from tl_jax.parallel.mesh import start_distributed
from tl_jax.config.fields import from_dict

start_distributed()
workspace = Run(from_dict(RunConfig, json.loads(sys.argv[1])))
"""
"""Opens the run whose settings are the first argument, as JSON."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(program, count, *arguments, devices=1):
    """Start ``count`` processes with ``devices`` CPU devices each."""
    shared = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        # Without the virtual devices of the test process; programs compile as quickly as its own.
        "XLA_FLAGS": " ".join(["--xla_backend_optimization_level=0", *compile_flags()]),
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}",
        "JAX_NUM_PROCESSES": str(count),
    }
    return [
        subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            env={**shared, "JAX_PROCESS_ID": str(index)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(count)
    ]


def finish(running, *, status=0):
    """Wait for processes that all end with ``status`` and return what each printed."""
    try:
        ended = [process.communicate(timeout=900) for process in running]
    finally:
        for process in running:
            process.kill()
    for process, (output, errors) in zip(running, ended, strict=True):
        assert process.returncode == status, output + errors
    return [output for output, _ in ended]
