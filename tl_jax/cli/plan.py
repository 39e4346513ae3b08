"""What a command would do, without doing it: stages, shapes, parameters, memory."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tl_jax.cli import evaluate, prepare, train
from tl_jax.cli.workspace import PHASES, Workspace
from tl_jax.config import ModelConfig
from tl_jax.convert import gguf, hub
from tl_jax.data.prepared_files import FINGERPRINT
from tl_jax.models import functional, lora, registry
from tl_jax.train import checkpoint

GIB = 1024**3


def show(workspace: Workspace, stage: str, console: Console) -> None:
    """Print the resolved plan of ``stage``.

    Raises:
      ConfigError: The settings do not fit the model.
    """
    config = workspace.config
    table = Table(title=f"plan of tl-jax {stage}", show_header=False)
    table.add_row("run directory", escape(str(workspace.run_dir)))
    for name, state in steps(workspace, stage).items():
        table.add_row(name, state)
    table.add_row("model", escape(config.model.path))
    table.add_row("data", escape(f"{config.data.path} ({config.data.format})"))
    table.add_row("rows", f"{config.data.batch_size} x {config.data.max_length} tokens a step")
    table.add_row(
        "supervised", f"{config.train.steps} steps, {config.train.accumulation} micro-batches"
    )
    table.add_row(
        "reward",
        f"{config.ppo.steps} rollouts of {config.ppo.prompts_per_step} prompts x "
        f"{config.ppo.samples_per_prompt} samples, {config.ppo.max_new_tokens} new tokens",
    )
    if config.environment.path:
        turns, path = config.environment.max_turns, escape(config.environment.path)
        table.add_row("tools", f"of {path}, up to {turns} replies a sample")
    table.add_row(
        "mesh", " x ".join(f"{name} {size}" for name, size in workspace.mesh.shape.items())
    )
    model = planned_model(workspace)
    registry.check_lengths(config, model)
    if not (workspace.model_dir / "config.json").exists():
        table.add_row("", "an estimate; prepare makes the model or fetches it")
    for name, value in memory(workspace, model).items():
        table.add_row(name, value)
    console.print(table)


def steps(workspace: Workspace, stage: str) -> dict[str, str]:
    """Return what ``stage`` goes through, in order, each ``done``, ``to do`` or left out."""
    whole = stage == "run"
    found = {}
    if whole or stage in ("prepare", "inspect"):
        found["prepare"] = _state((workspace.data_dir / FINGERPRINT).exists())
    for phase in PHASES:
        wanted = phase == "before" or train.steps_of(workspace, phase) > 0
        if phase != "before" and (whole or stage == "train"):
            found[f"train {phase}"] = _training(workspace, phase) if wanted else "left out, 0 steps"
        if whole and wanted:
            done = workspace.phase_done(phase) and evaluate.is_current(workspace, phase)
            sets = evaluate.has_sets(workspace)
            found[f"evaluate {phase}"] = _state(done) if sets else "left out, no sets"
    if whole:
        found |= {"convert": f"to {escape(str(workspace.export_dir))}", "report": "to do"}
    return found or {stage: f"with the {workspace.newest_phase()} model"}


def _state(done: bool) -> str:
    return "done" if done else "to do"


def _training(workspace: Workspace, phase: str) -> str:
    directory = checkpoint.latest_step_dir(workspace.checkpoint_dir(phase))
    if workspace.phase_done(phase) or directory is None:
        return _state(directory is not None)
    return f"to do from step {directory.name}"


def planned_model(workspace: Workspace) -> ModelConfig:
    """Return the architecture, also of a model that is only made when the data are prepared.

    The vocabulary of a model from scratch is its upper limit; little data may give less.
    """
    source = workspace.config.model
    if (workspace.model_dir / "config.json").exists():
        return workspace.model
    if source.path == "scratch":
        model = prepare.scratch_config(workspace.config, source.scratch_vocab_size)
    elif source.path.endswith(".gguf"):
        model = gguf.read_config(source.path)
    elif hub.is_id(source.path):
        model = registry.read_config(hub.fetch(source.path, ("config.json",)).directory)
    else:
        return workspace.model
    return dataclasses.replace(
        model,
        dtype=source.dtype,
        param_dtype=source.param_dtype,
        remat=source.remat,
        attention=source.attention,
        lora=workspace.config.lora,
    )


def memory(workspace: Workspace, model: ModelConfig) -> dict[str, str]:
    """Return the parameter counts and an estimate of the state's memory per device.

    Counted: the parameters, of the trained ones both Adam moments and the gradient in float32,
    and the activations kept per layer (the residual stream for remat "full", with the outputs of
    the seven matrices for "dots"). Scratch space of the compiler is not.
    """
    config = workspace.config
    parts = lora.split(functional.abstract_params(model), model.lora)
    trained, frozen = (
        [(math.prod(x.shape), _bytes(x)) for x in jax.tree.leaves(part, is_leaf=_declared)]
        for part in parts
    )
    count = sum(size for size, _ in trained)
    # Scales of 4-bit matrices take memory, but are no parameters.
    full = dataclasses.replace(model, lora=dataclasses.replace(model.lora, frozen="full"))
    every = jax.tree.leaves(functional.abstract_params(full), is_leaf=_declared)
    shape: Any = workspace.mesh.shape
    state_bytes = sum(size * (width + 3 * 4) for size, width in trained)
    state_bytes += sum(size * width for size, width in frozen)
    rows = config.data.batch_size / config.train.accumulation
    tokens = rows * config.data.max_length / (shape["data"] * shape["fsdp"])
    kept = model.embed_dim
    if model.remat != "full":
        heads = (2 * model.num_heads + 2 * model.num_kv_heads) * model.head_dim
        kept += 2 * model.embed_dim + heads + 3 * model.mlp_dim
    size = 2 if model.dtype == "bfloat16" else 4
    activations = tokens * kept * model.num_layers * size
    return {
        "parameters": f"{sum(math.prod(x.shape) for x in every):,}",
        "trained parameters": f"{count:,}",
        "state per device": f"{state_bytes / (shape['fsdp'] * shape['tensor']) / GIB:.2f} GiB",
        "activations per device": f"{activations / GIB:.2f} GiB",
    }


def _bytes(info: Any) -> float:
    # Devices keep two 4-bit codes in a byte; numpy, whose sizes these are, does not.
    return 0.5 if info.dtype == jnp.uint4 else info.dtype.itemsize


def _declared(node: Any) -> bool:
    return hasattr(node, "axes")
