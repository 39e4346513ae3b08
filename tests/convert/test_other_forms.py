"""A directory in another form than is read is refused for what it is, with what to give instead."""

import json
import shutil

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tl_jax.config import ModelSourceConfig, RunConfig
from tl_jax.convert import from_hf, gguf, hf_directory, hub, model_files
from tl_jax.data.tokenize.tokenizer import load_tokenizer
from tl_jax.errors import ConfigError, ModelError
from tl_jax.models import registry
from tl_jax.run.directory import Run
from tl_jax.train.validate import checked

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
NORM = "model.norm.weight"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9085657\n"


@pytest.fixture
def model(model_dir, tmp_path):
    found = shutil.copytree(model_dir, tmp_path / "model")
    (found / "SHA256SUMS").unlink()
    return found


def put(directory, *names, text="{}"):
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)


@pytest.mark.parametrize("name", [WEIGHTS, "tokenizer.json"])
def test_what_git_lfs_left_in_the_place_of_a_file_is_named(model, name):
    (model / name).write_text(POINTER)
    run = Run(RunConfig(model=ModelSourceConfig(path=str(model))))
    for read in (lambda: from_hf.open_files(model), lambda: run.tokenizer):
        with pytest.raises(ModelError, match=rf"{name}: only says where Git LFS.*git lfs pull"):
            read()


def test_a_gguf_file_that_git_lfs_left_is_named(tmp_path):
    put(tmp_path, "m.gguf", text=POINTER)
    with pytest.raises(ModelError, match="m.gguf: only says where Git LFS"):
        gguf.read_config(tmp_path / "m.gguf")


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["adapter_config.json", "adapter_model.safetensors"], "holds adapters of PEFT.*adapter"),
        (["model-Q4_K_M.gguf"], r"holds a GGUF file: give .*/model-Q4_K_M\.gguf"),
        (["refs/main", "snapshots/abc/config.json"], "Hugging Face cache: give .*/snapshots/abc"),
        (["params.json", "consolidated.safetensors"], "fetch the one for transformers"),
        (["consolidated.00.pth"], "fetch the one for transformers"),
        (["mine/config.json", "other/notes.txt"], "the model is in .*/mine: give that"),
        (["notes.txt"], "is no directory with a config.json; give a Hugging Face model directory"),
        (["a/config.json", "b/config.json"], "is no directory with a config.json"),
    ],
)
def test_a_directory_without_a_model_is_told_for_what_it_holds(tmp_path, names, told):
    put(tmp_path, *names)
    run = Run(RunConfig(model=ModelSourceConfig(path=str(tmp_path))))
    with pytest.raises(ConfigError, match=rf"config\.model\.path: .*{told}"):
        checked(run, prepares=True, computes=False, writes=True).__enter__()
    with pytest.raises(ModelError, match="holds no config.json"):
        model_files.check_model(tmp_path)


def test_a_model_of_the_hub_in_another_form_is_told(tmp_path, monkeypatch):
    commit = tmp_path / ("a" * 40)
    put(commit, "adapter_config.json")
    monkeypatch.setattr(hub, "_snapshot", lambda *_: commit)
    with pytest.raises(ModelError, match="a/b: the Hub has no config.json of it; .*of PEFT"):
        hub.fetch("a/b")
    (commit / "adapter_config.json").unlink()
    with pytest.raises(ModelError, match="if it is a GGUF file, download that"):
        hub.fetch("a/b")


def test_the_directory_of_a_run_is_no_model(tmp_path):
    put(tmp_path, "config.json", text='{"run_dir": "runs/mine", "model": {}}')
    with pytest.raises(ConfigError, match="settings of a run, not of a model; its model is in exp"):
        registry.read_config(tmp_path)


def test_two_sets_of_weights_are_refused_but_not_an_index_of_the_one_file(model):
    tensors = load_file(model / WEIGHTS)
    put(model, INDEX, text=json.dumps({"weight_map": dict.fromkeys(tensors, WEIGHTS)}))
    from_hf.load(model)
    shutil.copyfile(model / WEIGHTS, model / "model-00001-of-00001.safetensors")
    names = dict.fromkeys(tensors, "model-00001-of-00001.safetensors")
    put(model, INDEX, text=json.dumps({"weight_map": names}))
    with pytest.raises(ModelError, match=f"holds {WEIGHTS} and {INDEX}.*take away"):
        from_hf.load(model)
    (model / WEIGHTS).unlink()
    from_hf.load(model)
    (model / INDEX).unlink()
    with pytest.raises(ModelError, match="holds model-00001-of-00001.safetensors, but neither"):
        from_hf.load(model)


def test_a_tensor_in_two_files_is_refused(model):
    tensors = load_file(model / WEIGHTS)
    (model / WEIGHTS).unlink()
    save_file(tensors, model / "a.safetensors")
    save_file({NORM: tensors[NORM]}, model / "b.safetensors")
    names = {**dict.fromkeys(tensors, "a.safetensors"), NORM: "b.safetensors"}
    put(model, INDEX, text=json.dumps({"weight_map": names}))
    with pytest.raises(ModelError, match=rf"b.safetensors: {NORM} is in a.safetensors, too"):
        from_hf.load(model)


@pytest.mark.parametrize(
    ("dtype", "code"),
    [(np.int8, "I8"), (np.int64, "I64"), (np.bool_, "BOOL"), (ml_dtypes.float8_e4m3fn, "F8_E4M3")],
)
def test_values_of_a_quantised_model_are_not_taken_for_its_weights(model, dtype, code):
    tensors = load_file(model / WEIGHTS)
    save_file(tensors | {NORM: tensors[NORM].astype(dtype)}, model / WEIGHTS)
    with pytest.raises(ModelError, match=rf"{WEIGHTS}: {NORM} is of type {code}, .*quantised"):
        from_hf.load(model)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, ml_dtypes.bfloat16])
def test_plain_numbers_of_any_width_are_read(model, dtype):
    tensors = load_file(model / WEIGHTS)
    save_file({name: t.astype(dtype) for name, t in tensors.items()}, model / WEIGHTS)
    found = np.asarray(from_hf.load(model)["final_norm"]["scale"])
    np.testing.assert_array_equal(found, tensors[NORM].astype(dtype).astype(np.float32))


def test_stop_tokens_stand_in_the_config_where_there_are_no_settings_of_generation(model):
    config = json.loads((model / "config.json").read_text())
    put(model, "config.json", text=json.dumps(config | {"eos_token_id": [3, 5]}))
    put(model, "generation_config.json", text='{"eos_token_id": 4}')
    assert hf_directory.generation_stops(model) == (4,)
    put(model, "generation_config.json", text="{}")
    assert hf_directory.generation_stops(model) == ()
    (model / "generation_config.json").unlink()
    assert hf_directory.generation_stops(model) == (3, 5)
    assert load_tokenizer(model).eos_id == 2
