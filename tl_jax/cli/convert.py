"""convert: export the run's newest model, or convert between model formats.

Without further flags: <run_dir>/export becomes a Hugging Face directory with the newest model of
the run. With --source and --target it converts:

  a GGUF file        -> Hugging Face directory   --source=model.gguf --target=DIR
  a Hugging Face dir -> Hugging Face directory   --source=DIR --target=DIR2 --dtype=bfloat16
  a Hugging Face dir -> Orbax checkpoint         --source=DIR --target=DIR2 --orbax
  a run directory    -> Hugging Face directory   --config=... --target=DIR
  a run with LoRA    -> PEFT adapters            --config=... --adapter

Adapters are merged into the model, unless --adapter writes them alone: then to <run_dir>/adapter.
An existing target is refused unless --force is given.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tl_jax.cli.workspace import Workspace
from tl_jax.convert import from_hf, gguf, hf_directory, peft, to_hf
from tl_jax.data.template_trial import FALLBACK, TEMPLATES, open_template
from tl_jax.models import registry
from tl_jax.parallel import processes
from tl_jax.settings import ConfigError
from tl_jax.train.checkpoint import Checkpoints


@dataclasses.dataclass(frozen=True)
class Request:
    """What the flags of ``convert`` ask for."""

    source: str = ""
    target: str = ""
    dtype: str = "float32"
    orbax: bool = False
    adapter: bool = False
    force: bool = False


def main(workspace: Workspace | None, console: Console, request: Request) -> None:
    """Do what the flags of the command ask for."""
    processes.require_one("converting a model")
    if workspace is None or request.source:
        target = _convert(request)
    else:
        target = export(workspace, request)
    console.print(f"written: {target}", markup=False)


def show_plan(workspace: Workspace | None, console: Console, request: Request) -> None:
    """Print what ``main`` would read and write, after the same checks."""
    source, target = _ends(workspace, request)
    table = Table(title="plan of tl-jax convert", show_header=False)
    form = "Orbax checkpoint" if request.orbax else "Hugging Face directory"
    form = "PEFT adapters" if request.adapter else form
    table.add_row("source", escape(source))
    table.add_row("target", escape(f"{target} ({form})"))
    table.add_row("tensors", request.dtype)
    if request.force and target.exists():
        table.add_row("replaced", escape(str(target)))
    console.print(table)


def _ends(workspace: Workspace | None, request: Request) -> tuple[str, Path]:
    """Return the source in words and the target, both checked.

    Raises:
      ConfigError: The flags do not fit together, or the target is occupied.
    """
    if request.source:
        if not request.target:
            raise ConfigError("--source needs --target, the directory to write")
        if request.orbax and request.source.endswith(".gguf"):
            raise ConfigError("convert the GGUF file to a Hugging Face directory first")
        if request.adapter:
            raise ConfigError("--adapter writes the adapters of a run; give --config")
        source, target = request.source, Path(request.target)
    elif workspace is not None:
        if request.orbax:
            raise ConfigError(
                f"--orbax needs --source; {workspace.run_dir / 'checkpoints'} is Orbax already"
            )
        if request.adapter and not workspace.config.lora.rank:
            raise ConfigError("--adapter needs a run with adapters (config.lora.rank above 0)")
        usual = workspace.run_dir / "adapter" if request.adapter else workspace.export_dir
        target = Path(request.target) if request.target else usual
        source = f"{workspace.newest_phase()} model of {workspace.run_dir}"
    else:
        raise ConfigError("give --config to export a run, or --source and --target")
    occupied = target.exists() and not (target.is_dir() and not any(target.iterdir()))
    if occupied and not request.force:
        raise ConfigError(f"{target} exists; give another --target, or --force to replace it")
    return source, target


def export(workspace: Workspace, request: Request) -> Path:
    """Write the newest model of the run as a Hugging Face directory and return its path.

    With ``request.adapter`` only its adapters are written, in PEFT's form.

    A model trained with a chat template is told which tokens end its replies; where the template
    is not its own, it takes it along.
    """
    _, target = _ends(workspace, request)
    if request.adapter:
        peft.save(
            workspace.trained(workspace.newest_phase()),
            target,
            config=workspace.model,
            base=str(workspace.model_dir),
            dtype=request.dtype,
            overwrite=request.force,
        )
        return target
    name = workspace.config.data.template
    template = open_template(name, workspace.tokenizer) if name in TEMPLATES else None
    with jax.set_mesh(workspace.mesh):
        to_hf.save(
            workspace.params(workspace.newest_phase()),
            target,
            config=workspace.model,
            source=workspace.model_dir,
            dtype=request.dtype,
            generation={"eos_token_id": list(template.stop_ids)} if template else None,
            chat_template=template.source if template and name == FALLBACK else "",
            overwrite=request.force,
        )
    return target


def _convert(request: Request) -> Path:
    _, target = _ends(None, request)
    source = Path(request.source)
    if source.suffix == ".gguf":
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
