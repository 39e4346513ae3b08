"""Compile the programs of a run for a pod that is not there, and say what they need."""

from __future__ import annotations

import dataclasses
import math
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from rich.table import Table

from tl_jax.aot import hlo, programs, roofline
from tl_jax.config import ModelConfig, RunConfig
from tl_jax.errors import ConfigError, DoesNotFit
from tl_jax.models import remat
from tl_jax.parallel import tpu
from tl_jax.parallel.mesh import make_mesh

RANKED = (
    *("peak_bytes", "wire_bytes", "host_bytes"),
    *("schedule_s", "ici_s", "host_s", "estimate_s", "mfu_estimate"),
)
"""What a ranking says of each variant that fits."""

# Two stages of the compiler say it in two ways.
_NEEDED = re.compile(r"([\d.]+[MG])\)? (?:exceeds available HBM \(|of )([\d.]+[MG])")


@dataclasses.dataclass(frozen=True)
class Pod:
    """A run and the pod it is meant for.

    Attributes:
      config: The run.
      model: Its architecture.
      mesh: Of devices that are a description only.
      chip: What one of them can do.
      options: Flags of the compiler.
    """

    config: RunConfig
    model: ModelConfig
    mesh: Mesh
    chip: tpu.Chip
    options: Mapping[str, str]


def open_pod(config: RunConfig, model: ModelConfig, options: Mapping[str, str]) -> Pod:
    """Return the pod that ``config.mesh`` names.

    Raises:
      ConfigError: No such pod, no compiler for it, or a mesh that does not fit it.
    """
    topology = config.mesh.topology
    chip, _ = tpu.parse(topology)
    mesh = make_mesh(config.mesh, tpu.devices(topology, config.mesh.slices))
    return Pod(config, model, mesh, tpu.CHIPS[chip], options)


def names(config: RunConfig) -> tuple[str, ...]:
    """Return which programs a run compiles."""
    return tuple(programs.PROGRAMS) if config.ppo.steps else (programs.SUPERVISED,)


def compile_program(program: programs.Program, pod: Pod) -> Any:
    """Return the program compiled for the devices of ``pod``.

    Raises:
      DoesNotFit: The compiler finds no place in a device's memory.
    """
    with jax.set_mesh(program.mesh):
        lowered = program.jitted.lower(*program.arguments)
        try:
            return lowered.compile(compiler_options=dict(pod.options))
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            used = _NEEDED.search(str(error))
            what = f"needs {used[1]} of {used[2]}" if used else str(error).splitlines()[0]
            raise DoesNotFit(f"does not fit a device: {what}") from error


def measure(name: str, pod: Pod, *, keep: Path | None = None) -> dict[str, Any]:
    """Compile one program and return its figures, JSON-ready.

    ``peak_bytes`` is the compiler's own peak per device plus what lies beside the program. Where
    more waits on the host than is made on the device, it is an upper limit.

    Args:
      name: One of ``programs.PROGRAMS``.
      pod: Run and pod.
      keep: Directory for the text of the compiled program.

    Raises:
      DoesNotFit: The program, or what lies beside it, is too large.
    """
    program = programs.PROGRAMS[name](pod.config, pod.model, pod.mesh)
    began = time.monotonic()
    compiled = compile_program(program, pod)
    took = time.monotonic() - began
    text = compiled.as_text()
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        (keep / f"{name}.hlo").write_text(text)
    beside = programs.bytes_per_device(program.beside)
    # What compiles fits; the compiler's peak is that of the larger memory, device's or host's.
    own = min(compiled.memory_analysis().peak_memory_in_bytes, int(pod.chip.hbm_bytes))
    if own + beside > pod.chip.hbm_bytes:
        raise DoesNotFit(
            f"{name} does not fit a device: {own / tpu.GIB:.2f} GiB and {beside / tpu.GIB:.2f} GiB "
            f"beside it are more than {pod.chip.hbm_bytes / tpu.GIB:.2f}"
        )
    found = hlo.collectives(text)
    moved = hlo.totals(found)
    done = roofline.work(name, program, pod.model, pod.config.ppo.critic)
    wire = sum(row["wire_bytes"] for row in moved.values())
    times = roofline.times(done, wire, hlo.cycles(text), pod.chip, pod.mesh.size)
    outside = [one.bytes for one in found if one.kind == "all-gather" and not one.in_loop]
    tokens = program.rows * program.length / pod.mesh.size
    return {
        "program": name,
        "rows": program.rows,
        "length": program.length,
        "peak_bytes": own + beside,
        "beside_bytes": beside,
        "limit_bytes": int(pod.chip.hbm_bytes),
        **dataclasses.asdict(done),
        "collectives": moved,
        "largest_gather_outside_loops_bytes": max(outside, default=0),
        **times,
        "tokens_per_s_per_device": tokens / times["estimate_s"],
        "compile_s": took,
    }


def variant(pod: Pod, text: str) -> Pod:
    """Return the pod with another policy of rematerialisation and other flags of the compiler.

    Args:
      pod: Run and pod.
      text: ``POLICY[-WORD ...][+FLAG=VALUE ...]``: without the flags whose names have a word in
        them (``-`` alone: without any), and with others.

    Raises:
      ConfigError: No such policy, or a word that no flag has.
    """
    policy, *changes = re.split(r"(?=[-+])", text)
    if policy not in ("none", *remat.KEPT):
        raise ConfigError(f"variant {text!r} must begin with none, {', '.join(remat.KEPT)}")
    options = dict(pod.options)
    for change in changes:
        name, _, value = change[1:].partition("=")
        left = {flag: known for flag, known in options.items() if name not in flag}
        if change.startswith("+"):
            options[name] = value
        elif left == options:
            raise ConfigError(f"variant {text!r}: no flag has {name!r} in its name")
        else:
            options = left
    return dataclasses.replace(
        pod, model=dataclasses.replace(pod.model, remat=policy), options=options
    )


def rank_variant(pod: Pod, text: str) -> dict[str, Any]:
    """Compile the supervised step of a variant and return its row of a ranking, JSON-ready."""
    try:
        found = measure(programs.SUPERVISED, variant(pod, text))
    except DoesNotFit as error:
        return {"variant": text, "refused": str(error)}
    moved = sum(kind["wire_bytes"] for kind in found["collectives"].values())
    found["wire_bytes"] = moved
    return {"variant": text, **{name: found[name] for name in RANKED}}


def ranked(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows of a ranking, the shortest estimate first; last what does not fit."""
    return sorted(rows, key=lambda row: (row.get("estimate_s", math.inf), row["variant"]))


def largest_batch(pod: Pod) -> int:
    """Return the largest batch of the supervised step that fits, in whole rows per device.

    A batch that does not fit is refused quickly, one that fits is compiled to the end.
    """
    shape, config = pod.mesh.shape, pod.config
    shards = shape["data"] * shape["fsdp"] * config.train.accumulation

    def fits(rows: int) -> bool:
        data = dataclasses.replace(config.data, batch_size=rows * shards)
        wider = dataclasses.replace(config, data=data)
        program = programs.supervised_program(wider, pod.model, pod.mesh)
        try:
            compile_program(program, pod)
        except DoesNotFit:
            return False
        return True

    low = config.data.batch_size // shards
    high = 2 * low
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low * shards


def describe(pod: Pod) -> dict[str, Any]:
    """Return what the figures are about, JSON-ready."""
    config, model = pod.config, pod.model
    return {
        "topology": config.mesh.topology,
        "slices": config.mesh.slices,
        "mesh": dict(pod.mesh.shape),
        "model": config.model.path,
        "remat": model.remat,
        "attention": model.attention,
        "accumulation": config.train.accumulation,
        "options": dict(pod.options),
    }


def ranking_table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return a ranking as a table."""
    made = Table("variant", "GiB of a chip", "sent GB", "estimate", title=title)
    for row in rows:
        if "refused" in row:
            made.add_row(row["variant"], row["refused"], "", "")
            continue
        made.add_row(
            row["variant"],
            f"{row['peak_bytes'] / tpu.GIB:.2f}",
            f"{row['wire_bytes'] / 1e9:.3g}",
            f"{row['estimate_s'] * 1e3:.4g} ms, MFU {row['mfu_estimate']:.1%}",
        )
    return made


def table(title: str, figures: Sequence[Mapping[str, Any]]) -> Table:
    """Return the figures of ``measure`` as a table, one row per program."""
    heads = ("program", "rows x tokens", "GiB of a chip", "model PFLOP", "HBM GB", "sent GB")
    made = Table(*heads, "by", "roofline ms", "estimate", title=title)
    for row in figures:
        kinds = row["collectives"]
        by = ", ".join(f"{kind} {v['wire_bytes'] / 1e9:.2f}" for kind, v in kinds.items())
        parts = {name: row[f"{name}_s"] for name in ("compute", "hbm", "ici", "host")}
        made.add_row(
            row["program"],
            f"{row['rows']} x {row['length']}",
            f"{row['peak_bytes'] / tpu.GIB:.2f} of {row['limit_bytes'] / tpu.GIB:.2f}",
            f"{row['model_flops'] / 1e15:.3g}",
            f"{row['hbm_bytes'] / 1e9:.3g}",
            f"{sum(v['wire_bytes'] for v in kinds.values()) / 1e9:.3g}",
            by,
            f"{row['roofline_s'] * 1e3:.3g} ({max(parts, key=lambda name: parts[name])})",
            f"{row['estimate_s'] * 1e3:.3g} ms, MFU {row['mfu_estimate']:.0%}",
        )
    return made
