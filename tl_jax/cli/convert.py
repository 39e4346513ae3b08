"""convert: export the run's newest model, or convert between model formats.

Without further flags: <run_dir>/export becomes a Hugging Face directory with the newest model of
the run and a model card. With --source and --target it converts:

  a GGUF file        -> Hugging Face directory   --source=model.gguf --target=DIR
  a Hugging Face dir -> Hugging Face directory   --source=DIR --target=DIR2 --dtype=bfloat16
  a Hugging Face dir -> Orbax checkpoint         --source=DIR --target=DIR2 --orbax
  a run directory    -> Hugging Face directory   --config=... --target=DIR
  a run with LoRA    -> PEFT adapters            --config=... --adapter

Adapters are merged into the model, unless --adapter writes them alone: then to <run_dir>/adapter.
A source may also be the id of a model on the Hugging Face Hub: organisation/name, or
organisation/name@revision. An existing target is refused unless --force is given. Every file is
read back and compared with what was meant (SHA256SUMS); the target appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import jax
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tl_jax.cli.workspace import Workspace
from tl_jax.convert import from_hf, gguf, hf_directory, hub, peft, to_hf
from tl_jax.data.chat_template import ChatTemplate
from tl_jax.data.template_trial import OWN, TEMPLATES, open_template
from tl_jax.models import registry
from tl_jax.parallel import processes
from tl_jax.report.model_card import Exported, conversion_card, model_card
from tl_jax.settings import ConfigError
from tl_jax.train.checkpoint import Checkpoints
from tl_jax.train.metrics import ProgressPrinter

CARD = "README.md"
_OF_A_RUN = ("checkpoints", "data", "model", "results", "tensorboard", "tokenizer")


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
    if workspace is None or request.source:
        processes.require_one("converting a model")
        target = _convert(request, console)
    else:
        write = export_adapters if request.adapter else export
        target = write(workspace, request, console)
    if processes.is_first():
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
      ConfigError: The flags do not fit together, or the target is occupied or of the run itself.
    """
    if request.source:
        if not request.target:
            raise ConfigError("--source needs --target, the directory to write")
        if request.orbax and request.source.endswith(".gguf"):
            raise ConfigError("convert the GGUF file to a Hugging Face directory first")
        if request.adapter:
            raise ConfigError("--adapter writes the adapters of a run; give --config")
        source, target = request.source, Path(request.target)
        if not (Path(source).exists() or hub.is_id(source)):
            raise ConfigError(
                f"--source: {source} is no directory and no .gguf file here, and no id of the "
                "Hugging Face Hub (organisation/name)"
            )
        if Path(source).resolve().is_relative_to(target.resolve()) and Path(source) != target:
            raise ConfigError(f"--target: {target} holds the source and would be replaced")
    elif workspace is not None:
        if request.orbax:
            raise ConfigError(
                f"--orbax needs --source; {workspace.run_dir / 'checkpoints'} is Orbax already"
            )
        if request.adapter and not workspace.config.lora.rank:
            raise ConfigError("--adapter needs a run with adapters (config.lora.rank above 0)")
        usual = workspace.run_dir / "adapter" if request.adapter else workspace.export_dir
        target = Path(request.target) if request.target else usual
        _check_apart(workspace, target)
        source = f"{workspace.newest_phase()} model of {workspace.run_dir}"
    else:
        raise ConfigError("give --config to export a run, or --source and --target")
    occupied = target.exists() and not (target.is_dir() and not any(target.iterdir()))
    if occupied and not request.force:
        raise ConfigError(f"{target} exists; give another --target, or --force to replace it")
    return source, target


def _check_apart(workspace: Workspace, target: Path) -> None:
    """Refuse a target that would take the place of the run or of a part of it."""
    end = target.resolve()
    if workspace.run_dir.resolve().is_relative_to(end):
        raise ConfigError(f"--target: {target} holds the run itself; give a directory of its own")
    if workspace.model_dir.resolve().is_relative_to(end):
        raise ConfigError(
            f"--target: {target} holds the initial model of the run; give a directory of its own"
        )
    for name in _OF_A_RUN:
        if end.is_relative_to((workspace.run_dir / name).resolve()):
            raise ConfigError(
                f"--target: {target} belongs to the run, which keeps its {name} there; give a "
                "directory of its own"
            )


def export(workspace: Workspace, request: Request, console: Console) -> Path:
    """Write the newest model of the run as a Hugging Face directory and return its path.

    A model trained with a chat template is told which tokens end its replies, and takes along the
    template that it was trained with: none, if it was trained on another text form. With several
    processes all must call this; the first writes.
    """
    _, target = _ends(workspace, request)
    template, chat_template = _template(workspace)
    with (
        jax.set_mesh(workspace.mesh),
        _ending_in_order(),
        _progress("export", console) as on_tensor,
    ):
        to_hf.save(
            workspace.params(workspace.newest_phase()),
            target,
            config=workspace.model,
            source=workspace.model_dir,
            dtype=request.dtype,
            generation={"eos_token_id": list(template.stop_ids)} if template else None,
            chat_template=chat_template,
            readme=_card(workspace, request.dtype),
            overwrite=request.force,
            on_tensor=on_tensor,
        )
    return target


def _template(workspace: Workspace) -> tuple[ChatTemplate | None, str | None]:
    """Return the template of the run, if it is a chat template, and what an export is to have."""
    name = workspace.config.data.template
    template = open_template(name, workspace.tokenizer) if name in TEMPLATES else None
    kept = name == OWN or (workspace.newest_phase() == "before" and template is None)
    return template, None if kept else template.source if template else ""


def export_adapters(workspace: Workspace, request: Request, console: Console) -> Path:
    """Write the newest adapters of the run as a directory for PEFT and return its path.

    The tokenizer and a chat template go along as with ``export``, and so do several processes.
    """
    _, target = _ends(workspace, request)
    base = workspace.hub_model
    with (
        jax.set_mesh(workspace.mesh),
        _ending_in_order(),
        _progress("export", console) as on_tensor,
    ):
        peft.save(
            workspace.trained(workspace.newest_phase()),
            target,
            config=workspace.model,
            base=base.id if base else str(workspace.model_dir),
            source=workspace.model_dir,
            chat_template=_template(workspace)[1],
            readme=_card(workspace, request.dtype, adapter=True),
            dtype=request.dtype,
            overwrite=request.force,
            on_tensor=on_tensor,
        )
    return target


def renew_card(workspace: Workspace) -> None:
    """Write the model card of the run's export anew if what it tells has changed."""
    file = workspace.export_dir / CARD
    exported = json.loads((workspace.export_dir / "config.json").read_text(encoding="utf-8"))
    text = _card(workspace, exported.get("dtype") or exported["torch_dtype"])
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        draft = file.with_name(f".{CARD}.tmp")
        draft.write_text(text, encoding="utf-8")
        draft.replace(file)


def _card(workspace: Workspace, dtype: str, *, adapter: bool = False) -> str:
    phase = workspace.newest_phase()
    base = workspace.hub_model
    return model_card(
        workspace.config,
        Exported(
            name=workspace.run_dir.resolve().name,
            phase=phase,
            step=workspace.saved_step(phase) or 0,
            dtype=dtype,
            call_style=workspace.call_style,
            base_id=base.id if base else "",
            base_commit=base.commit if base else "",
            adapter=adapter,
        ),
    )


def _convert(request: Request, console: Console) -> Path:
    _, target = _ends(None, request)
    with _ending_in_order(), _progress("convert", console) as on_tensor:
        if request.source.endswith(".gguf"):
            gguf.convert(
                request.source,
                target,
                request.dtype,
                overwrite=request.force,
                on_tensor=on_tensor,
            )
            return target
        base = hub.fetch(request.source) if hub.is_id(request.source) else None
        source = base.directory if base else Path(request.source)
        where = f"{base.id}@{base.commit}" if base else str(source)
        if base:
            console.print(f"source: {where}", markup=False)
        if request.orbax:
            _to_orbax(source, where, target, request, on_tensor)
        else:
            config = registry.read_config(source, param_dtype=request.dtype)
            name, commit = (base.id, base.commit) if base else ("", "")
            with from_hf.open_files(source) as files:
                to_hf.save(
                    from_hf.stored_params(files, config),
                    target,
                    config=config,
                    source=source,
                    dtype=request.dtype,
                    readme=_source_card(source)
                    or conversion_card(where, request.dtype, base_id=name, base_commit=commit),
                    overwrite=request.force,
                    on_tensor=on_tensor,
                )
    return target


def _source_card(source: Path) -> str:
    file = source / CARD
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def _to_orbax(
    source: Path, where: str, target: Path, request: Request, on_param: Callable[[int, int], None]
) -> None:
    params = from_hf.load(source, param_dtype=request.dtype, on_param=on_param)
    with (
        hf_directory.new_directory(target, overwrite=request.force) as draft,
        Checkpoints(draft, every_steps=1, keep=1) as checkpoints,
    ):
        checkpoints.save(0, {"params": params}, None, {"source": where}, force=True)


@contextlib.contextmanager
def _progress(title: str, console: Console) -> Iterator[Callable[[int, int], None]]:
    """Yield a function ``(done, total)`` that shows a bar of tensors written."""
    with contextlib.ExitStack() as stack:
        bars: list[ProgressPrinter] = []

        def show(done: int, total: int) -> None:
            if not bars:
                bars.append(stack.enter_context(ProgressPrinter(title, total, console=console)))
            bars[0].update(done)

        yield show


@contextlib.contextmanager
def _ending_in_order() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, so that no half-written directory stays behind."""

    def end(number: int, _: object) -> NoReturn:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
