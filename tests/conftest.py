"""Run the tests on eight virtual CPU devices, with programs that compile quickly and once."""

import os
import shutil
import tempfile

# Before anything imports jax.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tiny programs take far longer to compile than to run. Without optimisation of machine code, and
# without XLA's newer way to emit fused loops, they compile in a ninth of the time.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        "--xla_backend_optimization_level=0",
        "--xla_cpu_use_fusion_emitters=false",
    ]
).strip()
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# Workers, and the programs that tests start, find what another of this session has compiled.
_CACHE = "JAX_COMPILATION_CACHE_DIR"
_IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ
if not _IS_WORKER:
    os.environ[_CACHE] = tempfile.mkdtemp(prefix="tl_jax_compiled_")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "0"

from absl import flags  # noqa: E402

# Grain and the command line read absl flags; pytest never parses them.
flags.FLAGS.mark_as_parsed()


def pytest_unconfigure():
    if not _IS_WORKER:
        shutil.rmtree(os.environ[_CACHE], ignore_errors=True)
