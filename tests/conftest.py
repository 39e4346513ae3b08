"""Run the tests on eight virtual CPU devices, with programs that compile quickly and once."""

import io
import os
import shutil
import sys
import tempfile
from pathlib import Path

from xla_flags import compile_flags

# Before anything imports jax.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tiny programs take far longer to compile than to run.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        *compile_flags(),
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

import jax  # noqa: E402
import pytest  # noqa: E402
from absl import flags  # noqa: E402
from rich.console import Console  # noqa: E402

from tl_jax.config import ModelConfig  # noqa: E402
from tl_jax.convert import to_hf  # noqa: E402
from tl_jax.data.tokenize.tokenizer import train_byte_bpe  # noqa: E402
from tl_jax.models import functional  # noqa: E402

# Grain and the command line read absl flags; pytest never parses them.
flags.FLAGS.mark_as_parsed()


# Where tools/test.sh puts the compiler for TPUs: beside the environment, whose jax would look for a
# TPU each time it starts.
sys.path.append(str(Path(sys.prefix) / "tpu-compiler"))


@pytest.fixture(autouse=True, scope="module")
def quick_programs(request):
    """Leave out the optimisation of machine code, but where numbers are those that users get."""
    as_shipped = request.path.parent.name in ("parity", "e2e", "models")
    jax.config.update("jax_disable_most_optimizations", not as_shipped)


def pytest_unconfigure():
    if not _IS_WORKER:
        shutil.rmtree(os.environ[_CACHE], ignore_errors=True)


MODEL = ModelConfig(
    vocab_size=264,
    embed_dim=16,
    num_layers=1,
    num_heads=2,
    num_kv_heads=1,
    head_dim=8,
    mlp_dim=32,
    tie_embeddings=True,
)


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory):
    """The model directory; float32 values that bfloat16 cannot hold."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = train_byte_bpe(["find a train to Rome"] * 9, 264, folder / "tokenizer")
    assert tokenizer.vocab_size == MODEL.vocab_size
    to_hf.save(
        functional.init(MODEL, jax.random.key(0)),
        folder / "hf",
        config=MODEL,
        source=folder / "tokenizer",
        generation={"eos_token_id": tokenizer.eos_id},
    )
    return folder / "hf"


@pytest.fixture
def console():
    """A console whose ``file`` keeps what is printed."""
    return Console(file=io.StringIO(), soft_wrap=True, highlight=False)
