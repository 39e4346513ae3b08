"""A frozen model in 4 bits: the rounding of NF4, half a byte a weight, and exports that agree."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tl_jax.config import LoraConfig, MeshConfig, ModelConfig, ModelSourceConfig, RunConfig
from tl_jax.convert import from_hf, names, to_hf
from tl_jax.errors import ConfigError
from tl_jax.models import functional, lora, nf4
from tl_jax.parallel.mesh import make_mesh
from tl_jax.run.directory import Run
from tl_jax.train import step as step_lib
from tl_jax.types import Batch

BASE = ModelConfig(
    vocab_size=64,
    embed_dim=64,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=32,
    mlp_dim=128,
    attention_bias="qkv",
)
LORA = LoraConfig(rank=2, targets="attn/.*", frozen="nf4")
MODEL = dataclasses.replace(BASE, lora=LORA)
IDS = np.random.default_rng(0).integers(1, 64, (2, 9)).astype(np.int32)
ROWS = Batch(
    IDS, IDS, IDS.astype(np.float32), np.tile(np.arange(9, dtype=np.int32), (2, 1)), IDS * 0 + 1
)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A run whose frozen model is a random one in 4 bits, on a mesh of 4 devices."""
    pytest.importorskip("qwix")
    folder = tmp_path_factory.mktemp("model")
    to_hf.save(functional.init(BASE, jax.random.key(0)), folder / "hf", config=BASE)
    source = ModelSourceConfig(path=str(folder / "hf"))
    workspace = Run(RunConfig(run_dir=str(folder / "run"), model=source, lora=LORA))
    workspace.__dict__["mesh"] = make_mesh(MeshConfig(2, 1, 2), jax.devices()[:4])
    return workspace


@pytest.fixture(scope="module")
def params(workspace):
    return workspace.params("before")


def widened(params):
    """The plain model that stands in the codes."""
    leaves = dict(names.flatten(lora.split(params, LORA)[1]))
    for path in [path for path in leaves if path[-1] == nf4.CODES]:
        codes, scales = leaves.pop(path), leaves.pop((*path[:-1], nf4.SCALES))
        kernels = nf4.Kernels(codes, scales)
        leaves[(*path[:-1], "kernel")] = jnp.stack([kernels[i] for i in range(BASE.num_layers)])
    return names.unflatten(leaves)


def test_the_matrices_of_the_layers_are_held_in_4_bits_where_they_were_declared(workspace, params):
    declared = functional.abstract_params(MODEL)
    placed = dict(names.flatten(workspace.placed(declared)))
    for path, leaf in names.flatten(params):
        assert leaf.shape == placed[path].shape and leaf.dtype == placed[path].dtype, path
        assert leaf.sharding == placed[path].sharding, path
    held = {path[1:-1] for path, leaf in names.flatten(params) if path[-1] == nf4.CODES}
    assert {"/".join(path) for path in held} == set(lora.PATHS)


def test_a_weight_is_off_by_at_most_half_of_the_widest_gap_between_codes(workspace, params):
    exact = from_hf.load(workspace.model_dir)["layers"]["mlp"]["down"]["kernel"]
    found = widened(params)["layers"]["mlp"]["down"]["kernel"]
    blocks = np.asarray(exact).reshape(2, -1, nf4.BLOCK, 64)
    limit = 0.153 * np.abs(blocks).max(axis=2, keepdims=True)
    off = np.abs(np.asarray(found).reshape(blocks.shape) - blocks)
    assert np.all(off <= limit) and off.max() > 0


def test_the_model_computes_with_the_widened_matrices(params):
    found = functional.apply(params, ROWS, MODEL)
    plain = functional.apply(widened(params), ROWS, BASE)
    np.testing.assert_allclose(found, plain, atol=1e-5)


def test_a_step_reads_about_half_a_byte_a_frozen_weight():
    """Of the compiled step, whose arguments are what a device holds all the time."""
    pytest.importorskip("qwix")

    def frozen_bytes(lora_config):
        model = dataclasses.replace(BASE, param_dtype="bfloat16", lora=lora_config)
        declared = functional.abstract_params(model)
        abstract = jax.tree.map(
            lambda info: jax.ShapeDtypeStruct(info.shape, info.dtype),
            declared,
            is_leaf=lambda leaf: hasattr(leaf, "axes"),
        )
        trained, frozen = lora.split(abstract, lora_config)

        def loss(trained, frozen):
            whole = lora.joined(trained, frozen)
            return step_lib.loss_sums(whole, ROWS, model, step_lib.LossConfig(ce_chunk=0))["ce"]

        compiled = jax.jit(jax.grad(loss)).lower(trained, frozen).compile()
        return compiled.memory_analysis().argument_size_in_bytes

    kernels = 2 * (2 * 64 * 128 + 2 * 64 * 64 + 3 * 64 * 128)
    saved = frozen_bytes(dataclasses.replace(LORA, frozen="full")) - frozen_bytes(LORA)
    # From 2 bytes to 4 bits and a scale of 2 bytes for each 64.
    assert saved == pytest.approx(kernels * (2 - 0.5 - 2 / 64), rel=0.01)


def test_a_merged_export_gives_the_logits_of_adapters_on_4_bits(params, tmp_path):
    rng = np.random.default_rng(1)
    trained, frozen = lora.split(params, LORA)
    moved = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32) * 0.1, trained
    )
    params = lora.joined(moved, frozen)
    to_hf.save(params, tmp_path / "merged", config=MODEL)
    found = functional.apply(from_hf.load(tmp_path / "merged"), ROWS, BASE)
    np.testing.assert_allclose(found, functional.apply(params, ROWS, MODEL), atol=1e-4)


def test_what_cannot_be_held_in_4_bits_is_said(monkeypatch):
    narrow = dataclasses.replace(MODEL, embed_dim=32)
    with pytest.raises(ConfigError, match="a multiple of 64 inputs, this model has one with 32"):
        functional.abstract_params(narrow)
    monkeypatch.setattr(nf4.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs the package qwix; install it with `pip install"):
        lora.check(RunConfig(lora=LORA))
    lora.check(RunConfig(lora=dataclasses.replace(LORA, frozen="full")))
