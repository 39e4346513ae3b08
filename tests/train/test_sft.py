"""Validation reads a fair part of the held-out examples."""

import jax
import numpy as np
import pytest

from tl_jax.config import DataConfig, MeshConfig, ModelConfig, RunConfig
from tl_jax.data.examples.build import Example
from tl_jax.data.examples.order import write_order
from tl_jax.data.examples.shards import write_examples
from tl_jax.data.prepare.files import EXAMPLES, VALIDATION
from tl_jax.errors import ConfigError
from tl_jax.parallel.mesh import make_mesh
from tl_jax.run.directory import Run
from tl_jax.train import sft

SIZES = {
    "vocab_size": 64,
    "embed_dim": 32,
    "num_layers": 1,
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_dim": 64,
    "mlp_dim": 64,
}


@pytest.fixture
def run_dir(tmp_path):
    """Held-out examples that get longer and longer, and the same to train on."""
    rows = [Example(str(n), list(range(n, 2 * n)), [1.0] * n, {}) for n in range(2, 40)]
    for name in (EXAMPLES, VALIDATION):
        write_examples(tmp_path / "data" / name, rows)
    write_order(tmp_path / "data" / EXAMPLES)
    return tmp_path


def first_batch(run_dir, name, *, repeat, **changes):
    settings = {"max_length": 64, "batch_size": 2, "packing_bins": 8, "prefetch": 0, **changes}
    run = Run(RunConfig(run_dir=str(run_dir), data=DataConfig(**settings)))
    run.__dict__["mesh"] = make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1])
    loader = sft._loader(run, name, repeat=repeat)
    batch = next(loader)
    loader.close()
    return batch


def test_rows_whose_tokens_the_devices_cannot_share_are_refused(run_dir):
    data = DataConfig(max_length=30, batch_size=2)
    run = Run(RunConfig(run_dir=str(run_dir), data=data))
    run.__dict__["mesh"] = make_mesh(MeshConfig(1, 2, 1, 4))
    with pytest.raises(ConfigError, match="config.data.max_length = 30 .* 'sequence' of size 4"):
        sft.open_loader(run)


@pytest.mark.parametrize(
    ("attention", "words"),
    [("cudnn", "cannot spread rows over mesh axis 'sequence'"), ("splash", "no whole number of")],
)
def test_a_kernel_that_cannot_share_rows_is_refused_at_the_door(attention, words):
    model = ModelConfig(**SIZES, attention=attention, dtype="bfloat16")
    with pytest.raises(ConfigError, match=f"config.model: .*{words}"):
        sft.check_attention(model, 64, make_mesh(MeshConfig(1, 2, 1, 4)))


def test_rows_that_devices_cannot_sample_for_themselves_are_refused():
    run = Run(RunConfig())
    run.__dict__["model"] = ModelConfig(**SIZES)
    run.__dict__["mesh"] = make_mesh(MeshConfig(1, 2, 1, 4))
    run.check_sampled_rows(16, "rows")
    with pytest.raises(ConfigError, match="rows = 12 rows are not divisible by 8 mesh rows"):
        run.check_sampled_rows(12, "rows")


def test_validation_does_not_begin_with_the_longest_examples(run_dir):
    stream, ordered = (
        first_batch(run_dir, VALIDATION, packing_fit=fit, repeat=False)["tokens"]
        for fit in ("stream", "sorted")
    )
    np.testing.assert_array_equal(stream, ordered)
    assert stream[0, 0] == 2
    stream, ordered = (
        first_batch(run_dir, EXAMPLES, packing_fit=fit, repeat=True)["tokens"]
        for fit in ("stream", "sorted")
    )
    assert not np.array_equal(stream, ordered)


def test_training_shares_prefixes_and_validation_keeps_samples(run_dir):
    assert "samples" in first_batch(run_dir, EXAMPLES, repeat=True)
    assert "samples" not in first_batch(run_dir, VALIDATION, repeat=False)
    assert "samples" not in first_batch(run_dir, EXAMPLES, repeat=True, packing=False)
    assert "samples" not in first_batch(run_dir, EXAMPLES, repeat=True, shared_prefixes=False)


def test_rows_may_be_longer_than_samples(run_dir):
    batch = first_batch(run_dir, EXAMPLES, repeat=True, row_length=96)
    assert {values.shape for values in batch.values()} == {(2, 96)}


@pytest.mark.parametrize(("attention", "shared"), [("splash", False), ("chunked", True)])
def test_rows_are_plain_for_a_kernel_that_computes_no_trees(attention, shared):
    config = RunConfig(data=DataConfig(max_length=1024))
    model = ModelConfig(**SIZES, attention=attention, dtype="bfloat16")
    mesh = make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1])
    assert sft.shares_prefixes(config, model, mesh) is shared
