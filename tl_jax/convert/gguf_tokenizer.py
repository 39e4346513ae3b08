"""Rebuild a byte-level BPE tokenizer from the metadata of a GGUF file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from tl_jax.convert import hf_directory
from tl_jax.convert.hf_directory import ModelError

# How llama.cpp's pre-tokenizer names split text before BPE. The digit ones were trained with
# every digit on its own, which also decides how the blanks before a number are grouped.
_SPLITS_DIGITS = {"gpt-2": False, "smollm": True, "starcoder": True, "refact": True}

_CONTROL, _USER_DEFINED = gguf.TokenType.CONTROL, gguf.TokenType.USER_DEFINED
_NAMED = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
}


def build(file: Path, reader: gguf.GGUFReader) -> Tokenizer:
    """Build the tokenizer that a GGUF file describes.

    Args:
      file: The file, for messages.
      reader: The opened file.

    Raises:
      ModelError: A tokenizer that is not byte-level BPE, or a pre-tokenizer not known here.

    Source: ``llama_vocab::impl::load`` and ``llm_tokenizer_bpe`` in llama.cpp
    (``src/llama-vocab.cpp``).
    """
    model, split = _value(reader, "model"), _value(reader, "pre")
    if model != "gpt2":
        raise ModelError(
            f"{file}: tokenizer.ggml.model is {model!r}; only 'gpt2' (byte-level BPE) is supported"
        )
    if split not in _SPLITS_DIGITS:
        raise ModelError(
            f"{file}: tokenizer.ggml.pre is {split!r}; supported: {', '.join(_SPLITS_DIGITS)}"
        )
    tokens = _value(reader, "tokens")
    merges = [tuple(merge.split(" ")) for merge in _value(reader, "merges", ())]
    core = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    byte_level = pre_tokenizers.ByteLevel(
        add_prefix_space=bool(_value(reader, "add_space_prefix", False))
    )
    digits = pre_tokenizers.Digits(individual_digits=True)
    steps = [digits, byte_level] if _SPLITS_DIGITS[split] else [byte_level]
    core.pre_tokenizer = pre_tokenizers.Sequence(steps)
    core.decoder = decoders.ByteLevel()
    kinds = _value(reader, "token_type", ())
    core.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token, kind in zip(tokens, kinds, strict=False)
            if kind == _CONTROL
        ]
    )
    core.add_tokens(
        [
            AddedToken(token, special=False, normalized=False)
            for token, kind in zip(tokens, kinds, strict=False)
            if kind == _USER_DEFINED
        ]
    )
    added = {
        which: _value(reader, f"{which}_token_id")
        for which in ("bos", "eos")
        if _value(reader, f"add_{which}_token", False)
    }
    if added:
        before = [tokens[added["bos"]]] if "bos" in added else []
        after = [tokens[added["eos"]]] if "eos" in added else []
        core.post_processor = processors.TemplateProcessing(
            single=[*before, "$A", *after],
            special_tokens=[(tokens[number], number) for number in set(added.values())],
        )
    return core


def save(directory: Path, core: Tokenizer, reader: gguf.GGUFReader, max_length: int) -> None:
    """Write ``tokenizer.json``, ``tokenizer_config.json`` and the chat template, if any.

    Args:
      directory: An existing directory.
      core: What ``build`` returned.
      reader: The opened GGUF file.
      max_length: Longest sequence the model takes, in tokens.
    """
    core.save(str(directory / "tokenizer.json"))
    named = {name: _value(reader, key) for name, key in _NAMED.items()}
    named = {name: core.id_to_token(i) for name, i in named.items() if i is not None}
    settings = {
        # The generic fast class: it takes tokenizer.json as it is, in transformers 4 and 5.
        "tokenizer_class": "PreTrainedTokenizerFast",
        **named,
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_length,
    }
    hf_directory.write_json(directory / "tokenizer_config.json", settings)
    template = reader.get_field("tokenizer.chat_template")
    if template is not None:
        text = template.contents()
        (directory / "chat_template.jinja").write_text(text, encoding="utf-8", newline="")


def _value(reader: gguf.GGUFReader, key: str, default: Any = None) -> Any:
    field = reader.get_field(f"tokenizer.ggml.{key}")
    return default if field is None else field.contents()
