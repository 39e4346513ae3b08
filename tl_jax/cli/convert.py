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

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tl_jax.parallel import processes
from tl_jax.publish.conversions import convert
from tl_jax.publish.export import Request, export, export_adapters, source_and_target
from tl_jax.run.directory import Run

FLAGS = {
    "source": ("", "model to read"),
    "target": ("", "directory to write"),
    "dtype": (("float32", "bfloat16"), "tensor type"),
    "orbax": (False, "write an Orbax checkpoint"),
    "adapter": (False, "write only the adapters, for PEFT"),
    "force": (False, "replace the target if it exists"),
}
WITHOUT_RUN = ("source",)


def main(run: Run | None, console: Console, **options: Any) -> None:
    """Do what the flags of the command ask for."""
    request = Request(**options)
    if run is None or request.source:
        processes.require_one("converting a model")
        target = convert(request, console)
    else:
        write = export_adapters if request.adapter else export
        target = write(run, request, console)
    if processes.is_first():
        console.print(f"written: {target}", markup=False)


def show_plan(run: Run | None, console: Console, **options: Any) -> None:
    """Print what ``main`` would read and write, after the same checks."""
    request = Request(**options)
    source, target = source_and_target(run, request)
    table = Table(title="plan of tl-jax convert", show_header=False)
    form = "Orbax checkpoint" if request.orbax else "Hugging Face directory"
    form = "PEFT adapters" if request.adapter else form
    table.add_row("source", escape(source))
    table.add_row("target", escape(f"{target} ({form})"))
    table.add_row("tensors", request.dtype)
    if request.force and target.exists():
        table.add_row("replaced", escape(str(target)))
    console.print(table)
