"""Adapters are exchanged with PEFT: either side computes the same logits with the other's files."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tl_jax.config import LoraConfig, MeshConfig, ModelConfig
from tl_jax.convert import from_hf, names, peft, to_hf
from tl_jax.convert.hf_directory import ModelError
from tl_jax.errors import ConfigError
from tl_jax.models import functional, lora, registry
from tl_jax.parallel.mesh import make_mesh
from tl_jax.types import Batch

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
theirs = pytest.importorskip("peft")

BASE = ModelConfig(
    vocab_size=64, embed_dim=32, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8, mlp_dim=48
)
LORA = LoraConfig(rank=3, alpha=6.0, targets="attn/(q|v)|mlp/down")
IDS = np.random.default_rng(0).integers(1, 64, (2, 9))
TOLERANCE = 1e-4


def with_lora(config):
    return dataclasses.replace(BASE, lora=config)


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(MeshConfig(1, 2, 2), jax.devices()[:4])


@pytest.fixture(scope="module")
def trained():
    """A model whose adapters have an effect."""
    fresh = functional.init(with_lora(LORA), jax.random.key(0))
    rng = np.random.default_rng(1)
    return names.unflatten(
        {
            path: rng.normal(size=leaf.shape).astype(np.float32) if path[-1] == lora.B else leaf
            for path, leaf in names.flatten(fresh)
        }
    )


@pytest.fixture(scope="module")
def base_dir(trained, tmp_path_factory):
    """The frozen model as a Hugging Face directory."""
    path = tmp_path_factory.mktemp("base") / "model"
    to_hf.save(lora.split(trained, LORA)[1], path, config=BASE)
    return path


def our_logits(params, config):
    ids = IDS.astype(np.int32)
    rows = Batch(ids, ids, ids, np.tile(np.arange(9, dtype=np.int32), (2, 1)), np.full_like(ids, 9))
    return np.asarray(functional.apply(params, rows, config))


def their_logits(model):
    with torch.no_grad():
        return model.eval()(torch.from_numpy(IDS)).logits.numpy()


def hf_model(path):
    return transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)


def test_our_adapters_give_the_same_logits_in_peft(trained, base_dir, tmp_path):
    config = with_lora(LORA)
    peft.save(trained, tmp_path / "adapter", config=config, base=str(base_dir))
    plain = hf_model(base_dir)
    before = their_logits(plain)
    model = theirs.PeftModel.from_pretrained(plain, tmp_path / "adapter")
    found, expected = their_logits(model), our_logits(trained, config)
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)
    assert np.abs(before - expected).max() > 0.1
    # Every tensor has the name under which PEFT would write it.
    written = set(load_file(tmp_path / "adapter" / "adapter_model.safetensors"))
    assert written == set(theirs.get_peft_model_state_dict(model))


@pytest.mark.parametrize("targets", [".*", "(?!mlp).*"])
def test_targets_that_match_anything_mean_the_matrices_of_layers(base_dir, tmp_path, targets):
    config = with_lora(LoraConfig(rank=2, targets=targets))
    params = functional.init(config, jax.random.key(0))
    trained = {path[:-1] for path, _ in names.flatten(lora.split(params, config.lora)[0])}
    meant = [path for path in lora.PATHS if lora.adapts(config.lora, path)]
    assert trained == {("layers", *path.split("/")) for path in meant} and len(meant) >= 4
    peft.save(params, tmp_path / "adapter", config=config, base=str(base_dir))
    model = theirs.PeftModel.from_pretrained(hf_model(base_dir), tmp_path / "adapter")
    written = set(load_file(tmp_path / "adapter" / "adapter_model.safetensors"))
    assert written == set(theirs.get_peft_model_state_dict(model))


def test_a_merged_export_gives_the_logits_of_the_adapters(trained, tmp_path):
    config = with_lora(LORA)
    to_hf.save(trained, tmp_path / "merged", config=config)
    assert registry.read_config(tmp_path / "merged") == BASE
    expected = our_logits(trained, config)
    np.testing.assert_allclose(
        our_logits(from_hf.load(tmp_path / "merged"), BASE), expected, atol=2e-5
    )
    np.testing.assert_allclose(
        their_logits(hf_model(tmp_path / "merged")), expected, atol=TOLERANCE
    )


@pytest.mark.parametrize("rslora", [False, True])
def test_adapters_of_peft_give_the_same_logits_here(base_dir, tmp_path, mesh, rslora):
    torch.manual_seed(0)
    settings = theirs.LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=["q_proj", "up_proj"],
        # Both factors random: an adapter that does something.
        init_lora_weights=False,
        use_rslora=rslora,
        task_type="CAUSAL_LM",
    )
    model = theirs.get_peft_model(hf_model(base_dir), settings)
    model.save_pretrained(tmp_path / "adapter")
    alpha = 16.0 if rslora else 8.0
    config = with_lora(LoraConfig(rank=4, alpha=alpha, targets="attn/q|mlp/up"))
    found = peft.load(tmp_path / "adapter", config, mesh)
    params = lora.joined(found, from_hf.load(base_dir, mesh))
    expected = their_logits(model)
    np.testing.assert_allclose(our_logits(params, config), expected, atol=TOLERANCE)
    assert np.abs(our_logits(from_hf.load(base_dir), BASE) - expected).max() > 0.1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_out_and_in_returns_the_same_adapters(trained, tmp_path, mesh, dtype):
    config = with_lora(dataclasses.replace(LORA, dtype=dtype))
    peft.save(trained, tmp_path / "adapter", config=config, base="base", dtype=dtype)
    found = peft.load(tmp_path / "adapter", config, mesh)
    expected = dict(names.flatten(lora.split(trained, LORA)[0]))
    for path, leaf in names.flatten(found):
        np.testing.assert_array_equal(leaf, np.asarray(expected.pop(path)).astype(leaf.dtype))
        assert str(leaf.dtype) == dtype and len(leaf.sharding.device_set) == 4
    assert not expected


def test_adapters_that_do_not_fit_are_refused_with_what_to_write(trained, tmp_path, mesh):
    path = tmp_path / "adapter"
    peft.save(trained, path, config=with_lora(LORA), base="base")

    def load(**changes):
        return peft.load(path, with_lora(dataclasses.replace(LORA, **changes)), mesh)

    with pytest.raises(ConfigError, match=r"set config.lora.rank=3 and config.lora.alpha=6"):
        load(rank=4)
    with pytest.raises(ConfigError, match=r"set config.lora.rank=3 and config.lora.alpha=6"):
        load(alpha=7.0)
    with pytest.raises(
        ConfigError, match=r"4 missing, 0 more.*targets='attn/q\|attn/v\|mlp/down' in all layers"
    ):
        load(targets="attn/(q|k|v)|mlp/down")
    with pytest.raises(ModelError, match=r"lora_A.weight has shape \(3, 32\), the model calls"):
        narrow = dataclasses.replace(with_lora(LORA), embed_dim=16)
        peft.load(path, narrow, mesh)

    settings = json.loads((path / "adapter_config.json").read_text())
    for field, value in (
        ("use_dora", True),
        ("bias", "all"),
        ("init_lora_weights", "pissa"),
        ("arrow_config", {"top_k": 2}),
        ("kasa_config", {"beta": 1e-4}),
        ("use_qalora", True),
    ):
        (path / "adapter_config.json").write_text(json.dumps(settings | {field: value}))
        with pytest.raises(ModelError, match=f"{field} is .*only plain LoRA is implemented"):
            load()
    (path / "adapter_config.json").unlink()
    for name, told in (
        (None, "give a directory that PEFT wrote"),
        ("config.json", "holds a whole model; give it as config.model.path"),
        ("adapters.safetensors", "is of MLX"),
        ("adapter_model.bin", "is pickled"),
    ):
        if name:
            (path / name).write_text("{}")
        with pytest.raises(ModelError, match=f"adapter_config.json: no such file; .*{told}"):
            load()
    with pytest.raises(ModelError, match="the model has no adapters"):
        peft.save(lora.split(trained, LORA)[1], path, config=BASE, base="base")


def test_the_scale_that_is_asked_for_is_taken(trained, tmp_path, mesh):
    path = tmp_path / "adapter"
    peft.save(trained, path, config=with_lora(LORA), base="base")
    file = path / "adapter_config.json"
    settings = json.loads(file.read_text())
    # sqrt(3) times: no short decimal
    file.write_text(json.dumps(settings | {"use_rslora": True, "lora_alpha": 7}))
    with pytest.raises(ConfigError) as refused:
        peft.load(path, with_lora(LORA), mesh)
    alpha = float(str(refused.value).rpartition("alpha=")[2])
    peft.load(path, with_lora(dataclasses.replace(LORA, alpha=alpha)), mesh)


def test_what_is_not_known_of_adapters_is_refused_by_name(trained, tmp_path, mesh):
    path = tmp_path / "adapter"
    peft.save(trained, path, config=with_lora(LORA), base="base")
    file = path / "adapter_config.json"
    settings = json.loads(file.read_text())
    harmless = {"peft_version": "0.99", "lora_dropout": 0.1, "use_new": False, "new_config": None}
    harmless |= {"layers_to_transform": [0, 1], "target_modules": "all-linear"}
    file.write_text(json.dumps(settings | harmless))
    peft.load(path, with_lora(LORA), mesh)
    for field, value in (("use_new", True), ("new_config", {"gain": 2.0}), ("new_scale", 3)):
        file.write_text(json.dumps(settings | {field: value}))
        with pytest.raises(ModelError, match=f"adapter_config.json: {field} is .*not known here"):
            peft.load(path, with_lora(LORA), mesh)


def test_a_matrix_that_is_saved_whole_beside_adapters_is_named(trained, tmp_path, mesh):
    path = tmp_path / "adapter"
    peft.save(trained, path, config=with_lora(LORA), base="base")
    file = path / "adapter_model.safetensors"
    name = "base_model.model.model.embed_tokens.weight"
    save_file(load_file(file) | {name: np.zeros((64, 32), np.float32)}, file)
    with pytest.raises(ModelError, match=rf"{name} is no part of a plain adapter.*merge_and_unl"):
        peft.load(path, with_lora(LORA), mesh)


def test_every_field_of_the_installed_peft_is_known():
    known = peft._KNOWN | peft._PLAIN.keys()
    assert {field.name for field in dataclasses.fields(theirs.LoraConfig)} <= known
