"""What a command would do, without doing it: stages, shapes, parameters, memory."""

from __future__ import annotations

import math
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from tl_jax.cli.workspace import Workspace
from tl_jax.models import functional

GIB = 1024**3


def show(workspace: Workspace, stage: str, console: Console) -> None:
    """Print the resolved plan of ``stage``."""
    config = workspace.config
    table = Table(title=f"plan of tl-jax {stage}", show_header=False)
    table.add_row("run directory", str(workspace.run_dir))
    table.add_row("model", config.model.path)
    table.add_row("data", f"{config.data.path} ({config.data.format})")
    table.add_row("rows", f"{config.data.batch_size} x {config.data.max_length} tokens a step")
    table.add_row(
        "supervised", f"{config.train.steps} steps, {config.train.accumulation} micro-batches"
    )
    table.add_row(
        "reward",
        f"{config.ppo.steps} rollouts of {config.ppo.prompts_per_step} prompts x "
        f"{config.ppo.samples_per_prompt} samples, {config.ppo.max_new_tokens} new tokens",
    )
    table.add_row(
        "mesh", " x ".join(f"{name} {size}" for name, size in workspace.mesh.shape.items())
    )
    if (workspace.model_dir / "config.json").exists():
        for name, value in memory(workspace).items():
            table.add_row(name, value)
    else:
        table.add_row("parameters", "known after `tl-jax prepare`")
    console.print(table)


def memory(workspace: Workspace) -> dict[str, str]:
    """Return the parameter count and an estimate of the state's memory per device.

    Counted: parameters and both Adam moments in the parameter type, one gradient, and the
    activations kept per layer (the residual stream for remat "full", with the outputs of the
    seven matrices for "dots"). Scratch space of the compiler is not.
    """
    config, model = workspace.config, workspace.model
    leaves = jax.tree.leaves(
        functional.abstract_params(model), is_leaf=lambda x: hasattr(x, "axes")
    )
    count = sum(math.prod(leaf.shape) for leaf in leaves)
    shape: Any = workspace.mesh.shape
    state_bytes = 4 * sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)
    rows = config.data.batch_size / config.train.accumulation
    tokens = rows * config.data.max_length / (shape["data"] * shape["fsdp"])
    kept = model.embed_dim
    if model.remat != "full":
        heads = (2 * model.num_heads + 2 * model.num_kv_heads) * model.head_dim
        kept += 2 * model.embed_dim + heads + 3 * model.mlp_dim
    size = 2 if model.dtype == "bfloat16" else 4
    activations = tokens * kept * model.num_layers * size
    return {
        "parameters": f"{count:,}",
        "state per device": f"{state_bytes / (shape['fsdp'] * shape['tensor']) / GIB:.2f} GiB",
        "activations per device": f"{activations / GIB:.2f} GiB",
    }
