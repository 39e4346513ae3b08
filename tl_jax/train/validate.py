"""Every check of settings that needs no data, at the door of every command and in its plan."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from jax.sharding import Mesh

from tl_jax.config import DataConfig, ModelConfig, OptimConfig, RunConfig, TrainConfig
from tl_jax.config.fields import to_dict
from tl_jax.convert import hub, model_files, whole_directory
from tl_jax.data.mae.policy import policy_of
from tl_jax.data.prepare.sources import check_sources
from tl_jax.data.render.paper_template import STYLES
from tl_jax.data.render.probe import AUTO, SUFFIX
from tl_jax.errors import ConfigError
from tl_jax.evaluate import ablation
from tl_jax.evaluate.suites.choose import chosen_suites
from tl_jax.models import lora, registry
from tl_jax.parallel import processes
from tl_jax.rl.custom_reward import open_reward
from tl_jax.run import inputs, lock, trackers
from tl_jax.run.changes import check_changes, record
from tl_jax.run.directory import Run, check_reward
from tl_jax.run.prepare import checked_data, discard_outdated, planned_model, scratch_config
from tl_jax.run.remote import check_all_local
from tl_jax.train import ppo, ppo_step, sft
from tl_jax.train.optimizer import warmup_steps

# Orbax takes them for a pattern when it reads.
_UNREADABLE = frozenset("[]*\\")


@contextlib.contextmanager
def checked(run: Run, *, prepares: bool, computes: bool, writes: bool) -> Iterator[None]:
    """Check all that needs no data; then, and only then, leave the settings in the run directory.

    Inside the block this process is the only one that writes the run.

    Args:
      run: The run.
      prepares: Whether the sources of the data are read.
      computes: Whether the devices of the mesh are used.
      writes: Whether the run begins or goes on, so that its settings and versions are recorded.

    Raises:
      ConfigError: As for ``validate`` and ``check_inputs``, or a setting that may change no more,
        or a model that is not the one that the run was trained from.
      RunNotWritable: Another process writes the run, or nobody can.
    """
    config = run.config
    check_all_local(to_dict(config))
    computes = computes and not config.mesh.topology
    check_model_source(config)  # before its architecture is read
    validate(config, planned_model(run), run.mesh if computes else None)
    if prepares:
        check_inputs(config)
    if computes and writes:
        trackers.check(config.tracking)
    changed = check_changes(run, prepares=prepares)
    if computes or writes:
        inputs.check(run)
    if not writes:
        yield
        return
    with lock.hold(run.run_dir):
        if processes.is_first():
            for name in ("model", "export", "adapter"):
                whole_directory.clear_abandoned(run.run_dir / name)
        discard_outdated(run, changed)
        record(run)
        yield


def validate(config: RunConfig, model: ModelConfig | None = None, mesh: Mesh | None = None) -> None:
    """Refuse settings that contradict each other, the files there are, the model or the mesh.

    Args:
      config: The run.
      model: Architecture of its initial model; None if that is not known yet.
      mesh: Where the run computes; None for a command that does not.

    Raises:
      ConfigError: The message names the setting, the limit and the mend.
    """
    if not 0 <= config.seed < 2**32:
        raise ConfigError(f"config.seed must be from 0 to 2**32 - 1, got {config.seed}")
    if not config.run_dir:
        raise ConfigError("config.run_dir is empty; give a directory")
    if found := sorted(_UNREADABLE & set(str(Path(config.run_dir).absolute()))):
        raise ConfigError(
            f"config.run_dir: checkpoints below a path with {' or '.join(found)} could not be read "
            f"back; give {config.run_dir} another name"
        )
    check_model_source(config)
    policy_of(config.mae)
    lora.check(config)
    _check_row_length(config.data)
    _check_epochs(config.train)
    _check_schedules(config)
    if config.ablation.seeds:
        ablation.parts(config)
    ppo.check_objective(config.ppo, config.environment.path)
    check_reward(config)
    open_reward(config.reward)
    chosen_suites(config)
    _check_best(config)
    if model is not None:
        registry.check_lengths(config, model)
    if mesh is not None:
        check_rows(config, mesh.shape)
        if model is not None:
            sft.check_attention(model, config.data.row_tokens, mesh)


def _check_best(config: RunConfig) -> None:
    limits = config.evaluate
    if limits.best in ("ts", "pi", "cf") and not limits.every:
        raise ConfigError(
            f"config.evaluate.best={limits.best!r} is measured every config.evaluate.every steps, "
            "which is 0; set that, or take best='validation_loss'"
        )
    if limits.patience and not limits.best:
        raise ConfigError(
            "config.evaluate.patience ends a phase by the score of config.evaluate.best; set that"
        )


def check_inputs(config: RunConfig) -> None:
    """Refuse sources, evaluation sets and a template that are no files.

    Raises:
      ConfigError: The message names the setting.
    """
    if not config.data.path and not config.data.sources:
        raise ConfigError("config.data.path is empty; give a file, a directory or 'synthetic'")
    check_sources(config.data)
    checked_data(config)
    template = config.data.template
    if template.endswith(SUFFIX) and not Path(template).is_file():
        raise ConfigError(f"config.data.template: no file {template}")


def check_rows(config: RunConfig, shape: Mapping[str, int]) -> None:
    """Refuse batches of either phase whose rows or tokens the mesh cannot share evenly.

    Args:
      config: The run.
      shape: Sizes of the mesh axes.

    Raises:
      ConfigError: The message names the settings that decide about the rows.
    """
    if config.train.steps or config.train.epochs:
        sft.check_row_length(config.data, shape)
        sft.check_batch(config, shape)
    if config.ppo.steps:
        ppo.check_rows(config, shape)


def check_model_source(config: RunConfig) -> None:
    """Refuse a model that is not there, or is in another form than is read.

    Raises:
      ConfigError: The message says what is there instead, if that is known.
    """
    source = config.model
    if source.path == "scratch":
        scratch_config(config, source.scratch_vocab_size)
        if config.data.template not in (AUTO, *STYLES):
            raise ConfigError(
                "config.data.template: a model from scratch has no chat tokens; take "
                f"{' or '.join(map(repr, STYLES))}"
            )
    elif source.path.endswith(".gguf"):
        if not Path(source.path).is_file():
            raise ConfigError(f"config.model.path: no file {source.path}; give a .gguf file")
    elif source.path != "embedded" and not hub.is_id(source.path):
        if Path(source.path).is_file():
            raise ConfigError(
                f"config.model.path: {source.path} is a file; give the directory of the model"
            )
        if not source.path or not (Path(source.path) / "config.json").is_file():
            if source.path and (instead := model_files.held_instead(source.path)):
                raise ConfigError(f"config.model.path: {source.path}: {instead}")
            name = source.path or "an empty text"
            raise ConfigError(
                f"config.model.path: {name} is no directory with a config.json; give a "
                "Hugging Face model directory, the id of a model on the Hub "
                "(organisation/name, or organisation/name@revision), a .gguf file, 'embedded' "
                "or 'scratch'"
            )
    if source.adapter and not Path(source.adapter).is_dir():
        raise ConfigError(
            f"config.model.adapter: no directory {source.adapter}; give one that PEFT wrote (fetch "
            "one with `hf download NAME --local-dir DIR`)"
        )


def _check_row_length(data: DataConfig) -> None:
    if data.row_tokens < data.max_length:
        raise ConfigError(
            f"config.data.row_length {data.row_length} is less than config.data.max_length "
            f"{data.max_length}, so that a row would not hold the longest sample; raise it, or set "
            "it to 0 for rows of max_length tokens"
        )


def _check_epochs(train: TrainConfig) -> None:
    if train.epochs and train.steps not in (0, TrainConfig().steps):
        raise ConfigError(
            f"config.train.epochs is {train.epochs:g} and config.train.steps {train.steps}: one of "
            "them says how long the supervised phase is; set config.train.steps=0 for epochs, or "
            "config.train.epochs=0"
        )


def _check_schedules(config: RunConfig) -> None:
    if config.train.steps and not config.train.epochs:
        _check_warmup(
            config.optim, "config.optim", config.train.steps, "config.train.steps", "supervised"
        )
    if config.ppo.steps:
        updates = ppo_step.policy_updates(config.ppo)
        if updates > 0:
            length = "config.ppo.steps (without critic_warmup_steps) x epochs x minibatches"
            _check_warmup(config.ppo_optim, "config.ppo_optim", updates, length, "reward")


def _check_warmup(optim: OptimConfig, section: str, steps: int, length: str, phase: str) -> None:
    if optim.schedule != "constant" and warmup_steps(optim, steps) >= steps:
        raise ConfigError(
            f"{section}.warmup_steps is {optim.warmup_steps:g}, but the {phase} phase has only "
            f"{steps} steps ({length}), and its {optim.schedule} schedule begins after the "
            f"warm-up; set {section}.warmup_steps to {max(steps - 1, 0)} or less (0.1: a tenth of "
            f"the phase), or raise {length}"
        )
    if not np.isfinite(optim.learning_rate):
        raise ConfigError(f"{section}.learning_rate must be finite, got {optim.learning_rate}")
