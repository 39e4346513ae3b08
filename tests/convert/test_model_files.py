"""Only a model's own files are read, as its checksums say, and only finite numbers."""

import os
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tl_jax.config import DataConfig, ModelSourceConfig, RunConfig
from tl_jax.convert import from_hf, hf_directory, model_files, to_hf
from tl_jax.convert.safetensors_file import DTYPES, all_finite
from tl_jax.errors import ModelError, TlJaxError
from tl_jax.models import registry
from tl_jax.run.directory import Run

WEIGHTS = "model.safetensors"
NORM = "model.norm.weight"


@pytest.fixture
def model(model_dir, tmp_path):
    return shutil.copytree(model_dir, tmp_path / "model")


def test_a_flipped_bit_is_refused_by_name_as_long_as_the_checksums_are_there(model):
    from_hf.open_files(model).release()
    content = bytearray((model / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (model / WEIGHTS).write_bytes(bytes(content))
    with pytest.raises(ModelError, match=rf"{WEIGHTS}: is not the file that SHA256SUMS"):
        from_hf.open_files(model)
    (model / model_files.CHECKSUMS).write_text("notes of somebody\n" + "0" * 64 + "  other.bin\n")
    from_hf.open_files(model).release()


LINKED = ("merges.txt", "tokenizer.model", "config.json", "README.md", WEIGHTS, "x/../y.jinja")


@pytest.mark.parametrize("name", LINKED)
def test_a_link_out_of_the_directory_is_refused(model, tmp_path, name):
    secret = tmp_path / "secret"
    secret.write_text("of somebody else")
    file = model / os.path.basename(name)
    file.unlink(missing_ok=True)
    file.symlink_to(secret)
    for read in (model_files.check_own, hf_directory.weight_files):
        with pytest.raises(ModelError, match=f"{file.name}: is a link to {secret}"):
            read(model)
    with pytest.raises(ModelError, match="is a link"):
        hf_directory.copy_tokenizer(model, tmp_path / "target")


def test_a_folder_of_templates_may_not_be_a_link_nor_hold_one(model, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    named = model / model_files.NAMED_TEMPLATES
    named.symlink_to(other)
    with pytest.raises(ModelError, match="is a link"):
        model_files.check_own(model)
    named.unlink()
    named.mkdir()
    (named / "rag.jinja").symlink_to(other / "rag.jinja")
    with pytest.raises(ModelError, match="rag.jinja: is a link"):
        model_files.check_own(model)


def test_what_is_no_regular_file_is_refused(model):
    os.mkfifo(model / "vocab.json")
    with pytest.raises(ModelError, match="vocab.json: is no regular file"):
        model_files.check_own(model)


def test_links_inside_the_directory_and_to_the_blobs_of_a_snapshot_are_its_own(model, tmp_path):
    repository = tmp_path / "hub" / "models--a--b"
    snapshot, blobs = repository / "snapshots" / ("0" * 40), repository / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, file in enumerate(sorted(model.iterdir())):
        file.rename(blobs / str(number))
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    (snapshot / "merges.txt").symlink_to("config.json")
    model_files.check_own(snapshot)
    from_hf.open_files(snapshot).release()
    (tmp_path / "short").symlink_to(snapshot)
    model_files.check_own(tmp_path / "short")
    (snapshot / "vocab.json").symlink_to("../../refs")
    with pytest.raises(ModelError, match="vocab.json"):
        model_files.check_own(snapshot)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", [NORM, "model.layers.0.mlp.up_proj.weight"])
def test_weights_that_are_not_finite_are_not_read(model, value, name):
    tensors = load_file(model / WEIGHTS)
    tensors[name].flat[3] = value
    save_file(tensors, model / WEIGHTS)
    (model / model_files.CHECKSUMS).unlink()
    with pytest.raises(ModelError, match=rf"{WEIGHTS}: {name} has values that are not finite"):
        from_hf.load(model)


def test_weights_that_are_not_finite_are_not_written(model, tmp_path):
    config = registry.read_config(model)
    params = from_hf.load(model)
    # Finite in the type that was trained, and not in the one that is written.
    params["final_norm"]["scale"] = params["final_norm"]["scale"].at[0].set(3.4e38)
    for dtype, name in (("bfloat16", NORM),):
        with pytest.raises(ModelError, match=f"tensor {name} has values that are not finite"):
            to_hf.save(params, tmp_path / "export", config=config, dtype=dtype)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
    to_hf.save(params, tmp_path / "export", config=config)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (5,), (3, 1 << 19), (1 << 12, 300)])
def test_every_value_is_looked_at(dtype, shape):
    block = np.full(shape, -1.5, DTYPES[dtype])
    assert all_finite(block)
    for value in (np.nan, np.inf, -np.inf):
        for at in {0, block.size // 2, block.size - 1} if block.size else ():
            other = block.copy()
            other.reshape(-1)[at] = value
            assert not all_finite(other) and not all_finite(other.T)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("special_tokens_map.json", "[1]"),
        ("special_tokens_map.json", '{"eos_token": 5}'),
        ("added_tokens.json", '["a"]'),
        ("tokenizer_config.json", '"x"'),
        ("tokenizer_config.json", '{"eos_token": {"a": {}}}'),
        ("tokenizer.json", "null"),
        ("tokenizer.json", "{}"),
        ("tokenizer.json", '{"model": 3'),
        ("generation_config.json", "[]"),
    ],
)
def test_tokenizer_files_of_odd_types_are_named_errors(model, tmp_path, name, content):
    (model / name).write_text(content)
    source = ModelSourceConfig(path=str(model))
    run = Run(RunConfig(str(tmp_path), model=source, data=DataConfig(template="released")))
    with pytest.raises(TlJaxError, match=str(model)):
        assert run.tokenizer and run.renderer


def test_stop_tokens_that_no_model_has_are_left_out(model):
    file = model / "generation_config.json"
    file.write_text('{"eos_token_id": [1, -1, "2", 99999999999999999999, null]}')
    assert hf_directory.generation_stops(model) == (1,)
