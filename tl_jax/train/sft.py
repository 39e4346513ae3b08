"""The supervised phase: token-weighted cross-entropy on the prepared examples."""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from tl_jax.config import DataConfig, ModelConfig, RunConfig
from tl_jax.data.examples.shards import open_shards
from tl_jax.data.loader.host_shards import HostRows
from tl_jax.data.loader.loader import make_loader
from tl_jax.data.prepare.files import EXAMPLES, VALIDATION
from tl_jax.errors import ConfigError
from tl_jax.models import lora, windows
from tl_jax.ops import kernels
from tl_jax.parallel import processes, sharding
from tl_jax.run.checkpoint import Checkpoints
from tl_jax.run.directory import Run
from tl_jax.run.prepare import measure_loader
from tl_jax.train import optimizer as optim
from tl_jax.train import step as step_lib
from tl_jax.train.held_out import Best, make_measure
from tl_jax.train.loop import Loop, check_prepared, end_early, open_phase
from tl_jax.train.rollback import Rollbacks
from tl_jax.types import Batch, Params, StepMetrics, TrainState

PHASE = "supervised"

logger = logging.getLogger(__name__)


def train(run: Run) -> None:
    """Do what is left of the phase, from the newest checkpoint if there is one.

    Raises:
      ConfigError: The data have not been prepared, rows that cannot be spread evenly, attention
        that cannot compute them, or reward training has begun.
      Stopped: A signal came; the same command resumes.
      Diverged: Too many steps in a row went badly; ``rollback.Rollbacks`` may try again.
    """
    if not run.trains(PHASE):
        return
    config, model = run.config, run.model
    share = shares_prefixes(config, model, run.mesh)
    if config.train.epochs:
        count_rows(run, share)
    if not run.steps_left(PHASE):
        return
    check_order(run)
    if config.data.shared_prefixes and config.data.packing and not share:
        logger.warning(
            "config.data.shared_prefixes: samples that begin alike are computed apart, as the "
            "attention of these devices takes rows of plain texts only"
        )
    rollbacks = Rollbacks(run, PHASE)
    with open_phase(run, PHASE) as (checkpoints, metrics):
        steps = run.steps(PHASE)
        step, optimizer = make_step(config, model, steps)
        abstract = step_lib.abstract_state(run.declared(), optimizer, run.mesh)
        layout = jax.tree.map(lambda leaf: leaf.sharding, abstract)
        rows = sharding.batch_sharding(run.mesh)
        loader = open_loader(run)
        init = functools.partial(step_lib.init_state, optimizer=optimizer)
        initial = lambda: run.trained("before")  # noqa: E731
        state, start = start_state(initial, abstract, layout, init, checkpoints, loader)
        frozen = run.frozen()
        train_step = step_lib.jit_train_step(step, layout, rows, frozen)
        measures = [
            (make_validation(run, frozen), config.train.eval_every),
            (make_measure(run, frozen), config.evaluate.every),
        ]
        best = Best(run, PHASE, start)
        with Loop(
            PHASE,
            steps,
            start,
            checkpoints=checkpoints,
            metrics=metrics,
            log_every=config.train.log_every,
            shown=("ce_loss", "grad_norm", "learning_rate"),
            skipped=int(state.skipped),
            end_if_hung=config.checkpoint.end_if_hung,
            spike=config.checkpoint.spike,
            rollbacks=len(rollbacks),
            loader=loader,
        ) as loop:
            for done in loop:
                with loop.data():
                    found = rollbacks.next(loader, done)
                batch = place_rows(found, rows, config.data.batch_size)
                state, values = train_step(state, batch, frozen)
                loop.record(named(values))
                if measured := loop.measure(state, measures):
                    if best.see(measured, loop.done, state):
                        end_early(run, loop)
                loop.save(state)
        loader.close()


def check_order(run: Run) -> None:
    """Refuse to train on after reward training has begun from the model that there is.

    Raises:
      ConfigError: It has; the message says how the phase stays as it is.
    """
    if run.saved_step("reward") is None:
        return
    saved = run.saved_step(PHASE) or 0
    raise ConfigError(
        f"{run.run_dir}: its reward training has begun from supervised step {saved}, which "
        f"config.train.steps={run.steps(PHASE)} (or config.train.epochs) would train on from. Set "
        f"config.train.steps={saved} and config.train.epochs=0 to go on with reward training, or "
        "begin another run beside it with --config.run_dir=DIR"
    )


def check_attention(model: ModelConfig, length: int, mesh: Mesh) -> str:
    """Return the attention that computes rows of ``length`` tokens.

    Raises:
      ConfigError: One was asked for by name that cannot train on them.
    """
    try:
        return kernels.choose(
            model.attention,
            platform=mesh.devices.flat[0].platform,
            dtype=jnp.dtype(model.dtype),
            head_dim=model.head_dim,
            length=length,
            one_window=len(set(windows.per_layer(model))) == 1,
            blocks=model.splash,
            parts=mesh.shape["sequence"],
        )
    except ValueError as error:
        raise ConfigError(f"config.model: {error}") from error


def takes_trees(model: ModelConfig, length: int, mesh: Mesh) -> bool:
    """Return whether the attention that computes rows of ``length`` tokens takes rows of trees.

    Raises:
      ConfigError: As for ``check_attention``.
    """
    return kernels.takes_trees(check_attention(model, length, mesh))


def shares_prefixes(config: RunConfig, model: ModelConfig, mesh: Mesh) -> bool:
    """Return whether rows are trees of samples that begin alike.

    Raises:
      ConfigError: As for ``check_attention``.
    """
    data = config.data
    return takes_trees(model, data.row_tokens, mesh) and data.shared_prefixes and data.packing


def count_rows(run: Run, shared_prefixes: bool) -> None:
    """Count the rows that an epoch fills, if they are not counted yet; all processes call it.

    Raises:
      ConfigError: The data have not been prepared.
    """
    check_prepared(run)
    if processes.is_first():
        measure_loader(run, shared_prefixes)
    processes.wait_for_all("count_rows")


def make_step(
    config: RunConfig, model: ModelConfig, steps: int
) -> tuple[Any, optax.GradientTransformation]:
    """Return the step of the supervised phase, to be compiled, and its optimizer.

    Args:
      config: The run.
      model: Its architecture.
      steps: Steps of the phase.
    """
    loss = step_lib.LossConfig(ce_chunk=config.train.ce_chunk)
    schedule = optim.make_schedule(config.optim, steps)
    optimizer = optim.make_optimizer(config.optim, steps)
    accumulation = config.train.accumulation
    step = step_lib.make_train_step(
        model, loss, optimizer, accumulation=accumulation, schedule=schedule
    )
    return step, optimizer


def start_state(
    initial: Callable[[], Params],
    abstract: TrainState,
    layout: TrainState,
    init: Callable[[Params], TrainState],
    checkpoints: Checkpoints,
    loader: Any,
) -> tuple[TrainState, int]:
    """Return the state to start from and its step: own newest checkpoint, else ``initial()``."""
    if checkpoints.latest() is not None:
        state, facts = checkpoints.restore(abstract, loader)
        return state, int(facts["phase_step"])
    return jax.jit(init, out_shardings=layout)(initial()), 0


def open_loader(run: Run) -> HostRows:
    """Return this host's endless stream of training rows.

    Raises:
      ConfigError: The rows cannot be spread evenly over devices or micro-batches.
    """
    check_row_length(run.config.data, run.mesh.shape)
    check_batch(run.config, run.mesh.shape)
    return _loader(run, EXAMPLES, repeat=True)


def check_row_length(data: DataConfig, shape: Mapping[str, int]) -> None:
    """Refuse rows whose tokens the mesh cannot share evenly.

    Raises:
      ConfigError: The message names the setting that decides their length.
    """
    name = "config.data.row_length" if data.row_length else "config.data.max_length"
    sharding.check_length(data.row_tokens, name, shape)


def check_batch(config: RunConfig, shape: Mapping[str, int]) -> None:
    """Refuse a batch that devices and micro-batches cannot share evenly.

    Raises:
      ConfigError: The message names the settings.
    """
    parts = shape["data"] * shape["fsdp"] * config.train.accumulation
    if config.data.batch_size % parts:
        raise ConfigError(
            f"config.data.batch_size {config.data.batch_size} is not divisible by {parts} mesh "
            "rows (data x fsdp) times train.accumulation"
        )


def _loader(run: Run, name: str, *, repeat: bool) -> HostRows:
    data = run.config.data
    shared = repeat and shares_prefixes(run.config, run.model, run.mesh)
    # The first rows of a sorted window are its longest examples: no sample of the held-out ones.
    fit = data.packing_fit if repeat else "stream"
    return make_loader(
        run.data_dir / name,
        length=data.row_tokens,
        rows=data.batch_size,
        seed=run.config.seed,
        packing=data.packing,
        packing_bins=data.packing_bins,
        packing_fit=fit,
        shared_prefixes=shared,
        shuffle=repeat,
        repeat=repeat,
        streams=data.streams if repeat else 1,
        own=sharding.own_rows(sharding.batch_sharding(run.mesh), data.batch_size),
        prefetch=data.prefetch if repeat else 0,
    )


def place_rows(
    batch: Mapping[str, np.ndarray], rows: jax.sharding.NamedSharding, count: int
) -> Batch[jax.Array]:
    """Put this host's rows onto the mesh as part of a global batch of ``count`` rows."""
    return Batch(
        **{
            name: jax.make_array_from_process_local_data(rows, values, (count, *values.shape[1:]))
            for name, values in batch.items()
        }
    )


def named(values: StepMetrics) -> dict[str, Any]:
    """Return the step's metrics by name, without those of terms that are not trained."""
    names = ("loss", "ce_loss", "weight_sum", "trained_tokens", "tokens", "grad_norm")
    return {name: getattr(values, name) for name in (*names, "learning_rate", "skipped")}


def make_validation(run: Run, frozen: Params) -> Any:
    """Return ``state -> {"validation_loss": ...}``, or None without held-out examples."""
    train = run.config.train
    path = run.data_dir / VALIDATION
    if not train.eval_batches or not path.exists() or not len(open_shards(path)):
        return None
    rows = sharding.batch_sharding(run.mesh)
    step = jax.jit(step_lib.make_eval_step(run.model, ce_chunk=train.ce_chunk))

    def validate(state: TrainState) -> dict[str, float]:
        params = lora.joined(state.params, frozen)
        sums = [step(params, batch) for batch in _first_batches(run, rows)]
        loss, weight = (sum(float(part[i]) for part in sums) for i in (0, 1))
        return {"validation_loss": loss / max(weight, 1e-8)}

    return validate


def _first_batches(run: Run, rows: jax.sharding.NamedSharding) -> Iterator[Batch]:
    loader = _loader(run, VALIDATION, repeat=False)
    batches = list(itertools.islice(loader, run.config.train.eval_batches))
    loader.close()
    for batch in batches:  # as many on every host
        yield place_rows(batch, rows, run.config.data.batch_size)
