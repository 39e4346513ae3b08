"""The ids of a directory are those of its tokenizer.json, whatever class it names."""

import base64
import json
import shutil

import pytest
import tokenizers
import transformers
from tokenizers import decoders, models, pre_tokenizers

from tl_jax.convert import hf_directory
from tl_jax.data.tokenize.pretrained import served_alike
from tl_jax.data.tokenize.tokenizer import load_tokenizer, train_byte_bpe

CLASSES = ("GPT2Tokenizer", "LlamaTokenizer", "LlamaTokenizerFast", "Qwen2Tokenizer", None)
TEXT = 'tel 12 345  678\n 9: "3.14" naïve cafe\u0301'


def named(folder, target, name, **config):
    """Copy a tokenizer into a directory that names another class."""
    shutil.copytree(folder, target)
    file = target / "tokenizer_config.json"
    settings = json.loads(file.read_text()) | config
    settings.pop("tokenizer_class", None)
    file.write_text(json.dumps(settings | ({"tokenizer_class": name} if name else {})))
    (target / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return target


def test_the_class_changes_no_id_here_or_in_transformers(tmp_path):
    folder = tmp_path / "bpe"
    train_byte_bpe([TEXT, "tel  12 "] * 9, 300, folder)
    core = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = core.encode(TEXT, add_special_tokens=False).ids
    prints = set()
    for name in CLASSES:
        source = named(folder, tmp_path / f"as {name}", name)
        loaded = load_tokenizer(source)
        assert loaded.encode(TEXT)[0] == ids
        prints.add(loaded.fingerprint)
        export = tmp_path / f"export of {name}"
        export.mkdir()
        hf_directory.copy_tokenizer(source, export)
        shutil.copy(source / "config.json", export)
        served = transformers.AutoTokenizer.from_pretrained(export)
        assert served(TEXT, add_special_tokens=False)["input_ids"] == ids
        assert served.eos_token_id == loaded.eos_id and served_alike(str(export))
        prints.add(load_tokenizer(export).fingerprint)
    assert len(prints) == 1
    # a type of model for which the library names the class, not the directory
    (export / "config.json").write_text('{"model_type": "qwen2"}')
    assert not served_alike(str(export))


def test_other_steps_make_another_fingerprint(tmp_path, monkeypatch):
    tokenizer = train_byte_bpe([TEXT] * 9, 290, tmp_path / "bpe")
    read = transformers.PreTrainedTokenizerFast.from_pretrained

    def other_steps(*args, **kwargs):
        fast = read(*args, **kwargs)
        fast.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        return fast

    monkeypatch.setattr(transformers.PreTrainedTokenizerFast, "from_pretrained", other_steps)
    assert load_tokenizer(tmp_path / "bpe").fingerprint != tokenizer.fingerprint


def test_control_tokens_that_only_the_class_names_are_found(tmp_path):
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<|endoftext|>"]
    core = tokenizers.Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.save(str(tmp_path / "tokenizer.json"))
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))
    assert load_tokenizer(tmp_path).eos_id == 256
    config.write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    with pytest.raises(ValueError, match="no eos_token"):
        load_tokenizer(tmp_path)


def test_a_package_that_brings_a_tokenizer_of_its_own_changes_nothing(tmp_path, monkeypatch):
    asked = []
    read = transformers.AutoTokenizer.from_pretrained

    def automatic(path, **settings):
        # With mistral-common installed the library takes its tokenizer, unless told otherwise.
        asked.append(settings.get("mistral_format"))
        assert settings["mistral_format"] is False
        return read(path, **settings)

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", automatic)
    train_byte_bpe([TEXT] * 9, 290, tmp_path / "both")
    tekken = {
        "config": {"pattern": r"\p{N}|\s+|[^\s\p{N}]+", "default_num_special_tokens": 4},
        "vocab": [
            {"rank": rank, "token_bytes": base64.b64encode(part).decode(), "token_str": None}
            for rank, part in enumerate([*(bytes([byte]) for byte in range(256)), b"te", b"tel"])
        ],
        "special_tokens": [
            {"rank": rank, "token_str": text, "is_control": True}
            for rank, text in enumerate(("<unk>", "<s>", "</s>", "<pad>"))
        ],
    }
    (tmp_path / "alone").mkdir()
    for folder in ("both", "alone"):
        (tmp_path / folder / "config.json").write_text('{"model_type": "mistral"}')
        (tmp_path / folder / "tekken.json").write_text(json.dumps(tekken))
    load_tokenizer(tmp_path / "both")
    assert not asked
    loaded = load_tokenizer(tmp_path / "alone")
    assert asked == [False] and loaded.eos_id == 2
    assert loaded.encode("tel 12")[0] == [4 + 257, *(4 + ord(char) for char in " 12")]
    export = tmp_path / "export"
    export.mkdir()
    hf_directory.copy_tokenizer(tmp_path / "both", export)
    assert not (export / "tekken.json").exists()
    hf_directory.copy_tokenizer(tmp_path / "alone", export)
    assert (export / "tekken.json").exists()
