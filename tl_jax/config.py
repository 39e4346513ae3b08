"""Frozen configuration dataclasses and the strict conversion from nested mappings."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Mapping
from typing import Any, TypeVar


class ConfigError(ValueError):
    """A configuration value that cannot be used; the message says where and what to write."""


def _choice(*allowed: str, default: str) -> Any:
    return dataclasses.field(default=default, metadata={"choices": allowed})


def _positive(default: int) -> Any:
    return dataclasses.field(default=default, metadata={"least": 1})


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Architecture of a LLaMA-family decoder and how to compute it.

    Sizes come from a Hugging Face ``config.json`` (``models/registry.py``) or, for a model
    trained from scratch, from the ``model`` section of the run configuration.
    """

    vocab_size: int
    embed_dim: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    mlp_dim: int
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5
    tie_embeddings: bool = False
    max_position: int = 2048
    dtype: str = _choice("float32", "bfloat16", default="float32")
    param_dtype: str = _choice("float32", "bfloat16", default="float32")
    remat: str = _choice("none", "dots", "full", default="dots")
    attention: str = _choice("dense", "chunked", default="chunked")


@dataclasses.dataclass(frozen=True)
class ModelSourceConfig:
    """Where the initial model comes from.

    ``path`` is a Hugging Face directory, a ``.gguf`` file, ``"embedded"`` (the small base model
    shipped with the package) or ``"scratch"`` (random weights with the sizes below and a
    byte-level BPE tokenizer trained on the data at prepare time).
    """

    path: str = "embedded"
    dtype: str = _choice("float32", "bfloat16", default="float32")
    param_dtype: str = _choice("float32", "bfloat16", default="float32")
    remat: str = _choice("none", "dots", "full", default="dots")
    attention: str = _choice("dense", "chunked", default="chunked")
    scratch_vocab_size: int = 2048
    scratch_embed_dim: int = 128
    scratch_num_layers: int = 4
    scratch_num_heads: int = 4
    scratch_num_kv_heads: int = 2
    scratch_mlp_dim: int = 384


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Sizes of the device mesh axes; one axis may be -1 (all remaining devices)."""

    data: int = 1
    fsdp: int = -1
    tensor: int = 1


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Training trajectories, their text form and how they are batched.

    ``path`` is a ``.jsonl``/``.jsonl.gz``/``.json`` file or ``"synthetic"``.
    ``max_trajectories`` and ``max_prompts`` of 0 mean no limit.
    """

    path: str = "synthetic"
    format: str = _choice("auto", "canonical", "tl_training", "rotllama", default="auto")
    template: str = _choice("released", "script", default="released")
    max_length: int = 1024
    batch_size: int = _positive(8)
    packing: bool = True
    packing_bins: int = 64
    max_trajectories: int = 0
    max_prompts: int = 0
    validation_fraction: float = 0.02
    max_bad_fraction: float = 0.02
    synthetic_trajectories: int = 1200
    prefetch: int = 2


@dataclasses.dataclass(frozen=True)
class MaeConfig:
    """Mitigating adverse effects: which calls are judged wrong and what happens to them."""

    rules: str = _choice("off", "reference", "structured", default="structured")
    action: str = _choice("drop", "mask", default="drop")


@dataclasses.dataclass(frozen=True)
class KeyTokenConfig:
    """Prioritising key tokens: ``w = clip(|other| / |key|, 1, w_max)``.

    ``normalise="reply"`` divides the weights of each reply by their sum, so that every reply
    counts the same (the published code); ``"token"`` leaves them as they are.
    """

    mode: str = _choice("off", "paper", "code", default="paper")
    w_max: float = 9.0
    normalise: str = _choice("token", "reply", default="token")


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """AdamW with linear warm-up and a cosine or constant schedule."""

    learning_rate: float = 1e-3
    warmup_steps: int = 10
    schedule: str = _choice("cosine", "constant", default="cosine")
    final_fraction: float = 0.1
    b1: float = 0.9
    b2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.01
    clip_norm: float = 1.0


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Length of the supervised phase and what it reports."""

    steps: int = 200
    accumulation: int = _positive(1)
    ce_chunk: int = 1024
    log_every: int = _positive(10)
    eval_every: int = _positive(100)
    eval_batches: int = 4


@dataclasses.dataclass(frozen=True)
class RewardConfig:
    """Rule-based reward: ``reference`` (as published) or ``strict`` (real parser, typed values)."""

    mode: str = _choice("reference", "strict", default="strict")
    clip: float = 5.0
    free_text_tools: tuple[str, ...] = ("finish", "ask_to_user")


@dataclasses.dataclass(frozen=True)
class PpoConfig:
    """Reward training: rollouts, advantages and the clipped losses."""

    steps: int = 30
    prompts_per_step: int = _positive(16)
    samples_per_prompt: int = _positive(2)
    max_prompt_length: int = 896
    max_new_tokens: int = 64
    temperature: float = 1.0
    top_p: float = 1.0
    kl_coef: float = 0.1
    gamma: float = 1.0
    gae_lambda: float = 0.95
    whiten_advantages: bool = True
    clip_ratio: float = 0.2
    clip_value: float = 0.2
    epochs: int = _positive(1)
    minibatches: int = _positive(1)
    critic_warmup_steps: int = 2
    value_stop_gradient: bool = True
    value_learning_rate: float = 1e-2
    ce_coef: float = 0.0
    reward_coef: float = 1.0
    value_coef: float = 1.0


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """When training state is saved and how much of it is kept."""

    every_steps: int = _positive(100)
    keep: int = _positive(2)


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """Greedy evaluation: limits of generation and which sets are scored.

    ``synthetic_trajectories`` held-out dialogues of the embedded world are scored for seen and as
    many for unseen tools (0: none); ``rotbench_path`` is RoTBench's first-turn file (empty: not
    scored). ``max_tasks`` caps every set (0: no cap).
    """

    batch_size: int = 32
    max_new_tokens: int = 96
    max_prompt_length: int = 1024
    max_tasks: int = 0
    synthetic_trajectories: int = 80
    rotbench_path: str = ""


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything one run needs; written to ``config.json`` in the run directory."""

    run_dir: str = "runs/quickstart"
    seed: int = 0
    model: ModelSourceConfig = ModelSourceConfig()
    mesh: MeshConfig = MeshConfig()
    data: DataConfig = DataConfig()
    mae: MaeConfig = MaeConfig()
    key_tokens: KeyTokenConfig = KeyTokenConfig()
    train: TrainConfig = TrainConfig()
    optim: OptimConfig = OptimConfig()
    reward: RewardConfig = RewardConfig()
    ppo: PpoConfig = PpoConfig()
    ppo_optim: OptimConfig = OptimConfig(learning_rate=1e-4, schedule="constant", weight_decay=0.0)
    checkpoint: CheckpointConfig = CheckpointConfig()
    evaluate: EvaluateConfig = EvaluateConfig()


T = TypeVar("T")


def from_dict(cls: type[T], values: Mapping[str, Any], path: str = "config") -> T:
    """Build the frozen dataclass ``cls`` from a nested mapping, strictly.

    Args:
      cls: A dataclass of this module.
      values: Field values; nested dataclasses are nested mappings. Missing fields keep their
        defaults.
      path: Dotted name used in messages.

    Raises:
      ConfigError: An unknown key (with the nearest known one), a value of the wrong type, or a
        value outside the allowed choices.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        if key not in fields:
            raise _unknown(path, key, list(fields))
        default = fields[key].default
        if isinstance(value, Mapping) and dataclasses.is_dataclass(default):
            # The section's own defaults may differ from those of its class.
            value = {**vars(default), **value}
        arguments[key] = _convert(hints[key], value, f"{path}.{key}", fields[key].metadata)
    missing = [
        name
        for name, field in fields.items()
        if name not in arguments
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{path} lacks {', '.join(missing)}")
    for name, value in arguments.items():
        least = fields[name].metadata.get("least")
        if least is not None and value < least:
            raise ConfigError(f"{path}.{name} must be at least {least}, got {value}")
    return cls(**arguments)


def check_path(path: str) -> None:
    """Refuse a dotted setting that RunConfig does not have, such as ``optim.learn_rate``.

    Raises:
      ConfigError: The message names the nearest setting.
    """
    kind: Any = RunConfig
    done = "config"
    for key in path.split("."):
        if not dataclasses.is_dataclass(kind):
            raise ConfigError(f"{done} is a value and has no {key}")
        names = [field.name for field in dataclasses.fields(kind)]
        if key not in names:
            raise _unknown(done, key, names)
        kind, done = typing.get_type_hints(kind)[key], f"{done}.{key}"


def to_dict(config: Any) -> dict[str, Any]:
    """Return the nested plain-dict form of a configuration dataclass (JSON-ready)."""
    return dataclasses.asdict(config)


def _unknown(path: str, key: str, names: list[str]) -> ConfigError:
    near = difflib.get_close_matches(key, names, n=1)
    hint = f"did you mean {path}.{near[0]}?" if near else f"known: {', '.join(names)}"
    return ConfigError(f"unknown setting {path}.{key}; {hint}")


def _convert(kind: Any, value: Any, path: str, metadata: Mapping[str, Any]) -> Any:
    if dataclasses.is_dataclass(kind):
        if isinstance(value, kind):
            return value
        if not isinstance(value, Mapping):
            raise ConfigError(f"{path} must be a section, got {value!r}")
        return from_dict(kind, value, path)  # type: ignore[arg-type]
    if typing.get_origin(kind) is tuple:
        if isinstance(value, str) or not isinstance(value, (list, tuple)):
            raise ConfigError(f"{path} must be a list, got {value!r}")
        item = typing.get_args(kind)[0]
        return tuple(_convert(item, v, f"{path}[{i}]", {}) for i, v in enumerate(value))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        raise ConfigError(f"{path} must be {kind.__name__}, got {value!r}")
    choices = metadata.get("choices")
    if choices and value not in choices:
        raise ConfigError(f"{path} must be one of {', '.join(choices)}, got {value!r}")
    return value
