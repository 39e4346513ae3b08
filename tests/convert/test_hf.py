"""Checkpoints survive the way out and back in; broken ones are refused by name."""

import dataclasses
import hashlib
import json
import os
import weakref

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from tl_jax.config import MeshConfig, ModelConfig
from tl_jax.convert import (
    from_hf,
    hf_directory,
    names,
    safetensors_file,
    to_hf,
    whole_directory,
)
from tl_jax.convert.hf_directory import ModelError
from tl_jax.models import functional, registry
from tl_jax.parallel.mesh import make_mesh

CONFIG = ModelConfig(
    vocab_size=64,
    embed_dim=32,
    num_layers=3,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    mlp_dim=48,
    rope_theta=5000.0,
)
TIED = dataclasses.replace(CONFIG, tie_embeddings=True)
# Every family that is read must come back bit for bit.
FAMILIES = {"llama": CONFIG, "llama tied": TIED}


@pytest.fixture(scope="module")
def params():
    return functional.init(CONFIG, jax.random.key(0))


@pytest.fixture
def checkpoint(params, tmp_path):
    to_hf.save(params, tmp_path / "model", config=CONFIG)
    return tmp_path / "model"


def tensors_of(directory):
    found = {}
    for file in sorted(directory.glob("*.safetensors")):
        found |= load_file(file)
    return found


def assert_same(left, right):
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for (path, a), (_, b) in zip(names.flatten(left), names.flatten(right), strict=True):
        assert a.dtype == b.dtype, path
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes(), path


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_out_and_in_returns_the_same_bytes(family, dtype, tmp_path):
    config = dataclasses.replace(FAMILIES[family], param_dtype=dtype)
    params = functional.init(config, jax.random.key(1))
    to_hf.save(params, tmp_path / "a", config=config, dtype=dtype)
    loaded = from_hf.load(tmp_path / "a", param_dtype=dtype)
    assert_same(params, loaded)
    to_hf.save(loaded, tmp_path / "b", source=tmp_path / "a", dtype=dtype)
    with from_hf.open_files(tmp_path / "a") as files:
        stored = from_hf.stored_params(files, config)
        assert np.asarray(stored["embed"]["embedding"]).dtype == config.param_dtype
        to_hf.save(stored, tmp_path / "c", source=tmp_path / "a", dtype=dtype)
    first = tensors_of(tmp_path / "a")
    for again in ("b", "c"):
        second = tensors_of(tmp_path / again)
        assert list(first) == list(second)
        assert all(first[name].tobytes() == second[name].tobytes() for name in first)
    assert ("lm_head.weight" in first) != config.tie_embeddings


def test_every_declared_parameter_is_in_the_table():
    full = dataclasses.replace(CONFIG, attention_bias="qkvo", mlp_bias=True, qk_norm=True)
    everything = {path for path, _ in names.flatten(functional.abstract_params(full))}
    assert everything == set(names.TABLE)
    declared = {path for path, _ in names.flatten(functional.abstract_params(CONFIG))}
    with_head = functional.abstract_params(CONFIG, value_head=True)
    local = {path for path, _ in names.flatten(with_head)} - declared
    assert local and all(path[0] in names.LOCAL_ROOTS for path in local)


def test_shards_keep_to_the_limit_and_are_indexed(params, tmp_path):
    limit = 12_000
    to_hf.save(params, tmp_path / "m", config=CONFIG, max_shard_bytes=limit)
    index = json.loads((tmp_path / "m" / "model.safetensors.index.json").read_text())
    files = sorted((tmp_path / "m").glob("*.safetensors"))
    assert len(files) > 3
    assert set(index["weight_map"].values()) == {file.name for file in files}
    total = 0
    for file in files:
        with safe_open(file, framework="numpy") as handle:
            assert handle.metadata() == {"format": "pt"}
            sizes = [handle.get_tensor(name).nbytes for name in handle.keys()]
        assert sum(sizes) <= limit or len(sizes) == 1
        total += sum(sizes)
    assert index["metadata"]["total_size"] == total
    assert_same(params, from_hf.load(tmp_path / "m"))


def test_writing_holds_one_tensor_at_a_time(params, tmp_path, monkeypatch):
    alive = weakref.WeakSet()
    most = []
    fetch = to_hf._fetch

    class Block(np.ndarray):
        """An array that a set can hold."""

        __hash__ = object.__hash__
        __eq__ = object.__eq__

    def record(*arguments):
        most.append(len(alive))
        block = fetch(*arguments).view(Block)
        alive.add(block)
        return block

    monkeypatch.setattr(to_hf, "_fetch", record)
    to_hf.save(params, tmp_path / "m", config=CONFIG, max_shard_bytes=12_000)
    assert len(most) == len(tensors_of(tmp_path / "m")) and set(most) == {0}


def test_the_digests_are_those_of_the_files(params, tmp_path):
    to_hf.save(params, tmp_path / "m", config=CONFIG, max_shard_bytes=12_000)
    lines = (tmp_path / "m" / hf_directory.CHECKSUMS).read_text().splitlines()
    found = {name: digest for digest, name in (line.split("  ") for line in lines)}
    files = {file.name: file for file in (tmp_path / "m").glob("*.safetensors")}
    assert found.keys() == files.keys()
    for name, file in files.items():
        assert found[name] == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_byte_that_changes_on_the_disk_is_noticed(params, tmp_path, monkeypatch):
    digest = safetensors_file.sha256

    def flip(path):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        return digest(path)

    monkeypatch.setattr(safetensors_file, "sha256", flip)
    with pytest.raises(ModelError, match="model.safetensors: reads back other bytes"):
        to_hf.save(params, tmp_path / "m", config=CONFIG)
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_the_tensors(params, tmp_path):
    told = []
    to_hf.save(params, tmp_path / "m", config=CONFIG, on_tensor=lambda *now: told.append(now))
    total = len(tensors_of(tmp_path / "m"))
    assert told == [(done, total) for done in range(1, total + 1)]


@pytest.mark.parametrize("wanted", [None, "", "{{ trained }}"])
def test_the_chat_template_is_kept_left_out_or_replaced(params, wanted, tmp_path):
    source = tmp_path / "tokenizer"
    source.mkdir()
    (source / "chat_template.jinja").write_text("{{ base }}")
    (source / "tokenizer_config.json").write_text('{"chat_template": "{{ base }}", "a": 1}')
    to_hf.save(params, tmp_path / "m", config=CONFIG, source=source, chat_template=wanted)
    file = tmp_path / "m" / "chat_template.jinja"
    found = file.read_text() if file.exists() else ""
    assert found == ("{{ base }}" if wanted is None else wanted)
    settings = json.loads((tmp_path / "m" / "tokenizer_config.json").read_text())
    assert settings.pop("chat_template", None) == ("{{ base }}" if wanted is None else None)
    assert settings == {"a": 1}


def test_loading_onto_a_mesh_reads_every_element_once(params, checkpoint, monkeypatch):
    read = []
    original = hf_directory.TensorFiles.read

    def count(self, name, index):
        block = original(self, name, index)
        read.append(block.size)
        return block

    monkeypatch.setattr(hf_directory.TensorFiles, "read", count)
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    loaded = from_hf.load(checkpoint, mesh)
    assert_same(params, loaded)
    # The norms have no sharded axis and the data axis replicates everything.
    assert sum(read) == sum(leaf.size for leaf in jax.tree.leaves(params))
    q = loaded["layers"]["attn"]["q"]["kernel"]
    assert len(q.sharding.device_set) == 8
    assert q.addressable_shards[0].data.size == q.size // 4


def test_loaded_arrays_can_be_donated(params, checkpoint):
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    loaded = from_hf.load(checkpoint, mesh)
    doubled = jax.jit(lambda tree: jax.tree.map(lambda x: 2 * x, tree), donate_argnums=0)(loaded)
    assert_same(jax.tree.map(lambda x: 2 * x, params), doubled)


def test_sharded_parameters_are_exported_whole(params, checkpoint, tmp_path):
    loaded = from_hf.load(checkpoint, make_mesh(MeshConfig(data=1, fsdp=4, tensor=2)))
    to_hf.save(loaded, tmp_path / "again", source=checkpoint)
    first, second = tensors_of(checkpoint), tensors_of(tmp_path / "again")
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_a_value_head_stays_at_home(params, tmp_path):
    head = functional.init(CONFIG, jax.random.key(0), value_head=True)["value_head"]
    to_hf.save({**params, "value_head": head}, tmp_path / "m", config=CONFIG)
    assert_same(params, from_hf.load(tmp_path / "m"))


def test_the_source_config_keeps_its_unknown_fields(params, checkpoint, tmp_path):
    file = checkpoint / "config.json"
    original = json.loads(file.read_text()) | {"custom": [1, 2], "eos_token_id": 7}
    file.write_text(json.dumps(original))
    to_hf.save(params, tmp_path / "out", source=checkpoint, dtype="bfloat16")
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written == {**original, "torch_dtype": "bfloat16"}


def test_tokenizer_template_and_generation_settings_travel(params, checkpoint, tmp_path):
    companions = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "merges.txt")
    for name in companions:
        (checkpoint / name).write_text(f"content of {name}")
    (checkpoint / "generation_config.json").write_text('{"eos_token_id": 2, "temperature": 0.5}')
    (checkpoint / "optimizer.bin").write_text("not for export")
    to_hf.save(params, tmp_path / "out", source=checkpoint, generation={"temperature": 0.7})
    for name in companions:
        assert (tmp_path / "out" / name).read_text() == f"content of {name}"
    generation = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert generation == {"eos_token_id": 2, "temperature": 0.7}
    assert not (tmp_path / "out" / "optimizer.bin").exists()


def test_a_model_born_here_carries_its_token_ids(params, tmp_path):
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tokenizer.json").write_text("{}")
    to_hf.save(
        params,
        tmp_path / "out",
        config=CONFIG,
        source=tmp_path / "tokenizer",
        generation={"eos_token_id": 5, "pad_token_id": 3, "do_sample": False},
    )
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["eos_token_id"], config["pad_token_id"], config["bos_token_id"]) == (5, 3, None)
    assert "do_sample" not in config
    assert registry.read_config(tmp_path / "out") == CONFIG
    assert (tmp_path / "out" / "tokenizer.json").read_text() == "{}"


def test_exported_files_are_as_readable_as_their_directory(checkpoint):
    mode = checkpoint.stat().st_mode & 0o666
    assert {file.stat().st_mode & 0o666 for file in checkpoint.iterdir()} == {mode}


def test_save_needs_a_config_and_parameters_that_fit_it(params, tmp_path):
    with pytest.raises(ModelError, match="give source=DIR.*or config=ModelConfig"):
        to_hf.save(params, tmp_path / "m")
    with pytest.raises(ModelError, match="lm_head/kernel"):
        to_hf.save(params, tmp_path / "m", config=TIED)
    with pytest.raises(ModelError, match=r"mlp/down/kernel.*\(3, 48, 32\).*\(3, 64, 32\)"):
        to_hf.save(params, tmp_path / "m", config=dataclasses.replace(CONFIG, mlp_dim=64))
    with pytest.raises(ModelError, match="dtype must be one of"):
        to_hf.save(params, tmp_path / "m", config=CONFIG, dtype="int8")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_directory_is_kept_unless_told_otherwise(params, checkpoint):
    before = (checkpoint / "config.json").read_bytes()
    (checkpoint / "mine.txt").write_text("kept")
    with pytest.raises(ModelError, match="already exists"):
        to_hf.save(params, checkpoint, config=CONFIG)
    assert (checkpoint / "mine.txt").exists()
    to_hf.save(params, checkpoint, source=checkpoint, overwrite=True)
    assert not (checkpoint / "mine.txt").exists()
    assert (checkpoint / "config.json").read_bytes() == before
    assert [path.name for path in checkpoint.parent.iterdir()] == ["model"]


def test_a_model_is_replaced_by_its_own_rules(params, checkpoint):
    before = (checkpoint / "config.json").read_bytes()
    doubled = jax.tree.map(lambda leaf: 2 * leaf, params)
    with pytest.raises(ModelError, match="already exists"):
        to_hf.save(doubled, checkpoint)
    to_hf.save(doubled, checkpoint, overwrite=True)
    assert (checkpoint / "config.json").read_bytes() == before
    assert_same(from_hf.load(checkpoint), doubled)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("existing", [False, True])
def test_a_failed_write_leaves_nothing_behind(existing, error, tmp_path):
    target = tmp_path / "m"
    if existing:
        target.mkdir()
        (target / "old.txt").write_text("old")
    with pytest.raises(error), whole_directory.new_directory(target, overwrite=True) as fresh:
        (fresh / "half.txt").write_text("half")
        raise error
    assert [path.name for path in tmp_path.rglob("*")] == (["m", "old.txt"] if existing else [])


def test_a_failed_swap_puts_the_old_directory_back(tmp_path, monkeypatch):
    target = tmp_path / "m"
    target.mkdir()
    (target / "old.txt").write_text("old")
    replace = os.replace

    def refuse_new(source, destination):
        if ".new-" in str(source):
            raise OSError("disk trouble")
        replace(source, destination)

    monkeypatch.setattr(whole_directory.os, "replace", refuse_new)
    with pytest.raises(OSError), whole_directory.new_directory(target, overwrite=True) as fresh:
        (fresh / "new.txt").write_text("new")
    assert [path.name for path in tmp_path.rglob("*")] == ["m", "old.txt"]


def rewrite(checkpoint, change):
    file = checkpoint / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})
    (checkpoint / hf_directory.CHECKSUMS).unlink(missing_ok=True)


NORM = "model.layers.1.input_layernorm.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(NORM), rf"1 tensors missing, first {NORM}"),
        (lambda t: t.pop("lm_head.weight"), "lm_head.weight; if the model shares its embedding"),
        (
            lambda t: t.update({NORM: np.ones(8, np.float32)}),
            rf"model.safetensors: {NORM} has shape \(8,\), config.json calls for \(32,\)",
        ),
        (
            lambda t: t.update({"model.layers.0.self_attn.q_proj.bias": np.ones(8, np.float32)}),
            "model.safetensors: model.layers.0.self_attn.q_proj.bias is not part of",
        ),
    ],
    ids=["missing", "missing head", "shape", "unexpected"],
)
def test_tensors_that_do_not_fit_are_named(checkpoint, change, message):
    rewrite(checkpoint, change)
    with pytest.raises(ModelError, match=message):
        from_hf.load(checkpoint)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_a_tied_head_is_left_out_only_if_it_is_the_embedding(dtype, tmp_path, monkeypatch):
    monkeypatch.setattr(from_hf, "_ROWS", 7)
    checkpoint = tmp_path / "m"
    params = functional.init(TIED, jax.random.key(0))
    to_hf.save(params, checkpoint, config=TIED, dtype="bfloat16")
    before = from_hf.load(checkpoint)
    embedding = load_file(checkpoint / "model.safetensors")["model.embed_tokens.weight"]
    head = embedding.astype(dtype)
    rewrite(checkpoint, lambda tensors: tensors.update({"lm_head.weight": head}))
    assert_same(before, from_hf.load(checkpoint))
    head = head.copy()
    head[-1, -1] += 1
    for other in (head, head[:-1]):
        rewrite(checkpoint, lambda t, other=other: t.update({"lm_head.weight": other}))
        with pytest.raises(ModelError, match=f"{checkpoint}: .*tie_word_embeddings.* lm_head"):
            from_hf.load(checkpoint)
        with pytest.raises(ModelError, match="set tie_word_embeddings to false"):
            from_hf.open_files(checkpoint)


def test_an_export_has_the_templates_by_name_and_a_class_that_reads_tokenizer_json(
    params, checkpoint, tmp_path
):
    (checkpoint / "tokenizer.json").write_text("{}")
    config = checkpoint / "tokenizer_config.json"
    folder = checkpoint / "additional_chat_templates"
    folder.mkdir()
    (folder / "tool_use.jinja").write_text("{{ tools }}")
    (folder / "rag.jinja").write_text("{{ documents }}")
    (folder / "code.py").write_text("")
    for given, written in (
        ("GPT2Tokenizer", "PreTrainedTokenizerFast"),
        ("TokenizersBackend", "TokenizersBackend"),
        (None, "PreTrainedTokenizerFast"),
    ):
        config.write_text(json.dumps({"eos_token": "x", "tokenizer_class": given}))
        for template, kept in (
            (None, ["rag.jinja", "tool_use.jinja"]),
            # the template for tools would be taken in place of the trained one
            ("{{ trained }}", ["rag.jinja"]),
            ("", []),
        ):
            out = tmp_path / "out"
            to_hf.save(params, out, source=checkpoint, chat_template=template, overwrite=True)
            found = json.loads((out / "tokenizer_config.json").read_text())
            assert found == {"eos_token": "x", "tokenizer_class": written}
            assert sorted(file.name for file in (out / folder.name).glob("*")) == kept


def test_tensors_that_follow_from_the_config_are_ignored(params, checkpoint):
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    rewrite(checkpoint, lambda tensors: tensors.update({name: np.ones(4, np.float32)}))
    assert_same(params, from_hf.load(checkpoint))


def test_pickled_weights_are_refused_with_the_way_out(checkpoint):
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"pytorch_model.bin.*save_pretrained"):
        from_hf.load(checkpoint)
    # What is fetched of such a model on the Hub.
    (checkpoint / "pytorch_model.bin").rename(checkpoint / "pytorch_model.bin.index.json")
    with pytest.raises(ModelError, match=r"pytorch_model.bin.index.json.*save_pretrained"):
        from_hf.load(checkpoint)
    (checkpoint / "pytorch_model.bin.index.json").unlink()
    with pytest.raises(ModelError, match="never fetched"):
        from_hf.load(checkpoint)


def test_an_incomplete_download_is_refused(params, checkpoint, tmp_path):
    file = checkpoint / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelError, match="model.safetensors: cannot be read as safetensors"):
        from_hf.load(checkpoint)
    to_hf.save(params, tmp_path / "s", config=CONFIG, max_shard_bytes=12_000)
    lost = sorted((tmp_path / "s").glob("*.safetensors"))[1]
    lost.unlink()
    with pytest.raises(ModelError, match=f"index.json: names {lost.name}, not found"):
        from_hf.load(tmp_path / "s")


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/hostname", "a/b.safetensors", 3])
def test_an_index_that_leads_elsewhere_is_refused(checkpoint, name):
    index = checkpoint / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {NORM: name}}))
    with pytest.raises(ModelError, match="index.json: names .*; must be a file beside"):
        from_hf.load(checkpoint)
    index.write_text(json.dumps({"weight_map": ["model.safetensors"]}))
    with pytest.raises(ModelError, match="weight_map must be an object"):
        from_hf.load(checkpoint)
