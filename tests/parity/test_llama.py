"""Our decoder and our files agree with transformers on small random LLaMA models."""

import json

import jax
import numpy as np
import pytest

from tl_jax.config import MeshConfig
from tl_jax.convert import from_hf, to_hf
from tl_jax.models import functional, registry
from tl_jax.parallel.mesh import make_mesh
from tl_jax.types import Batch

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SIZES = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
}
VARIANTS = {
    "grouped": {},
    "tied": {"tie_word_embeddings": True},
    "multi_head": {"num_key_value_heads": 4},
    "wide_heads": {"head_dim": 24},
    "rope_base": {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
    "norm_eps": {"rms_norm_eps": 0.3},
}
TOLERANCE = 1e-4


def write_reference(directory, **changes):
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**SIZES, **changes})).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:  # all ones would hide a norm in the wrong place
                weight.uniform_(0.5, 1.5)
    model.save_pretrained(directory)
    return model


@pytest.fixture(scope="module", params=VARIANTS.values(), ids=VARIANTS.keys())
def pair(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("llama")
    return directory, write_reference(directory, **request.param)


def rows(lengths, width):
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, SIZES["vocab_size"], (len(lengths), width), dtype=np.int32)
    valid = np.arange(width) < np.array(lengths)[:, None]
    batch = Batch(
        tokens=tokens,
        targets=tokens,
        weights=valid.astype(np.float32),
        positions=np.broadcast_to(np.arange(width, dtype=np.int32), tokens.shape),
        segment_ids=valid.astype(np.int32),
    )
    return batch, valid


def reference_logits(model, batch, valid):
    with torch.no_grad():
        mask = torch.from_numpy(valid.astype(np.int64))
        return model(torch.from_numpy(batch.tokens).long(), attention_mask=mask).logits.numpy()


def our_logits(directory, batch, mesh=None, **settings):
    config = registry.read_config(directory, **settings)
    params = from_hf.load(directory, mesh)
    apply = jax.jit(functional.apply, static_argnums=2)
    if mesh is None:
        return np.asarray(apply(params, batch, config))
    with jax.set_mesh(mesh):
        return np.asarray(apply(params, batch, config))


@pytest.mark.parametrize("attention", ["dense", "chunked"])
def test_logits_agree_on_right_padded_rows(pair, attention):
    directory, model = pair
    batch, valid = rows([40, 17, 1], 40)
    ours = our_logits(directory, batch, attention=attention)
    theirs = reference_logits(model, batch, valid)
    assert np.abs(theirs[valid]).max() > 1
    assert np.abs(ours - theirs)[valid].max() <= TOLERANCE


@pytest.mark.parametrize("tied", [False, True])
def test_logits_on_a_mesh_agree_with_one_device(tied, tmp_path):
    directory = tmp_path / "model"
    write_reference(directory, tie_word_embeddings=tied)
    batch, valid = rows([24, 24, 9, 24], 24)
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    difference = our_logits(directory, batch, mesh) - our_logits(directory, batch)
    assert np.abs(difference)[valid].max() <= TOLERANCE


def test_export_returns_every_tensor_and_the_config(pair, tmp_path):
    directory, model = pair
    to_hf.save(from_hf.load(directory), tmp_path / "out", source=directory, max_shard_bytes=30_000)
    assert (tmp_path / "out" / "model.safetensors.index.json").is_file()
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    theirs, ours = model.state_dict(), again.state_dict()
    assert theirs.keys() == ours.keys()
    assert all(theirs[n].numpy().tobytes() == ours[n].numpy().tobytes() for n in theirs)
    configs = [json.loads((d / "config.json").read_text()) for d in (directory, tmp_path / "out")]
    assert configs[0] == configs[1]


def test_a_model_born_here_gives_transformers_our_logits(tmp_path):
    write_reference(tmp_path / "seed", head_dim=24)
    config = registry.read_config(tmp_path / "seed")
    params = functional.init(config, jax.random.key(3))
    to_hf.save(params, tmp_path / "born", config=config, generation={"eos_token_id": 2})
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "born").eval()
    batch, valid = rows([20, 11], 20)
    ours = np.asarray(jax.jit(functional.apply, static_argnums=2)(params, batch, config))
    assert np.abs(ours - reference_logits(model, batch, valid))[valid].max() <= TOLERANCE


def test_bfloat16_checkpoints_round_trip(tmp_path):
    model = write_reference(tmp_path / "seed").to(torch.bfloat16)
    model.save_pretrained(tmp_path / "half")
    params = from_hf.load(tmp_path / "half", param_dtype="bfloat16")
    to_hf.save(params, tmp_path / "out", source=tmp_path / "half", dtype="bfloat16")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert again.dtype == torch.bfloat16
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)
    )
