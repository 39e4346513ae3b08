"""Frozen configuration dataclasses and the strict conversion from nested mappings."""

from __future__ import annotations

import dataclasses
import difflib
import operator
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar


class ConfigError(ValueError):
    """A configuration value that cannot be used; the message says where and what to write."""


def _choice(*allowed: str, default: str | tuple[str, ...]) -> Any:
    return dataclasses.field(default=default, metadata={"choices": allowed})


_LIMITS: dict[str, tuple[Callable[[float, float], bool], str]] = {
    "least": (operator.ge, "at least"),
    "above": (operator.gt, "above"),
    "most": (operator.le, "at most"),
    "below": (operator.lt, "below"),
}


def _number(default: int | float, **limits: float) -> Any:
    """Declare a number that must keep to ``limits``, named as in ``_LIMITS``."""
    assert limits.keys() <= _LIMITS.keys()
    return dataclasses.field(default=default, metadata={"limits": limits})


def _positive(default: int) -> Any:
    return _number(default, least=1)


def _above_zero(default: float) -> Any:
    return _number(default, above=0)


def _not_negative(default: int | float) -> Any:
    return _number(default, least=0)


def _share(default: float) -> Any:
    return _number(default, least=0, most=1)


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
    scratch_vocab_size: int = _positive(2048)
    scratch_embed_dim: int = _positive(128)
    scratch_num_layers: int = _positive(4)
    scratch_num_heads: int = _positive(4)
    scratch_num_kv_heads: int = _positive(2)
    scratch_mlp_dim: int = _positive(384)


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Sizes of the device mesh axes; one axis may be -1 (all remaining devices)."""

    data: int = 1
    fsdp: int = -1
    tensor: int = 1


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Training trajectories, their text form and how they are batched.

    ``path`` is a ``.jsonl``/``.jsonl.gz``/``.json`` file or ``"synthetic"``. ``format`` is a name
    in ``data.importers.FORMATS``, or ``"auto"`` to recognise it by the first rows; ``tools_path``
    the file of the tools, for formats that keep them outside their rows (empty: look beside).
    ``max_trajectories`` and ``max_prompts`` of 0 mean no limit.

    ``template`` is the text form: the released model's, the published conversion script's, the
    model's own chat template (``"chat"``), or ChatML with tools (``"chatml_tools"``) for a model
    with ChatML tokens whose own template drops tools. It also decides how calls are written and
    read, and which token ends a reply. Samples over ``max_length`` lose old feedback, then turns.

    ``packing_fit="sorted"`` packs training examples tighter: it sorts those that ``packing_bins``
    rows hold by length; ``"stream"`` takes them as they come.

    ``sources`` mixes several files (then ``path`` stays as it is): each is
    ``"file[:format][@weight]"`` or ``"synthetic[@weight]"``; a weight of 0.5 takes half of the
    trajectories, one of 2 trains each twice (its prompts once). ``duplicates`` removes trajectories
    that occur again (``"exact"``: the same text and tools; ``"near"``: nearly the same words, too).
    ``contamination_paths`` are evaluation sets, as is ``evaluate.rotbench_path``: trajectories
    that share a query or 13 words in a row with one (``contamination_checks``: ``query``,
    ``ngrams``) are removed, or only listed (``contamination_action``). The check ``tools`` removes
    those with the tools of a set, too: much of all data made with the same catalogue of services.
    """

    path: str = "synthetic"
    format: str = "auto"
    tools_path: str = ""
    template: str = _choice("released", "script", "chat", "chatml_tools", default="released")
    max_length: int = _number(1024, least=2)
    batch_size: int = _positive(8)
    packing: bool = True
    packing_bins: int = _positive(64)
    packing_fit: str = _choice("stream", "sorted", default="stream")
    max_trajectories: int = _not_negative(0)
    max_prompts: int = _not_negative(0)
    validation_fraction: float = _number(0.02, least=0, below=1)
    max_bad_fraction: float = _share(0.02)
    synthetic_trajectories: int = _not_negative(1200)
    sources: tuple[str, ...] = ()
    duplicates: str = _choice("keep", "exact", "near", default="keep")
    contamination_paths: tuple[str, ...] = ()
    contamination_checks: tuple[str, ...] = _choice(
        "query", "ngrams", "tools", default=("query", "ngrams")
    )
    contamination_action: str = _choice("remove", "report", default="remove")
    prefetch: int = _not_negative(2)


@dataclasses.dataclass(frozen=True)
class MaeConfig:
    """Mitigating adverse effects: which calls are judged wrong and what happens to them.

    ``rules``: ``"reference"`` and ``"structured"`` read the feedback (published phrases; status
    fields, codes, exceptions and phrases), ``"static"`` holds the call against the manual of its
    tool, ``"structured+static"`` does both. ``action``: ``"drop"`` makes one sample per kept turn,
    ``"mask"`` one per trajectory; wrong calls stay in the context of later turns.
    ``extra_rules`` come before the built-in ones: ``"CATEGORY: phrase"`` or
    ``"CATEGORY: /regular expression/"``. ``category_actions`` are ``"CATEGORY=ACTION"`` with an
    action ``keep``, ``mask`` (the default), ``drop`` (the call and its feedback leave the dialogue)
    or ``down-weight`` (trained with ``down_weight``). A right call at most ``repair_turns`` turns
    after a wrong one is exported with it as a preference pair (0: none).
    """

    rules: str = _choice(
        "off", "reference", "structured", "static", "structured+static", default="structured"
    )
    action: str = _choice("drop", "mask", default="drop")
    extra_rules: tuple[str, ...] = ()
    category_actions: tuple[str, ...] = ()
    down_weight: float = _number(0.5, above=0, most=1)
    repair_turns: int = _not_negative(3)


@dataclasses.dataclass(frozen=True)
class KeyTokenConfig:
    """Prioritising key tokens: ``w = clip(|other| / |key|, 1, w_max)``.

    Mode ``"paper"`` raises the tokens that decide the tool name, ``"code"`` the same with the
    published code's count of others. ``"extended"`` also raises, if ``parameter_names``, the first
    token of each parameter name and, if ``enum_values``, the tokens at which the values that a
    parameter's schema lists part; the other modes do not read these two.
    ``normalise="reply"`` divides the weights of each reply by their sum, so that every reply
    counts the same (the published code); ``"token"`` leaves them as they are.
    """

    mode: str = _choice("off", "paper", "code", "extended", default="paper")
    parameter_names: bool = True
    enum_values: bool = True
    w_max: float = _number(9.0, least=1)
    normalise: str = _choice("token", "reply", default="token")


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """AdamW with linear warm-up and a cosine or constant schedule."""

    learning_rate: float = _not_negative(1e-3)
    warmup_steps: int = _not_negative(10)
    schedule: str = _choice("cosine", "constant", default="cosine")
    final_fraction: float = _share(0.1)
    b1: float = _number(0.9, least=0, below=1)
    b2: float = _number(0.95, least=0, below=1)
    eps: float = _above_zero(1e-8)
    weight_decay: float = _not_negative(0.01)
    clip_norm: float = _above_zero(1.0)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Length of the supervised phase and what it reports."""

    steps: int = _not_negative(200)
    accumulation: int = _positive(1)
    ce_chunk: int = _not_negative(1024)
    log_every: int = _positive(10)
    eval_every: int = _positive(100)
    eval_batches: int = _not_negative(4)


@dataclasses.dataclass(frozen=True)
class RewardConfig:
    """Rule-based reward: ``reference`` (as published) or ``strict`` (real parser, typed values)."""

    mode: str = _choice("reference", "strict", default="strict")
    clip: float = _above_zero(5.0)
    free_text_tools: tuple[str, ...] = ("finish", "ask_to_user")


@dataclasses.dataclass(frozen=True)
class PpoConfig:
    """Reward training: rollouts, advantages and the clipped losses."""

    steps: int = _not_negative(30)
    prompts_per_step: int = _positive(16)
    samples_per_prompt: int = _positive(2)
    max_prompt_length: int = _positive(896)
    max_new_tokens: int = _positive(64)
    temperature: float = _not_negative(1.0)
    top_p: float = _number(1.0, above=0, most=1)
    kl_coef: float = _not_negative(0.1)
    gamma: float = _share(1.0)
    gae_lambda: float = _share(0.95)
    whiten_advantages: bool = True
    clip_ratio: float = _above_zero(0.2)
    clip_value: float = _above_zero(0.2)
    epochs: int = _positive(1)
    minibatches: int = _positive(1)
    critic_warmup_steps: int = _not_negative(2)
    value_stop_gradient: bool = True
    value_learning_rate: float = _not_negative(1e-2)
    ce_coef: float = _not_negative(0.0)
    reward_coef: float = _not_negative(1.0)
    value_coef: float = _not_negative(1.0)


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """When training state is saved and how much of it is kept."""

    every_steps: int = _positive(100)
    keep: int = _positive(2)


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """Greedy evaluation: limits of generation and which sets are scored.

    Of the embedded world, ``synthetic_trajectories`` held-out dialogues each are scored with seen
    tools, with seen tools in new wordings, and with unseen tools (0: none). ``rotbench_path`` is
    RoTBench's first-turn file (empty: not scored). ``max_tasks`` caps every set (0: no cap).
    """

    batch_size: int = _positive(32)
    max_new_tokens: int = _positive(96)
    max_prompt_length: int = _positive(1024)
    max_tasks: int = _not_negative(0)
    synthetic_trajectories: int = _not_negative(80)
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
        value outside the allowed choices or limits.
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
        if name not in arguments and field.default is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{path} lacks {', '.join(missing)}")
    for name, value in arguments.items():
        for limit, bound in fields[name].metadata.get("limits", {}).items():
            keeps, words = _LIMITS[limit]
            if not keeps(value, bound):
                raise ConfigError(f"{path}.{name} must be {words} {bound}, got {value}")
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
        return tuple(_convert(item, v, f"{path}[{i}]", metadata) for i, v in enumerate(value))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        raise ConfigError(f"{path} must be {kind.__name__}, got {value!r}")
    choices = metadata.get("choices")
    if choices and value not in choices:
        raise ConfigError(f"{path} must be one of {', '.join(choices)}, got {value!r}")
    return value
