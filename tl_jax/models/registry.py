"""Hugging Face ``config.json`` to ``ModelConfig`` and back; what is not supported is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tl_jax.config import ModelConfig, RunConfig
from tl_jax.settings import ConfigError, from_dict

_ARCHITECTURE = "LlamaForCausalLM"

# Field of config.json -> field of ModelConfig, for the sizes and switches both sides name.
_FIELDS = {
    "vocab_size": "vocab_size",
    "hidden_size": "embed_dim",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "num_key_value_heads": "num_kv_heads",
    "head_dim": "head_dim",
    "intermediate_size": "mlp_dim",
    "rms_norm_eps": "norm_eps",
    "tie_word_embeddings": "tie_embeddings",
    "max_position_embeddings": "max_position",
}

_REQUIRED = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
_REQUIRED += ("intermediate_size",)

# What transformers' LlamaConfig assumes for a field that the file leaves out.
_DEFAULTS = {
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "max_position_embeddings": 2048,
}
_DEFAULT_ROPE_THETA = 10000.0

# Fields that change the computation; only these values are implemented (absent counts as such).
_IMPLEMENTED = {
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "attention_dropout": 0.0,
    "rope_interleaved": False,
    "partial_rotary_factor": 1.0,
    "sliding_window": None,
    "quantization_config": None,
}


def read_config(
    path: str | Path,
    *,
    dtype: str = "float32",
    param_dtype: str = "float32",
    remat: str = "dots",
    attention: str = "chunked",
) -> ModelConfig:
    """Read the architecture of a LLaMA checkpoint from its ``config.json``.

    Args:
      path: A Hugging Face model directory, or its ``config.json``.
      dtype: Activation type.
      param_dtype: Parameter type.
      remat: Rematerialisation policy.
      attention: Attention implementation.

    Returns:
      The validated model configuration.

    Raises:
      ConfigError: The file is absent or not JSON, a field is missing, contradictory or not
        implemented; the message names the file and the field.

    Source: ``transformers/models/llama/configuration_llama.py`` (fields and defaults).
    """
    file, raw = _read_json(Path(path))
    _check_architecture(file, raw)
    for field, value in _IMPLEMENTED.items():
        if raw.get(field, value) not in (value, None):
            raise ConfigError(
                f"{file}: {field} is {raw[field]!r}; only {value!r} is implemented for LLaMA models"
            )
    missing = [field for field in _REQUIRED if raw.get(field) is None]
    if missing:
        raise ConfigError(f"{file}: lacks {', '.join(missing)}")
    sizes = {field: raw[field] for field in _FIELDS if raw.get(field) is not None}
    for field, value in _DEFAULTS.items():
        sizes.setdefault(field, value)
    sizes.setdefault("num_key_value_heads", sizes["num_attention_heads"])
    _check_sizes(file, sizes)
    sizes.setdefault("head_dim", sizes["hidden_size"] // sizes["num_attention_heads"])
    if sizes["head_dim"] % 2:
        raise ConfigError(f"{file}: head_dim is {sizes['head_dim']}; rotary pairs need it even")
    values = {_FIELDS[field]: value for field, value in sizes.items()}
    values |= {"rope_theta": _rope_theta(file, raw)}
    values |= {"dtype": dtype, "param_dtype": param_dtype, "remat": remat, "attention": attention}
    return from_dict(ModelConfig, values, path=str(file))


def check_lengths(config: RunConfig, model: ModelConfig) -> None:
    """Refuse texts longer than the context the model was made for.

    Raises:
      ConfigError: The message names the settings, the sum and the limit.
    """
    ppo, evaluate = config.ppo, config.evaluate
    lengths = {"config.data.max_length": config.data.max_length}
    if ppo.steps:
        names = "config.ppo.max_prompt_length + max_new_tokens"
        lengths[names] = ppo.max_prompt_length + ppo.max_new_tokens
    names = "config.evaluate.max_prompt_length + max_new_tokens"
    lengths[names] = evaluate.max_prompt_length + evaluate.max_new_tokens
    for name, length in lengths.items():
        if length > model.max_position:
            raise ConfigError(
                f"{name} is {length}, but the model's context is {model.max_position} tokens; "
                "lower it"
            )


def to_hf_config(config: ModelConfig) -> dict[str, Any]:
    """Return the ``config.json`` of a model that was not loaded from one.

    Token ids are left empty; the exporter fills them in from the generation settings.
    """
    values = {field: getattr(config, name) for field, name in _FIELDS.items()}
    return {
        "architectures": [_ARCHITECTURE],
        "model_type": "llama",
        **values,
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        # Written twice: transformers 4 reads the top-level field, transformers 5 the section.
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "initializer_range": 0.02,
        "use_cache": True,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
        "torch_dtype": config.param_dtype,
    }


def update_hf_config(
    original: Mapping[str, Any], before: ModelConfig, after: ModelConfig, dtype: str
) -> dict[str, Any]:
    """Return ``original`` with only the fields whose meaning changed replaced.

    Args:
      original: The ``config.json`` that ``before`` was read from.
      before: Configuration read from ``original``.
      after: Configuration of the parameters being written.
      dtype: Type of the tensors being written.
    """
    updated = dict(original)
    for field, name in _FIELDS.items():
        if getattr(before, name) != getattr(after, name):
            updated[field] = getattr(after, name)
    if before.rope_theta != after.rope_theta:
        if original.get("rope_parameters"):
            updated["rope_parameters"] = {
                **original["rope_parameters"],
                "rope_theta": after.rope_theta,
            }
        if "rope_theta" in original or not original.get("rope_parameters"):
            updated["rope_theta"] = after.rope_theta
    names = [name for name in ("dtype", "torch_dtype") if name in original] or ["torch_dtype"]
    updated |= dict.fromkeys(names, dtype)
    return updated


def _read_json(path: Path) -> tuple[Path, dict[str, Any]]:
    file = path / "config.json" if path.is_dir() else path
    if not file.is_file():
        raise ConfigError(
            f"{file}: no such file; give a local Hugging Face directory (fetch one with "
            "`hf download NAME --local-dir DIR`)"
        )
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{file}: not valid JSON: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{file}: must be a JSON object, got {type(raw).__name__}")
    return file, raw


def _check_architecture(file: Path, raw: Mapping[str, Any]) -> None:
    architectures = raw.get("architectures") or [_ARCHITECTURE]
    if architectures != [_ARCHITECTURE]:
        raise ConfigError(f"{file}: architectures is {architectures}; supported: {_ARCHITECTURE}")
    if raw.get("model_type") != "llama":
        raise ConfigError(f"{file}: model_type is {raw.get('model_type')!r}; supported: 'llama'")


def _check_sizes(file: Path, sizes: Mapping[str, Any]) -> None:
    for field, value in sizes.items():
        if field == "tie_word_embeddings":
            fits, wanted = isinstance(value, bool), "true or false"
        elif field == "rms_norm_eps":
            fits, wanted = isinstance(value, float) and value > 0, "a positive number"
        else:
            fits, wanted = type(value) is int and value > 0, "a positive integer"
        if not fits:
            raise ConfigError(f"{file}: {field} must be {wanted}, got {value!r}")
    heads, kv_heads = sizes["num_attention_heads"], sizes["num_key_value_heads"]
    if sizes["hidden_size"] % heads:
        raise ConfigError(
            f"{file}: hidden_size {sizes['hidden_size']} is not a multiple of "
            f"num_attention_heads {heads}"
        )
    if heads % kv_heads:
        raise ConfigError(
            f"{file}: num_attention_heads {heads} is not a multiple of "
            f"num_key_value_heads {kv_heads}"
        )


def _rope_theta(file: Path, raw: Mapping[str, Any]) -> float:
    """Return the rotary base; transformers 5 moved it from the top level into a section."""
    bases: dict[str, float] = {}
    if raw.get("rope_theta") is not None:
        bases["rope_theta"] = float(raw["rope_theta"])
    for field in ("rope_scaling", "rope_parameters"):
        section = raw.get(field) or {}
        kind = section.get("rope_type", section.get("type", "default"))
        if kind != "default":
            raise ConfigError(
                f"{file}: {field}.rope_type is {kind!r}; only 'default' (unscaled) is implemented"
            )
        if section.get("partial_rotary_factor", 1.0) != 1.0:
            raise ConfigError(f"{file}: {field}.partial_rotary_factor must be 1.0")
        if section.get("rope_theta") is not None:
            bases[f"{field}.rope_theta"] = float(section["rope_theta"])
    if len(set(bases.values())) > 1:
        raise ConfigError(f"{file}: rotary bases disagree: {bases}")
    return next(iter(bases.values()), _DEFAULT_ROPE_THETA)
