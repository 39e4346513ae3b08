"""Rebuild a tokenizer from the metadata of a GGUF file: byte-level BPE, or SentencePiece's BPE."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from tl_jax.convert import hf_directory
from tl_jax.convert.hf_directory import ModelError

# How llama.cpp's pre-tokenizer names split text before BPE. The digit ones were trained with
# every digit on its own, which also decides how the blanks before a number are grouped.
_BYTE_LEVEL = pre_tokenizers.ByteLevel
_DIGITS = pre_tokenizers.Digits(individual_digits=True)
_LLAMA_3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA_3 = pre_tokenizers.Split(Regex(_LLAMA_3_WORDS), behavior="isolated")
_SPLITS = {
    "gpt-2": [],
    "smollm": [_DIGITS],
    "starcoder": [_DIGITS],
    "refact": [_DIGITS],
    "llama-bpe": [_LLAMA_3],
    "llama3": [_LLAMA_3],
    "llama-v3": [_LLAMA_3],
}
_TEMPLATE = "tokenizer.chat_template"
_BLANK = "▁"

_UNKNOWN, _BYTE = gguf.TokenType.UNKNOWN, gguf.TokenType.BYTE
_CONTROL, _USER_DEFINED = gguf.TokenType.CONTROL, gguf.TokenType.USER_DEFINED
_NO_PIECES = (_CONTROL, _UNKNOWN, _BYTE, _USER_DEFINED)
_NAMED = {
    "bos_token": "bos",
    "eos_token": "eos",
    "unk_token": "unknown",
    "pad_token": "padding",
}
# What llama.cpp takes for a SentencePiece vocabulary that does not say.
_SENTENCEPIECE_IDS = {"unknown": 0, "bos": 1, "eos": 2}


def build(file: Path, reader: gguf.GGUFReader) -> Tokenizer:
    """Build the tokenizer that a GGUF file describes.

    Args:
      file: The file, for messages.
      reader: The opened file.

    Raises:
      ModelError: A tokenizer of another kind, or a pre-tokenizer not known here.

    Source: ``llama_vocab::impl::load``, ``llm_tokenizer_bpe`` and ``llm_tokenizer_spm_session`` in
    llama.cpp (``src/llama-vocab.cpp``).
    """
    model = _value(reader, "model")
    tokens, kinds = _value(reader, "tokens", ()), list(_value(reader, "token_type", ()))
    kinds += [gguf.TokenType.NORMAL] * (len(tokens) - len(kinds))
    if model == "gpt2":
        core, adds_bos = _byte_level(file, reader, tokens)
        special = (_CONTROL,)
    elif model == "llama":
        core, adds_bos = _sentencepiece(file, reader, tokens, kinds), True
        special = (_CONTROL, _UNKNOWN)
    else:
        raise ModelError(
            f"{file}: tokenizer.ggml.model is {model!r}; only 'gpt2' (byte-level BPE) and 'llama' "
            "(SentencePiece) are supported"
        )

    def added(wanted: tuple[int, ...], *, special: bool) -> list[AddedToken]:
        return [
            AddedToken(token, special=special, normalized=False)
            for token, kind in zip(tokens, kinds, strict=True)
            if kind in wanted
        ]

    core.add_special_tokens(added(special, special=True))
    core.add_tokens(added((_USER_DEFINED,), special=False))
    _add_ends(core, reader, tokens, adds_bos=adds_bos)
    return core


def _byte_level(
    file: Path, reader: gguf.GGUFReader, tokens: Sequence[str]
) -> tuple[Tokenizer, bool]:
    """Return byte-level BPE, and whether it puts a first token where the file does not say."""
    split = _value(reader, "pre")
    if split not in _SPLITS:
        raise ModelError(
            f"{file}: tokenizer.ggml.pre is {split!r}; supported: {', '.join(_SPLITS)}"
        )
    is_llama_3 = _SPLITS[split] == [_LLAMA_3]
    merges = [tuple(merge.split(" ")) for merge in _value(reader, "merges", ())]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    core = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=is_llama_3))
    blank = bool(_value(reader, "add_space_prefix", False))
    byte_level = _BYTE_LEVEL(add_prefix_space=blank, use_regex=not is_llama_3)
    core.pre_tokenizer = pre_tokenizers.Sequence([*_SPLITS[split], byte_level])
    core.decoder = decoders.ByteLevel()
    return core, is_llama_3


def _sentencepiece(
    file: Path, reader: gguf.GGUFReader, tokens: Sequence[str], kinds: Sequence[int]
) -> Tokenizer:
    """Return the BPE of a SentencePiece vocabulary: the pair goes first whose whole scores best."""
    scores = _value(reader, "scores", ())
    if len(scores) != len(tokens):
        raise ModelError(
            f"{file}: tokenizer.ggml.model is 'llama', but tokenizer.ggml.scores has {len(scores)} "
            f"entries for {len(tokens)} tokens"
        )
    ids = {token: i for i, token in enumerate(tokens)}
    pieces = {t for t, kind in zip(tokens, kinds, strict=True) if kind not in _NO_PIECES}
    ranked = []
    for piece in pieces:
        for at in range(1, len(piece)):
            left, right = piece[:at], piece[at:]
            if left in pieces and right in pieces:
                ranked.append((-scores[ids[piece]], ids[piece], ids[left], (left, right)))
    ranked.sort()
    unknown = tokens[token_id(reader, "unknown") or 0]
    merges = [pair for *_, pair in ranked]
    core = Tokenizer(models.BPE(ids, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    prefixed = bool(_value(reader, "add_space_prefix", True))
    first = [normalizers.Prepend(_BLANK)] if prefixed else []
    core.normalizer = normalizers.Sequence([*first, normalizers.Replace(" ", _BLANK)])
    last = [decoders.Strip(" ", 1, 0)] if prefixed else []
    steps = [decoders.Replace(_BLANK, " "), decoders.ByteFallback(), decoders.Fuse(), *last]
    core.decoder = decoders.Sequence(steps)
    return core


def _add_ends(
    core: Tokenizer, reader: gguf.GGUFReader, tokens: Sequence[str], *, adds_bos: bool
) -> None:
    """Let the tokenizer put the first and last tokens that the file asks for."""
    defaults = {"bos": adds_bos, "eos": False}
    added = {
        which: number
        for which, default in defaults.items()
        if _value(reader, f"add_{which}_token", default)
        and (number := token_id(reader, which)) is not None
    }
    if added:
        before = [tokens[added["bos"]]] if "bos" in added else []
        after = [tokens[added["eos"]]] if "eos" in added else []
        core.post_processor = processors.TemplateProcessing(
            single=[*before, "$A", *after],
            special_tokens=[(tokens[number], number) for number in set(added.values())],
        )


def token_id(reader: gguf.GGUFReader, which: str) -> int | None:
    """Return the id of the control token ``bos``, ``eos``, ``unknown`` or ``padding``, or None."""
    defaults = _SENTENCEPIECE_IDS if _value(reader, "model") == "llama" else {}
    number = _value(reader, f"{which}_token_id", defaults.get(which))
    return None if number is None else int(number)


def save(directory: Path, core: Tokenizer, reader: gguf.GGUFReader, max_length: int) -> None:
    """Write ``tokenizer.json``, ``tokenizer_config.json`` and the chat templates, if any.

    Args:
      directory: An existing directory.
      core: What ``build`` returned.
      reader: The opened GGUF file.
      max_length: Longest sequence the model takes, in tokens.
    """
    core.save(str(directory / "tokenizer.json"))
    named = {name: token_id(reader, which) for name, which in _NAMED.items()}
    named = {name: core.id_to_token(i) for name, i in named.items() if i is not None}
    settings = {
        # The generic fast class: it takes tokenizer.json as it is, in transformers 4 and 5.
        "tokenizer_class": "PreTrainedTokenizerFast",
        **named,
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_length,
    }
    hf_directory.write_json(directory / "tokenizer_config.json", settings)
    for key, field in reader.fields.items():
        file = _template_file(directory, key)
        if file is not None:
            file.parent.mkdir(exist_ok=True)
            file.write_text(field.contents(), encoding="utf-8", newline="")


def _template_file(directory: Path, key: str) -> Path | None:
    """Return where the chat template of a key goes; None if the key is that of something else."""
    name = key.removeprefix(_TEMPLATE)
    if key == _TEMPLATE:
        return directory / "chat_template.jinja"
    if key == name or not re.fullmatch(r"\.\w[\w-]*", name):
        return None
    return directory / hf_directory.NAMED_TEMPLATES / f"{name[1:]}.jinja"


def _value(reader: gguf.GGUFReader, key: str, default: Any = None) -> Any:
    field = reader.get_field(f"tokenizer.ggml.{key}")
    return default if field is None else field.contents()
