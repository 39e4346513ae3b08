"""Hugging Face ``config.json`` to ``ModelConfig`` and back: the families, and what is refused."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tl_jax.config import ModelConfig, RunConfig
from tl_jax.config.fields import from_dict
from tl_jax.errors import ConfigError
from tl_jax.models import other_fields, rope_fields, windows


@dataclasses.dataclass(frozen=True)
class Family:
    """What sets one family of checkpoints apart from the others.

    Attributes:
      architecture: The entry of ``architectures``.
      defaults: What its configuration class in transformers assumes for fields that a file leaves
        out.
      only: Fields that change the computation, with the one value implemented (an absent field
        counts as that).
      always: Fields of ``ModelConfig`` that are the same for all its models.
      switches: Fields of the same name on both sides: value in the file to our value.
      read_windows: Returns ``ModelConfig.sliding_windows`` of a file (``models/windows.py``).
      write_windows: Returns the fields that say them.
      even_heads: ``hidden_size`` must be a multiple of the number of heads, whatever ``head_dim``.

    Source: ``transformers/models/*/configuration_*.py`` and ``modeling_*.py``.
    """

    architecture: str
    defaults: Mapping[str, Any]
    only: Mapping[str, Any]
    always: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    switches: Mapping[str, Mapping[bool, Any]] = dataclasses.field(default_factory=dict)
    read_windows: Callable[[Mapping[str, Any], int], tuple[int, ...]] = windows.read_by_layer
    write_windows: Callable[[ModelConfig], dict[str, Any]] = windows.write_by_layer
    even_heads: bool = False


_ATTENTION_BIAS = {False: "none", True: "qkvo"}
_MLP_BIAS = {False: False, True: True}
_QWEN_DEFAULTS = {
    "num_key_value_heads": 32,
    "max_position_embeddings": 32768,
    "sliding_window": 4096,
    "max_window_layers": 28,
}

# By model_type. A configuration that several can express is written as the first of them.
FAMILIES = {
    "llama": Family(
        architecture="LlamaForCausalLM",
        defaults={"max_position_embeddings": 2048},
        only={"sliding_window": None},
        switches={"attention_bias": _ATTENTION_BIAS, "mlp_bias": _MLP_BIAS},
        read_windows=windows.read_none,
        write_windows=windows.write_none,
        even_heads=True,
    ),
    "mistral": Family(
        architecture="MistralForCausalLM",
        defaults={
            "num_key_value_heads": 8,
            "max_position_embeddings": 131072,
            "sliding_window": 4096,
        },
        only={"attention_bias": False, "mlp_bias": False},
        read_windows=windows.read_shared,
        write_windows=windows.write_shared,
    ),
    "qwen2": Family(
        architecture="Qwen2ForCausalLM",
        defaults=_QWEN_DEFAULTS,
        only={"attention_bias": True, "mlp_bias": False},
        always={"attention_bias": "qkv"},
    ),
    "qwen3": Family(
        architecture="Qwen3ForCausalLM",
        defaults=_QWEN_DEFAULTS | {"head_dim": 128},
        only={"mlp_bias": False},
        always={"qk_norm": True},
        switches={"attention_bias": _ATTENTION_BIAS},
    ),
}

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

# Fields in which null says something of its own; elsewhere it counts as absent.
_NULLABLE = ("num_key_value_heads", "head_dim", "sliding_window")

# Defaults that all families share.
_DEFAULTS = {"rms_norm_eps": 1e-6, "tie_word_embeddings": False}
_DEFAULT_ROPE_THETA = 10000.0
# Fields read one by one: by the registry itself, for windows and for rotary embeddings.
_READ = ("model_type", "architectures", *windows.FIELDS, *rope_fields.FIELDS)

# Fields of ModelConfig in which families differ, and their plainest value.
_PLAIN = {"attention_bias": "none", "mlp_bias": False, "qk_norm": False}


def read_config(
    path: str | Path,
    *,
    dtype: str = "float32",
    param_dtype: str = "float32",
    remat: str = "minimal",
    attention: str = "auto",
) -> ModelConfig:
    """Read the architecture of a checkpoint from its ``config.json``.

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
    """
    file, raw = _read_json(Path(path))
    compute = {"dtype": dtype, "param_dtype": param_dtype, "remat": remat, "attention": attention}
    return dataclasses.replace(parse(raw, source=str(file)), **compute)


def parse(raw: Mapping[str, Any], *, source: str) -> ModelConfig:
    """Return the architecture that the fields of a ``config.json`` describe.

    Args:
      raw: The fields.
      source: Where they come from, for messages.

    Raises:
      ConfigError: As for ``read_config``.
    """
    try:
        values = _values(raw)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error
    return from_dict(ModelConfig, values, path=source)


def context_length(model: ModelConfig) -> int:
    """Return the most tokens a text may have: with YaRN scaling, what the scaling stretches to."""
    scaling = model.rope_scaling
    if scaling.kind != "yarn":
        return model.max_position
    return max(model.max_position, int(scaling.factor * scaling.original_max_position))


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
        if config.environment.path:
            names = "config.ppo.max_prompt_length + config.environment.max_tokens"
            lengths[names] = ppo.max_prompt_length + config.environment.max_tokens
    names = "config.evaluate.max_prompt_length + max_new_tokens"
    lengths[names] = evaluate.max_prompt_length + evaluate.max_new_tokens
    context = context_length(model)
    for name, length in lengths.items():
        if length > context:
            raise ConfigError(
                f"{name} is {length}, but the model's context is {context} tokens; lower it"
            )


def to_hf_config(config: ModelConfig) -> dict[str, Any]:
    """Return the ``config.json`` of a model that was not loaded from one.

    Token ids are left empty; the exporter fills them in from the generation settings.

    Raises:
      ConfigError: No family has this combination of fields.
    """
    model_type = _expressing(config)
    return {
        "architectures": [FAMILIES[model_type].architecture],
        "model_type": model_type,
        **_sizes(config),
        "hidden_act": "silu",
        "attention_dropout": 0.0,
        **_differences(FAMILIES[model_type], config),
        **rope_fields.write(config.rope_theta, config.rope_scaling),
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

    Raises:
      ConfigError: The family of ``original`` does not have what ``after`` asks for.
    """
    updated = dict(original)
    family = _family(original)
    for fields in (_sizes, functools.partial(_differences, family)):
        old = fields(before)
        updated |= {field: new for field, new in fields(after).items() if new != old[field]}
    section = original.get("rope_parameters")
    if before.rope_theta != after.rope_theta:
        if section:
            updated["rope_parameters"] = {**section, "rope_theta": after.rope_theta}
        if "rope_theta" in original or not section:
            updated["rope_theta"] = after.rope_theta
    if before.rope_scaling != after.rope_scaling:
        scaling = rope_fields.write_section(after.rope_scaling)
        if section:
            updated["rope_parameters"] = scaling | {"rope_theta": after.rope_theta}
        if "rope_scaling" in original or not section:
            updated["rope_scaling"] = None if after.rope_scaling.kind == "none" else scaling
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
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: not valid JSON: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{file}: must be a JSON object, got {type(raw).__name__}")
    return file, raw


def _values(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of ``ModelConfig`` that a file says."""
    family = _family(raw)
    other_fields.check(raw, {*_FIELDS, *_READ, *family.switches}, family.only)
    missing = [field for field in _REQUIRED if raw.get(field) is None]
    if missing:
        raise ConfigError(f"lacks {', '.join(missing)}")
    given = {field: raw[field] for field in raw if raw[field] is not None or field in _NULLABLE}
    raw = {**_DEFAULTS, **family.defaults, **given}
    sizes = {field: raw[field] for field in _FIELDS if raw.get(field) is not None}
    sizes.setdefault("num_key_value_heads", sizes["num_attention_heads"])
    _check_sizes(sizes, family)
    sizes.setdefault("head_dim", sizes["hidden_size"] // sizes["num_attention_heads"])
    if sizes["head_dim"] % 2:
        raise ConfigError(f"head_dim is {sizes['head_dim']}; rotary pairs need it even")
    switched = {}
    for field, meanings in family.switches.items():
        value = raw.get(field) or False
        if type(value) is not bool:
            raise ConfigError(f"{field} must be true or false, got {value!r}")
        switched[field] = meanings[value]
    return {
        **{_FIELDS[field]: value for field, value in sizes.items()},
        **family.always,
        **switched,
        "sliding_windows": family.read_windows(raw, sizes["num_hidden_layers"]),
        "rope_theta": rope_fields.read_theta(raw, _DEFAULT_ROPE_THETA),
        "rope_scaling": rope_fields.read_scaling(raw, sizes["max_position_embeddings"]),
    }


def _family(raw: Mapping[str, Any]) -> Family:
    model_type = raw.get("model_type")
    if model_type is None and "run_dir" in raw:
        raise ConfigError(
            "these are the settings of a run, not of a model; its model is in export/ once `tl-jax "
            "convert --run=DIR` has written it"
        )
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise ConfigError(f"model_type is {model_type!r}; supported: {', '.join(FAMILIES)}")
    family = FAMILIES[model_type]
    if (raw.get("architectures") or [family.architecture]) not in (
        family.architecture,
        [family.architecture],
    ):
        raise ConfigError(
            f"architectures is {raw['architectures']}; supported for {model_type}: "
            f"{family.architecture}"
        )
    return family


def _check_sizes(sizes: Mapping[str, Any], family: Family) -> None:
    for field, value in sizes.items():
        if field == "tie_word_embeddings":
            fits, wanted = isinstance(value, bool), "true or false"
        elif field == "rms_norm_eps":
            fits, wanted = isinstance(value, float) and 0 < value < math.inf, "a positive number"
        else:
            # A damaged size is refused before it takes memory.
            most = 10_000 if field == "num_hidden_layers" else 2**31 - 1
            fits = type(value) is int and 0 < value <= most
            wanted = f"a positive integer of at most {most:,}"
        if not fits:
            raise ConfigError(f"{field} must be {wanted}, got {value!r}")
    heads, kv_heads = sizes["num_attention_heads"], sizes["num_key_value_heads"]
    if sizes["hidden_size"] % heads and (family.even_heads or "head_dim" not in sizes):
        raise ConfigError(
            f"hidden_size {sizes['hidden_size']} is not a multiple of num_attention_heads {heads}"
        )
    if heads % kv_heads:
        raise ConfigError(
            f"num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}"
        )


def _sizes(config: ModelConfig) -> dict[str, Any]:
    return {field: getattr(config, name) for field, name in _FIELDS.items()}


def _differences(family: Family, config: ModelConfig) -> dict[str, Any]:
    """Return the fields in which families differ, as ``family`` writes them.

    Raises:
      ConfigError: The family does not have what ``config`` asks for; the message names the field.
    """
    fields = {}
    for name, plain in _PLAIN.items():
        value = getattr(config, name)
        meanings = family.switches.get(name, {False: family.always.get(name, plain)})
        if value not in meanings.values():
            raise ConfigError(f"{name} is {value!r}; {family.architecture} has no such models")
        if name in family.switches:
            fields[name] = next(raw for raw, ours in meanings.items() if ours == value)
    return fields | family.write_windows(config)


def _expressing(config: ModelConfig) -> str:
    """Return the ``model_type`` of the first family that has models of this configuration."""
    refusals = []
    for model_type, family in FAMILIES.items():
        try:
            _differences(family, config)
        except ConfigError as error:
            refusals.append(f"{model_type}: {error}")
        else:
            return model_type
    raise ConfigError(f"no family of checkpoints has this configuration ({'; '.join(refusals)})")
