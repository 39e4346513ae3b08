"""Run the tests on eight virtual CPU devices."""

import os

# Before anything imports jax.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
).strip()
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from absl import flags  # noqa: E402

# Grain and the command line read absl flags; pytest never parses them.
flags.FLAGS.mark_as_parsed()
