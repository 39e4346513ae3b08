"""A tiny random model with its tokenizer, as a Hugging Face directory."""

import io

import jax
import pytest
from rich.console import Console

from tl_jax.config import ModelConfig
from tl_jax.convert import to_hf
from tl_jax.data.tokenizer import train_byte_bpe
from tl_jax.models import functional

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
