"""Write the newest model of a run as a Hugging Face directory, or its adapters for PEFT."""

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

from tl_jax.convert import hf_directory, hub, peft, to_hf
from tl_jax.data.render.probe import OWN
from tl_jax.data.tokenize import pretrained
from tl_jax.errors import ConfigError
from tl_jax.parallel import processes
from tl_jax.publish.model_card import Exported, model_card
from tl_jax.report.read import read_json
from tl_jax.run import inputs
from tl_jax.run.directory import PHASES, Run
from tl_jax.run.progress import ProgressPrinter

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


def source_and_target(run: Run | None, request: Request) -> tuple[str, Path]:
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
    elif run is not None:
        if request.orbax:
            raise ConfigError(
                f"--orbax needs --source; {run.run_dir / 'checkpoints'} is Orbax already"
            )
        if request.adapter and not run.config.lora.rank:
            raise ConfigError("--adapter needs a run with adapters (config.lora.rank above 0)")
        usual = run.run_dir / "adapter" if request.adapter else run.export_dir
        target = Path(request.target) if request.target else usual
        _check_apart(run, target)
        source = f"{run.newest_phase()} model of {run.run_dir}"
    else:
        raise ConfigError("give --config to export a run, or --source and --target")
    occupied = target.exists() and not (target.is_dir() and not any(target.iterdir()))
    if occupied and not request.force:
        raise ConfigError(f"{target} exists; give another --target, or --force to replace it")
    if run is not None and not request.source:
        _check_trained(run)
    return source, target


def _check_trained(run: Run) -> None:
    """Refuse to export what is trained in no way though the settings ask for training."""
    wanted = [phase for phase in PHASES[1:] if run.trains(phase)]
    if wanted and run.newest_phase() == "before":
        raise ConfigError(
            f"{run.run_dir}: no model is trained yet; run `tl-jax train` first, or convert the "
            f"initial model itself with --source={run.config.model.path} and --target"
        )


def _check_apart(run: Run, target: Path) -> None:
    """Refuse a target that would take the place of the run or of a part of it."""
    end = target.resolve()
    if run.run_dir.resolve().is_relative_to(end):
        raise ConfigError(f"--target: {target} holds the run itself; give a directory of its own")
    if run.model_dir.resolve().is_relative_to(end):
        raise ConfigError(
            f"--target: {target} holds the initial model of the run; give a directory of its own"
        )
    for name in _OF_A_RUN:
        if end.is_relative_to((run.run_dir / name).resolve()):
            raise ConfigError(
                f"--target: {target} belongs to the run, which keeps its {name} there; give a "
                "directory of its own"
            )


def export(run: Run, request: Request, console: Console) -> Path:
    """Write the newest model of the run as a Hugging Face directory and return its path.

    A model trained with a chat template is told which tokens end its replies, and takes along the
    template that it was trained with, its settings fixed in it: none, if it was trained on another
    text form. With several
    processes all must call this; the first writes.
    """
    _, target = source_and_target(run, request)
    inputs.check(run)
    stops = list(run.renderer.stop_ids)
    with (
        jax.set_mesh(run.mesh),
        ending_in_order(),
        tensor_progress("export", console) as on_tensor,
    ):
        to_hf.save(
            run.params(run.newest_phase()),
            target,
            config=run.model,
            source=run.model_dir,
            dtype=request.dtype,
            generation=None if run.renderer.chat is None else {"eos_token_id": stops},
            chat_template=_chat_template(run),
            tokenizer_settings=_trained_in(run),
            readme=_card(run, request.dtype),
            overwrite=request.force,
            on_tensor=on_tensor,
        )
    _probe_tokenizer(target, console)
    return target


def _probe_tokenizer(target: Path, console: Console) -> None:
    """Say if transformers gives other ids with an export than the model was trained on."""
    written = processes.is_first() and (target / pretrained.FILE).is_file()
    if written and not pretrained.served_alike(str(target)):
        console.print(
            f"AutoTokenizer takes a class of its own for this type of model, which reads "
            f"{target / pretrained.FILE} otherwise than the model was trained on it; load it with "
            "PreTrainedTokenizerFast.from_pretrained"
        )


def _chat_template(run: Run) -> str | None:
    """Return the template that an export is to have; None for that of the initial model."""
    chat = run.renderer.chat
    if chat is None:
        return None if run.newest_phase() == "before" else ""
    return None if chat.name == OWN and chat.source == chat.given else chat.source


def _trained_in(run: Run) -> dict[str, str | None]:
    """Return the settings of an export's tokenizer by which it is used as in training.

    A plain text form is noted, so that the export is evaluated in that; and the control tokens of a
    chat template are none if the tokenizer is told to split them.
    """
    if run.newest_phase() == "before":
        return {}
    if run.renderer.chat is None:
        return {pretrained.TEXT_FORM: run.renderer.template}
    return {pretrained.TEXT_FORM: None, "split_special_tokens": None}


def export_adapters(run: Run, request: Request, console: Console) -> Path:
    """Write the newest adapters of the run as a directory for PEFT and return its path.

    The tokenizer and a chat template go along as with ``export``, and so do several processes.
    """
    _, target = source_and_target(run, request)
    inputs.check(run)
    base = run.hub_model
    with (
        jax.set_mesh(run.mesh),
        ending_in_order(),
        tensor_progress("export", console) as on_tensor,
    ):
        peft.save(
            run.trained(run.newest_phase()),
            target,
            config=run.model,
            base=base.id if base else str(run.model_dir),
            source=run.model_dir,
            chat_template=_chat_template(run),
            tokenizer_settings=_trained_in(run),
            readme=_card(run, request.dtype, adapter=True),
            dtype=request.dtype,
            overwrite=request.force,
            on_tensor=on_tensor,
        )
    return target


def renew_card(run: Run) -> None:
    """Write the model card of the run's export anew if what it tells has changed."""
    file = run.export_dir / CARD
    exported = hf_directory.read_json(run.export_dir / "config.json")
    text = _card(run, exported.get("dtype") or exported["torch_dtype"])
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        draft = file.with_name(f".{CARD}.tmp")
        draft.write_text(text, encoding="utf-8")
        draft.replace(file)


def _card(run: Run, dtype: str, *, adapter: bool = False) -> str:
    phase = run.newest_phase()
    base = run.hub_model
    return model_card(
        run.config,
        run.renderer,
        Exported(
            name=run.run_dir.resolve().name,
            phase=phase,
            step=run.model_step(phase) or 0,
            dtype=dtype,
            base_id=base.id if base else "",
            base_commit=base.commit if base else "",
            adapter=adapter,
        ),
    )


@contextlib.contextmanager
def tensor_progress(title: str, console: Console) -> Iterator[Callable[[int, int], None]]:
    """Yield a function ``(done, total)`` that shows a bar of tensors written."""
    with contextlib.ExitStack() as stack:
        bars: list[ProgressPrinter] = []

        def show(done: int, total: int) -> None:
            if not bars:
                bars.append(stack.enter_context(ProgressPrinter(title, total, console=console)))
            bars[0].update(done)

        yield show


@contextlib.contextmanager
def ending_in_order() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does, so that no half-written directory stays behind."""

    def end(number: int, _: object) -> NoReturn:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def export_newest(run: Run, console: Console) -> None:
    """Export the newest model unless ``export.json`` says that it is exported already.

    The model card of an export that stays is brought up to date with new scores.
    """
    phase = run.newest_phase()
    wanted = {"phase": phase, "step": run.model_step(phase)}
    record = run.run_dir / "export.json"
    done = read_json(record) == wanted and (run.export_dir / "config.json").exists()
    if not processes.agree(done):
        export(run, Request(force=True), console)
        if processes.is_first():
            record.write_text(json.dumps(wanted) + "\n", encoding="utf-8")
    elif processes.is_first():
        renew_card(run)
