"""The configuration of a run as frozen dataclasses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from tl_jax.config.fields import (
    above_zero,
    choice,
    not_negative,
    number,
    positive,
    share,
    steps_or_share,
)
from tl_jax.config.model import LoraConfig, SplashConfig
from tl_jax.config.reward import EnvironmentConfig, PpoConfig, RewardConfig


@dataclasses.dataclass(frozen=True)
class ModelSourceConfig:
    """Where the initial model comes from.

    ``path`` is a Hugging Face directory, the id of a model on the Hub (``organisation/name`` or
    ``organisation/name@revision``; the run keeps to the commit it stood for at first), a ``.gguf``
    file, ``"embedded"`` (the small base model shipped with the package) or ``"scratch"`` (random
    weights with the sizes below and a byte-level BPE tokenizer trained on the data at prepare
    time). ``adapter`` is a directory of PEFT's with LoRA adapters of that model to start from
    (empty: new ones, if any).

    ``attention`` of rows: ``"chunked"`` (by blocks that see each other) or ``"dense"`` is XLA's,
    ``"tree"`` a kernel for TPUs, ``"splash"`` JAX's for plain rows there, ``"cudnn"`` one for
    NVIDIA GPUs (bfloat16 only), ``"auto"`` what fits the devices.
    ``param_dtype`` is the type that parameters are held in; those of type bfloat16 that are trained
    are rounded up or down by chance, so that small updates are not lost.
    ``remat`` says what of a layer the backward pass does not compute again: everything
    (``"none"``), the outputs of attention and of the weight matrices (``"minimal"``), of the
    matrices (``"dots"``), of attention with queries, keys and values (``"qkv"``), of attention, or
    nothing (``"full"``). ``"offload"`` and ``"attention_offload"`` are the last two with what they
    keep, the input of each layer included, in the memory of the host.
    ``unroll`` layers are compiled as one step of the loop over the layers: with more, compilation
    takes longer, and less is copied in and out of the arrays that hold all layers.
    """

    path: str = "embedded"
    adapter: str = ""
    dtype: str = choice("float32", "bfloat16", default="float32")
    param_dtype: str = choice("float32", "bfloat16", default="float32")
    remat: str = choice(
        *("none", "minimal", "dots", "qkv", "attention", "full", "attention_offload", "offload"),
        default="minimal",
    )
    unroll: int = positive(1)
    attention: str = choice(
        *("auto", "chunked", "dense", "tree", "splash", "cudnn"), default="auto"
    )
    splash: SplashConfig = SplashConfig()
    scratch_vocab_size: int = positive(2048)
    scratch_embed_dim: int = positive(128)
    scratch_num_layers: int = positive(4)
    scratch_num_heads: int = positive(4)
    scratch_num_kv_heads: int = positive(2)
    scratch_mlp_dim: int = positive(384)


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Sizes of the device mesh axes; one axis may be -1 (all remaining devices).

    Rows lie over ``data`` and ``fsdp``, the tokens of each row over ``sequence`` (for rows too long
    for one device), the features of a layer over ``tensor``; parameters over all but ``data``.

    ``topology`` is the TPU slice that the run is meant for, such as ``"v5e:16x16"``, and ``slices``
    how many of them: ``--dry_run`` compiles the programs for it, on any machine (empty: the plan is
    for the devices that are there). Text is sampled with each layer split over ``sampling_tensor``
    devices (0: as in training, where devices along ``sequence`` take rows of their own).
    """

    data: int = 1
    fsdp: int = -1
    tensor: int = 1
    sequence: int = 1
    topology: str = ""
    slices: int = positive(1)
    sampling_tensor: int = not_negative(0)


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Training trajectories, their text form and how they are batched.

    ``path`` is a file (``.json``, ``.jsonl``, ``.ndjson`` or ``.csv``, also with ``.gz``;
    ``.parquet``, ``.arrow``, ``.feather``), a directory of such files of one kind, a data set of
    the Hub (``organisation/name`` or ``organisation/name@revision``), or ``"synthetic"``. With
    ``:split`` behind it, one split is taken; without, ``train`` where there are several.
    ``format`` is the name of a format, or ``"auto"`` to recognise it by the first rows;
    ``tools_path`` the file of the tools, for formats that keep them outside their rows (empty: look
    beside).
    ``importer`` is a Python file of yours that reads a format of its own: it defines ``NAME``,
    ``recognise`` and ``trajectory`` as the modules in ``data/importers`` do.
    ``max_trajectories`` and ``max_prompts`` of 0 mean no limit. ``no_call_prompts``: reward
    training also visits right turns in words and rewards a reply without a call there.
    ``strict`` refuses rows with a key that nothing reads; else the report counts such keys. Of
    the rows of a file that call tools, a share of at most ``max_without_tools`` may offer none.

    ``template`` is the text form: the model's own chat template (``"chat"``), a Jinja file
    (``FILE.jinja``), ChatML with tools (``"chatml_tools"``) for a model with ChatML tokens whose
    own template drops tools, the released model's, or the published conversion script's.
    ``"auto"`` takes the form that an export of this package says it was trained in, or the first of
    own template, ChatML with tools and released form that can be used. It also decides how calls
    are written and read, and which token ends a reply.
    ``template_settings`` fixes variables of a chat template, each ``"name=value"`` with a JSON
    value. ``train_thoughts`` trains hidden thoughts where the template has a place for them, and
    asks it for its thinking form; otherwise they are left out.

    ``samples``: ``"per_trajectory"`` trains all kept turns of a trajectory in one sample,
    ``"per_turn"`` each in a sample of its own, as published; what is not trained is context. A turn
    that a chat template writes otherwise once others follow gets a sample of its own either way.
    The released forms end every reply with a stop token, with a sample per turn only the last.
    Samples over ``max_length`` lose the middle of feedback, those of a turn old turns, too; a reply
    whose results would be cut away whole is not trained.

    Rows have ``row_length`` tokens (0: ``max_length``). With ``shared_prefixes`` the supervised
    phase computes what several samples begin with once a row, with ``packing``, and the loss stays
    that of the samples; the longer the rows, the more is shared. A row then holds more samples, so
    that an epoch has fewer steps (``loader_report.json``). Validation keeps the samples apart.

    ``packing_fit="sorted"`` packs training examples tighter: it sorts those that ``packing_bins``
    rows hold by length; ``"stream"`` takes them as they come. The examples are dealt to
    ``streams``, and a host reads only those whose rows it trains on: where one host cannot pack
    for all, take as many as hosts.

    ``sources`` mixes several data sets (then ``path`` stays as it is): each is
    ``"path[:split][:format][@weight]"`` or ``"synthetic[@weight]"``; a weight of 0.5 takes half of
    the trajectories, one of 2 trains each twice (its prompts once). Behind the bare name of a data
    set on the Hub a number is refused, as it may be a revision: ``"organisation/name:train@0.5"``
    says it is the weight. ``duplicates`` removes trajectories
    that occur again (``"exact"``: the same text and tools; ``"near"``: nearly the same words, too).
    ``contamination_paths`` are evaluation sets, as is ``evaluate.rotbench_path``: trajectories
    that share a query or 13 words in a row with one (``contamination_checks``: ``query``,
    ``ngrams``) are removed, or only listed (``contamination_action``). The check ``tools`` removes
    those with the tools of a set, too: much of all data made with the same catalogue of services.

    ``workers`` processes prepare the data (0: one for each processor that may be used, 1: this one
    alone), where there is enough for them to do; the result is the same for any number.
    """

    path: str = "synthetic"
    format: str = "auto"
    importer: str = ""
    tools_path: str = ""
    template: str = choice(
        "auto", "released", "script", "chat", "chatml_tools", default="auto", or_file=".jinja"
    )
    template_settings: tuple[str, ...] = ()
    train_thoughts: bool = False
    samples: str = choice("per_turn", "per_trajectory", default="per_trajectory")
    max_length: int = number(1024, least=2)
    row_length: int = not_negative(0)
    batch_size: int = positive(8)
    shared_prefixes: bool = True
    packing: bool = True
    packing_bins: int = positive(64)
    packing_fit: str = choice("stream", "sorted", default="stream")
    streams: int = positive(1)
    max_trajectories: int = not_negative(0)
    max_prompts: int = not_negative(0)
    no_call_prompts: bool = True
    validation_fraction: float = number(0.02, least=0, below=1)
    max_bad_fraction: float = share(0.02)
    max_without_tools: float = share(0.02)
    strict: bool = False
    synthetic_trajectories: int = not_negative(1200)
    sources: tuple[str, ...] = ()
    duplicates: str = choice("keep", "exact", "near", default="keep")
    contamination_paths: tuple[str, ...] = ()
    contamination_checks: tuple[str, ...] = choice(
        "query", "ngrams", "tools", default=("query", "ngrams")
    )
    contamination_action: str = choice("remove", "report", default="remove")
    prefetch: int = not_negative(2)
    workers: int = not_negative(0)

    @property
    def row_tokens(self) -> int:
        """Tokens of a row."""
        return self.row_length or self.max_length


@dataclasses.dataclass(frozen=True)
class MaeConfig:
    """Mitigating adverse effects: which calls are judged wrong and what happens to them.

    ``rules``: ``"reference"`` and ``"structured"`` read the feedback (published phrases; status
    fields, codes, exceptions and phrases), ``"static"`` holds the call against the manual of its
    tool, ``"structured+static"`` does both. Wrong calls stay in the context of later turns.
    ``extra_rules`` come before the built-in ones: ``"CATEGORY: phrase"`` or
    ``"CATEGORY: /regular expression/"``. ``category_actions`` are ``"CATEGORY=ACTION"`` with an
    action ``keep``, ``mask`` (the default), ``drop`` (the call and its feedback leave the dialogue)
    or ``down-weight`` (trained with ``down_weight``). A right call at most ``repair_turns`` turns
    after a wrong one is exported with it as a preference pair (0: none).
    """

    rules: str = choice(
        "off", "reference", "structured", "static", "structured+static", default="structured"
    )
    extra_rules: tuple[str, ...] = ()
    category_actions: tuple[str, ...] = ()
    down_weight: float = number(0.5, above=0, most=1)
    repair_turns: int = not_negative(3)


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

    mode: str = choice("off", "paper", "code", "extended", default="paper")
    parameter_names: bool = True
    enum_values: bool = True
    w_max: float = number(9.0, least=1)
    normalise: str = choice("token", "reply", default="token")


@dataclasses.dataclass(frozen=True)
class OptimConfig:
    """AdamW with linear warm-up and a cosine, linear or constant schedule.

    ``warmup_steps`` below 1 is a share of the steps of the phase. ``moments`` is the type of its
    moments.
    """

    learning_rate: float = not_negative(1e-3)
    warmup_steps: float = steps_or_share(10)
    schedule: str = choice("cosine", "linear", "constant", default="cosine")
    final_fraction: float = share(0.1)
    b1: float = number(0.9, least=0, below=1)
    b2: float = number(0.95, least=0, below=1)
    eps: float = above_zero(1e-8)
    weight_decay: float = not_negative(0.01)
    clip_norm: float = above_zero(1.0)
    moments: str = choice("float32", "bfloat16", default="float32")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Length of the supervised phase and what it reports.

    ``epochs`` are passes over the data, in place of ``steps`` (0: ``steps`` says): as many steps as
    it takes to fill batches with the rows of that many passes, which is known once the data are
    prepared. A phase goes on where either is raised later; the learning rate then follows the
    schedule of the new length from the step it stands at, so that a rate that had decayed rises.

    Logits exist for ``ce_chunk`` positions of a row at once (0: all), in both phases; a chunk whose
    positions are neither trained nor were sampled is left out.
    """

    steps: int = not_negative(200)
    epochs: float = not_negative(0.0)
    accumulation: int = positive(1)
    ce_chunk: int = not_negative(1024)
    log_every: int = positive(10)
    eval_every: int = positive(100)
    eval_batches: int = not_negative(4)


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """When training state is saved and how much of it is kept.

    Where no step ends for five minutes and 20 usual steps, the stacks of all threads are written
    into the run directory; with ``end_if_hung`` the process then ends with status 5, so that what
    started it can start it again from what is saved.

    After ten bad steps in a row a phase goes back to the newest good checkpoint and on with other
    data, ``rollbacks`` times at most; then it ends. A step is bad if it is not finite or, in the
    supervised phase, if its loss is above the median of the last 128 good ones by ``spike`` times
    their median absolute deviation and by 0.1 (0: never). Meanwhile nothing is saved.
    """

    every_steps: int = positive(100)
    keep: int = positive(2)
    end_if_hung: bool = False
    rollbacks: int = not_negative(2)
    spike: float = not_negative(12.0)


@dataclasses.dataclass(frozen=True)
class TrackingConfig:
    """Who gets the metrics beside ``metrics.jsonl`` and TensorBoard.

    ``trackers``: ``"wandb"`` (Weights & Biases) and ``"trackio"``, each an extra of the package.
    Their run belongs to ``project`` and is called as the run directory; a resumed run goes on with
    it. ``offline`` keeps what Weights & Biases gets in the run directory, for ``wandb sync``;
    Trackio keeps its runs on this machine.
    """

    trackers: tuple[str, ...] = choice("wandb", "trackio", default=())
    project: str = "tl_jax"
    offline: bool = False


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """Greedy evaluation: limits of generation and which sets are scored.

    Of the embedded world, ``synthetic_trajectories`` held-out dialogues each are scored with seen
    tools, with seen tools in new wordings, and with unseen tools (0: none). ``rotbench_path`` is
    RoTBench's ``Data/First_Turn/clean.json`` or JSON lines of its items, each also with ``noise``
    and ``index`` (empty: not scored). ``suites`` chooses what is scored (empty: all of these that
    are set): names such as ``"synthetic/unseen"``, and Python files of yours that each define a
    ``SUITE`` (``tl_jax.evaluate.suites.Suite``); ``"rotbench=FILE"`` names the data of a suite. If
    empty, the held-out turns of the run's own data are scored, too. ``max_tasks`` caps every suite
    (0: no cap), ``held_out_tasks`` that of held-out turns (0: none are scored); what is scored is
    evenly spread over a suite, so that each of its levels and categories has its part.

    While a phase trains, held-out turns are scored after ``every`` so many steps and the last one
    (0: never). ``best`` keeps the model with the best such score, or with the lowest validation
    loss, and it is what is scored, exported and trained further (empty: the last model).
    ``patience`` ends a phase once that was no better so many times in a row (0: never); it goes on
    where it is made longer.

    A reply ends before the first of ``stop_strings``, beside the stop tokens of the template.
    ``constrained`` lets the model name offered tools and declared parameters only.
    ``tl-jax generate`` reads ``max_new_tokens`` and these two.
    """

    batch_size: int = positive(32)
    max_new_tokens: int = positive(96)
    max_prompt_length: int = positive(1024)
    max_tasks: int = not_negative(0)
    stop_strings: tuple[str, ...] = ()
    constrained: bool = False
    synthetic_trajectories: int = not_negative(80)
    rotbench_path: str = ""
    suites: tuple[str, ...] = ()
    held_out_tasks: int = not_negative(200)
    every: int = not_negative(0)
    best: str = choice("", "validation_loss", "ts", "pi", "cf", default="")
    patience: int = not_negative(0)


@dataclasses.dataclass(frozen=True)
class AblationConfig:
    """Every combination of MAE, PKT and IRM in place of one run, for ``tl-jax run``.

    ``seeds``: each trains all eight cells; without any there is one run. A part without MAE has
    ``mae.rules="off"``, one without PKT ``key_tokens.mode="off"``; with them they are as set. A
    part is a run of its own in the folder ``parts`` of the run directory.
    """

    seeds: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything one run needs; written to ``config.json`` in the run directory.

    ``RENAMED`` are settings that had another name, which ``fields.renamed`` still reads.

    Example:
      >>> import tl_jax as tl
      >>> tl.RunConfig(run_dir="runs/mine", train=tl.config.TrainConfig(steps=50)).train.steps
      50
    """

    RENAMED: ClassVar[Mapping[str, tuple[str, Mapping[str, str]]]] = {
        "mae.action": ("data.samples", {"drop": "per_turn", "mask": "per_trajectory"}),
    }

    run_dir: str = "runs/quickstart"
    seed: int = 0
    model: ModelSourceConfig = ModelSourceConfig()
    lora: LoraConfig = LoraConfig()
    mesh: MeshConfig = MeshConfig()
    data: DataConfig = DataConfig()
    mae: MaeConfig = MaeConfig()
    key_tokens: KeyTokenConfig = KeyTokenConfig()
    train: TrainConfig = TrainConfig()
    optim: OptimConfig = OptimConfig()
    reward: RewardConfig = RewardConfig()
    environment: EnvironmentConfig = EnvironmentConfig()
    ppo: PpoConfig = PpoConfig()
    ppo_optim: OptimConfig = OptimConfig(learning_rate=1e-4, schedule="constant", weight_decay=0.0)
    checkpoint: CheckpointConfig = CheckpointConfig()
    tracking: TrackingConfig = TrackingConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    ablation: AblationConfig = AblationConfig()
