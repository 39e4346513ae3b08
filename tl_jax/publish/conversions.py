"""Convert between model formats, without a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from tl_jax.convert import from_hf, gguf, hub, model_files, to_hf, whole_directory
from tl_jax.models import registry
from tl_jax.publish.export import CARD, Request, ending_in_order, source_and_target, tensor_progress
from tl_jax.publish.model_card import conversion_card
from tl_jax.run.checkpoint import Checkpoints


def convert(request: Request, console: Console) -> Path:
    """Convert ``request.source`` into ``request.target`` and return its path."""
    _, target = source_and_target(None, request)
    with ending_in_order(), tensor_progress("convert", console) as on_tensor:
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
        model_files.check_model(source)
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
        whole_directory.new_directory(target, overwrite=request.force) as draft,
        Checkpoints(draft, every_steps=1, keep=1) as checkpoints,
    ):
        checkpoints.save(0, {"params": params}, None, {"source": where}, force=True)
