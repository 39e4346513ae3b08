"""Files of a run that are damaged: what is read is as before, mended or refused by name."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import mutate
import numpy as np
from ledger import Ledger, Outcome, draw_of

from tl_jax.config import DataConfig, LoraConfig, ModelConfig, ModelSourceConfig, RunConfig
from tl_jax.config.fields import to_dict
from tl_jax.convert import from_hf, to_hf
from tl_jax.data.prepare.files import FINGERPRINT, VERIFIED
from tl_jax.data.tokenize.tokenizer import train_byte_bpe
from tl_jax.errors import TlJaxError
from tl_jax.models import functional
from tl_jax.run import inputs, prepare
from tl_jax.run.checkpoint import MANIFEST, Checkpoints
from tl_jax.run.directory import Run

_KINDS = ("bit flipped", "cut", "emptied", "overwritten", "removed", "other JSON")
# What says nothing that is read again, or only how quickly something is known.
_IDLE = (VERIFIED, "loader_report.json", "versions.json", "README.md", "quarantine.jsonl")
# Without them there is nothing to hold the others against, as in runs of older versions.
_WITNESSES = (MANIFEST, FINGERPRINT, "SHA256SUMS", inputs.FILE)


@dataclasses.dataclass(frozen=True)
class Part:
    """A directory of a run.

    Attributes:
      name: For the table.
      folder: Where its files lie in the scene.
      read: Reads it all, given the scene; returns what came of it.
      files: Which of its files are damaged, as a pattern.
    """

    name: str
    folder: str
    read: Callable[[Path], Any]
    files: str = "*"


def injure(ledger: Ledger, times: int) -> None:
    """Damage files one after another until so many were, those of earlier runs included."""
    left = range(ledger.units.get("injuries", 0), times)
    for number, found in zip(left, run_units(ledger, left), strict=True):
        ledger.finish("injuries", number + 1, [found])


def run_units(ledger: Ledger, numbers: Sequence[int]) -> Iterator[Outcome]:
    """Give what the injuries of these numbers lead to."""
    if not numbers:
        return
    scene = ledger.folder / "scene"
    if not (scene / "whole").exists():
        shutil.rmtree(scene, ignore_errors=True)
        make_scene(scene)
        (scene / "whole").touch()
    wanted = {part.name: part.read(scene) for part in PARTS}
    for number in numbers:
        draw = draw_of(ledger.seed, "injuries", number)
        part = PARTS[number % len(PARTS)]
        fault, outcome, note = injured(ledger.folder / "injured", scene, part, wanted, draw)
        yield Outcome(fault, outcome, f"unit {number}: {note}")


def injured(
    folder: Path, scene: Path, part: Part, wanted: dict[str, Any], draw: random.Random
) -> tuple[str, str, str]:
    """Damage one file of a copy of the scene, and return fault, outcome and note."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(scene, folder)
    files = sorted(path for path in (folder / part.folder).rglob(part.files) if path.is_file())
    file = draw.choice([path for path in files if path.name not in (*_IDLE, *_WITNESSES)])
    kind = draw.choice(_KINDS)
    _damage(file, kind, draw)
    note = f"{kind}: {file.relative_to(folder)}"
    fault = f"file of {part.name} damaged"
    try:
        found = part.read(folder)
    except TlJaxError as error:
        return fault, "refused by name", f"{note}: {error}"
    except Exception as error:
        return fault, "traceback", f"{note}: {type(error).__name__}: {error}"
    return fault, ("as before" if found == wanted[part.name] else "silent"), note


def _damage(file: Path, kind: str, draw: random.Random) -> None:
    content = file.read_bytes()
    if kind == "removed":
        file.unlink()
    elif kind == "emptied":
        file.write_bytes(b"")
    elif kind == "other JSON":
        file.write_text(json.dumps(draw.choice(mutate.ODD)))
    elif content:
        at = draw.randrange(len(content))
        changed = bytearray(content)
        if kind == "cut":
            del changed[at:]
        elif kind == "bit flipped":
            changed[at] ^= 1 << draw.randrange(8)
        else:
            size = min(16, len(content) - at)
            changed[at : at + size] = draw.randbytes(size)
        file.write_bytes(bytes(changed))


def make_scene(folder: Path) -> None:
    """Write a tiny model, a run with prepared data, and checkpoints."""
    folder.mkdir(parents=True)
    tokenizer = train_byte_bpe(["find a train to Rome"] * 9, 264, folder / "tokenizer")
    model = ModelConfig(tokenizer.vocab_size, 16, 1, 2, 1, 8, 32, tie_embeddings=True)
    to_hf.save(
        functional.init(model, jax.random.key(0)),
        folder / "model",
        config=model,
        source=folder / "tokenizer",
        generation={"eos_token_id": tokenizer.eos_id},
    )
    run = open_run(folder)
    run.run_dir.mkdir()
    (run.run_dir / "config.json").write_text(json.dumps(to_dict(run.config)))
    prepare.prepare(run)
    inputs.settle(run)
    with Checkpoints(run.checkpoint_dir("supervised"), 1, 3) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, _state(step), None, {"phase_step": step}, force=True)


def open_run(folder: Path) -> Run:
    """Return the run of a scene."""
    return Run(
        RunConfig(
            run_dir=str(folder / "run"),
            model=ModelSourceConfig(path=str(folder / "model")),
            data=DataConfig(synthetic_trajectories=8, max_length=2048, workers=1),
            lora=LoraConfig(rank=2),
        )
    )


def _state(step: int) -> dict[str, Any]:
    return {"params": {"w": jnp.arange(600.0) * step}, "step": jnp.int32(step)}


def _read_model(folder: Path) -> str:
    found = from_hf.load(folder / "model")
    run = open_run(folder)
    told = hashlib.sha256(run.tokenizer.fingerprint.encode() + str(run.renderer.stop_ids).encode())
    for leaf in jax.tree.leaves(found):
        told.update(np.asarray(leaf).tobytes())
    return told.hexdigest()


def _read_trained_on(folder: Path) -> str:
    """Hold what training reads against its record, as training does when it goes on."""
    inputs.settle(open_run(folder))
    return "as recorded"


def _read_data(folder: Path) -> dict[str, str]:
    run = open_run(folder)
    prepare.prepare(run)
    files = sorted(path for path in run.data_dir.rglob("*") if path.is_file())
    return {
        str(path.relative_to(run.data_dir)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.name not in _IDLE
    }


def _read_checkpoints(folder: Path) -> dict[str, int]:
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    wanted = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), _state(1)
    )
    with Checkpoints(open_run(folder).checkpoint_dir("supervised"), 1, 3) as checkpoints:
        state, facts = checkpoints.restore(wanted)
    step = facts["phase_step"]
    if not np.array_equal(state["params"]["w"], _state(step)["params"]["w"]):
        return {"other values than of step": step}
    # The step before is what a damaged one is replaced by; nothing else is lost.
    return {"whole": 1 if step in (2, 3) else 0}


PARTS = (
    Part("the base model", "model", _read_model, "*.safetensors"),
    Part("the prepared data", "run/data", _read_data),
    Part("the checkpoints", "run/checkpoints", _read_checkpoints),
    Part("the base model of a trained run", "model", _read_trained_on),
)
