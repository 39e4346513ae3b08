"""convert: export the run's newest model, or convert between model formats.

Without further flags: <run_dir>/export becomes a Hugging Face directory with the newest model of
the run. With --source and --target it converts:

  a GGUF file        -> Hugging Face directory   --source=model.gguf --target=DIR
  a Hugging Face dir -> Hugging Face directory   --source=DIR --target=DIR2 --dtype=bfloat16
  a Hugging Face dir -> Orbax checkpoint         --source=DIR --target=DIR2 --orbax
  a run directory    -> Hugging Face directory   --config=... --target=DIR

An existing target is refused unless --force is given.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
from rich.console import Console

from tl_jax.cli.workspace import Workspace
from tl_jax.config import ConfigError
from tl_jax.convert import from_hf, gguf, hf_directory, to_hf
from tl_jax.models import registry
from tl_jax.train.checkpoint import Checkpoints


@dataclasses.dataclass(frozen=True)
class Request:
    """What the flags of ``convert`` ask for."""

    source: str = ""
    target: str = ""
    dtype: str = "float32"
    orbax: bool = False
    force: bool = False


def main(workspace: Workspace | None, console: Console, request: Request) -> None:
    """Do what the flags of the command ask for."""
    if request.source:
        if not request.target:
            raise ConfigError("--source needs --target, the directory to write")
        target = _convert(request)
    elif workspace is not None:
        if request.orbax:
            raise ConfigError(
                f"--orbax needs --source; {workspace.run_dir / 'checkpoints'} is Orbax already"
            )
        target = export(workspace, request)
    else:
        raise ConfigError("give --config to export a run, or --source and --target")
    console.print(f"written: {target}")


def export(workspace: Workspace, request: Request) -> Path:
    """Write the newest model of the run as a Hugging Face directory and return its path."""
    target = Path(request.target) if request.target else workspace.export_dir
    _refuse_occupied(target, request)
    with jax.set_mesh(workspace.mesh):
        to_hf.save(
            workspace.params(workspace.newest_phase()),
            target,
            config=workspace.model,
            source=workspace.model_dir,
            dtype=request.dtype,
            overwrite=request.force,
        )
    return target


def _convert(request: Request) -> Path:
    source, target = Path(request.source), Path(request.target)
    _refuse_occupied(target, request)
    if source.suffix == ".gguf":
        if request.orbax:
            raise ConfigError("convert the GGUF file to a Hugging Face directory first")
        gguf.convert(source, target, request.dtype, overwrite=request.force)
        return target
    config = registry.read_config(source, param_dtype=request.dtype)
    params = from_hf.load(source, param_dtype=request.dtype)
    if not request.orbax:
        to_hf.save(
            params,
            target,
            config=config,
            source=source,
            dtype=request.dtype,
            overwrite=request.force,
        )
        return target
    with (
        hf_directory.new_directory(target, overwrite=request.force) as draft,
        Checkpoints(draft, every_steps=1, keep=1) as checkpoints,
    ):
        checkpoints.save(0, {"params": params}, None, {"source": str(source)}, force=True)
    return target


def _refuse_occupied(target: Path, request: Request) -> None:
    occupied = target.exists() and not (target.is_dir() and not any(target.iterdir()))
    if occupied and not request.force:
        raise ConfigError(f"{target} exists; give another --target, or --force to replace it")
