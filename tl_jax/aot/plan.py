"""What a command would do, without doing it: phases, shapes, parameters, memory."""

from __future__ import annotations

import dataclasses
import math
import os
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tl_jax.aot import compile
from tl_jax.config import ModelConfig, RunConfig
from tl_jax.data.prepare.files import FINGERPRINT
from tl_jax.errors import ConfigError
from tl_jax.evaluate import run as evaluate
from tl_jax.models import critic, functional, lora, registry, remat
from tl_jax.parallel import tpu
from tl_jax.parallel.mesh import resolve_sizes
from tl_jax.run import checkpoint, prepare
from tl_jax.run.directory import PHASES, Run
from tl_jax.train import sft

GIB = 1024**3


def show(run: Run, command: str, console: Console) -> None:
    """Print the resolved plan of ``command``.

    Raises:
      ConfigError: The settings do not fit the model.
    """
    config = run.config
    table = Table(title=f"plan of tl-jax {command}", show_header=False)
    table.add_row("run directory", escape(str(run.run_dir)))
    for name, state in steps(run, command).items():
        table.add_row(name, state)
    table.add_row("model", escape(config.model.path))
    table.add_row("data", escape(f"{config.data.path} ({config.data.format})"))
    table.add_row("rows", f"{config.data.batch_size} x {config.data.row_tokens} tokens a step")
    table.add_row("supervised", f"{_length(run)}, {config.train.accumulation} micro-batches")
    table.add_row(
        "reward",
        f"{config.ppo.steps} rollouts of {config.ppo.prompts_per_step} prompts x "
        f"{config.ppo.samples_per_prompt} samples, {config.ppo.max_new_tokens} new tokens",
    )
    if config.environment.path:
        turns, path = config.environment.max_turns, escape(config.environment.path)
        table.add_row("tools", f"of {path}, up to {turns} replies a sample")
    shape = planned_mesh(run)
    if command in ("train", "run"):
        sft.check_row_length(config.data, shape)
    table.add_row("mesh", " x ".join(f"{name} {size}" for name, size in shape.items()))
    model = prepare.known_model(run)
    registry.check_lengths(config, model)
    if not (run.model_dir / "config.json").exists():
        table.add_row("", "an estimate; prepare makes the model or fetches it")
    for name, value in memory(run, model).items():
        table.add_row(name, value)
    topology = config.mesh.topology
    if topology and not tpu.is_compiler_installed():
        table.add_row(f"compiled for {topology}", "no: the package libtpu is not installed")
    console.print(table)
    if topology and tpu.is_compiler_installed() and command in ("train", "run"):
        console.print(compiled(config, model))


def _length(run: Run) -> str:
    """Return how long the supervised phase is, as far as that is known."""
    epochs = run.config.train.epochs
    if not epochs:
        return f"{run.config.train.steps} steps"
    try:
        return f"{run.steps('supervised')} steps, {epochs:g} epochs"
    except ConfigError:
        return f"{epochs:g} epochs (how many steps is known when the data are prepared)"


def compiled(config: RunConfig, model: ModelConfig) -> Table:
    """Return what the programs of a run need on the pod that it is meant for.

    Raises:
      DoesNotFit: One of them does not fit a chip.
    """
    options = tpu.read_flags(os.environ.get("LIBTPU_INIT_ARGS", ""))
    pod = compile.open_pod(config, model, options)
    figures = [compile.measure(name, pod) for name in compile.names(config)]
    return compile.table(f"compiled for {config.mesh.slices} x {config.mesh.topology}", figures)


def planned_mesh(run: Run) -> dict[str, int]:
    """Return the sizes of the mesh axes: of the pod that is meant, else of the devices here."""
    mesh = run.config.mesh
    if not mesh.topology:
        return dict(run.mesh.shape)
    count = tpu.parse(mesh.topology)[1] * mesh.slices
    return resolve_sizes(mesh, count)


def steps(run: Run, command: str) -> dict[str, str]:
    """Return what ``command`` goes through, in order, each ``done``, ``to do`` or left out."""
    whole = command == "run"
    found = {}
    if whole or command in ("prepare", "inspect"):
        found["prepare"] = _state((run.data_dir / FINGERPRINT).exists())
    for phase in PHASES:
        wanted = phase == "before" or run.trains(phase)
        if phase != "before" and (whole or command == "train"):
            found[f"train {phase}"] = _training(run, phase) if wanted else "left out, 0 steps"
        if whole and wanted:
            done = run.phase_done(phase) and evaluate.is_current(run, phase)
            sets = evaluate.has_sets(run)
            found[f"evaluate {phase}"] = _state(done) if sets else "left out, no sets"
    if whole:
        found |= {"convert": f"to {escape(str(run.export_dir))}", "report": "to do"}
    return found or {command: f"with the {run.newest_phase()} model"}


def _state(done: bool) -> str:
    return "done" if done else "to do"


def _training(run: Run, phase: str) -> str:
    directory = checkpoint.latest_step_dir(run.checkpoint_dir(phase))
    if run.phase_done(phase) or directory is None:
        return _state(directory is not None)
    return f"to do from step {directory.name}"


def memory(run: Run, model: ModelConfig) -> dict[str, str]:
    """Return the parameter counts and an estimate of each phase's memory per device.

    Counted: the parameters, of the trained ones both Adam moments and the gradient in float32,
    and the activations kept per layer (the residual stream, and what the policy of
    rematerialisation keeps beside it). Reward training adds the value head, the critic's trunk if
    it has one of its own, and what the reference model holds for itself, unless that waits in the
    host's memory; its rows are counted at their longest. Scratch space of the compiler and the
    cache of the sampler are not.
    """
    config, ppo = run.config, run.config.ppo
    trained, frozen = lora.split(functional.abstract_params(model), model.lora)
    # Scales of 4-bit matrices take memory, but are no parameters.
    full = dataclasses.replace(model, lora=dataclasses.replace(model.lora, frozen="full"))
    shape = planned_mesh(run)

    def per_device(state_bytes: float, tokens: float) -> tuple[str, str]:
        holders = shape["fsdp"] * shape["sequence"]
        activations = tokens / (shape["data"] * holders) * _kept_bytes(model)
        state = state_bytes / (holders * shape["tensor"])
        return f"{state / GIB:.2f} GiB", f"{activations / GIB:.2f} GiB"

    rows, length = config.data.batch_size, config.data.row_tokens
    state, activations = per_device(
        _state_bytes(trained, config.optim.moments) + _held_bytes(frozen),
        rows * length / config.train.accumulation,
    )
    found = {
        "parameters": f"{_count(functional.abstract_params(full)):,}",
        "trained parameters": f"{_count(trained):,}",
        "state per device": state,
        "activations per device": activations,
    }
    if ppo.steps:
        separate = ppo.critic == "separate"
        declared = critic.abstract_params(model, separate=separate)
        learning = lora.split(declared, model.lora)[0]
        # The frozen parameters of both trunks and of the reference are the same arrays.
        held = _held_bytes(frozen)
        if ppo.idle_memory == "device":
            held += _held_bytes(trained)
        update = ppo.prompts_per_step * ppo.samples_per_prompt / ppo.minibatches
        longest = ppo.max_prompt_length + ppo.max_new_tokens
        tokens = (update + rows) * max(longest, length) if ppo.ce_coef else update * longest
        trunks = 2 if separate and ppo.value_coef else 1
        state, activations = per_device(
            _state_bytes(learning, config.ppo_optim.moments) + held, trunks * tokens
        )
        found["state per device, reward"] = state
        found["activations per device, reward"] = activations
    return found


def _count(declared: Any) -> int:
    return sum(math.prod(info.shape) for info in _leaves(declared))


def _held_bytes(declared: Any) -> float:
    # Devices keep two 4-bit codes in a byte; numpy, whose sizes these are, does not.
    return sum(
        math.prod(info.shape) * (0.5 if info.dtype == jnp.uint4 else info.dtype.itemsize)
        for info in _leaves(declared)
    )


def _state_bytes(declared: Any, moments: str) -> float:
    gradient, moment = 4, 2 if moments == "bfloat16" else 4
    return _held_bytes(declared) + (gradient + 2 * moment) * _count(declared)


def _kept_bytes(model: ModelConfig) -> int:
    """Return the bytes that a token leaves on the device for the backward pass."""
    here, _ = remat.widths(model)
    return here * model.num_layers * (2 if model.dtype == "bfloat16" else 4)


def _leaves(declared: Any) -> list[Any]:
    return jax.tree.leaves(declared, is_leaf=lambda node: hasattr(node, "axes"))
