"""Work of a program by hand formulas, and the time that peaks and compiler allow for it.

Model FLOPs count matrix products only, causal attention as half, and no second forward pass; what
is executed counts the second pass, too. The compiler's own count is of no use: it takes the body of
a loop once.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from tl_jax.aot import programs
from tl_jax.config import LoraConfig, ModelConfig
from tl_jax.models import functional, lora, remat
from tl_jax.ops import kernels
from tl_jax.parallel.tpu import Chip

FORMULA = """\
forward = rows * length * (2 * matrices + 2 * length * heads * head_dim * layers)
          (decode attends to the whole cache: 4 * slots instead of 2 * length)
model_flops = forward * (1 + 2 if trained, 1 with frozen matrices), of policy and critic trunk
executed_flops = model_flops + what rematerialisation and the chunked cross-entropy repeat
hbm_bytes = per pass: 2 bytes * (weights + inputs and outputs of all matrix products)
            + once read and written: the state of a step, or the cache
compute_s = executed_flops / (devices * peak FLOP/s)
hbm_s = hbm_bytes / (HBM bytes/s)
ici_s = bytes that the collectives send per device / (bytes/s over all links)
host_s = bytes that the forward pass puts into the host's memory / (bytes/s to the host) * 4
         (it has a quarter of the step; the backward pass brings them back in the rest)
roofline_s = max(compute_s, hbm_s, ici_s, host_s), as if all overlapped; mfu_bound is its MFU
schedule_s = cycles that the compiler expects, without collectives and copies to the host / clock
estimate_s = max(schedule_s, ici_s, host_s); mfu_estimate is its MFU
MFU = model_flops / (devices * peak FLOP/s * seconds)"""


@dataclasses.dataclass(frozen=True)
class Work:
    """What one call does.

    Attributes:
      model_flops: Over all devices, see ``FORMULA``.
      executed_flops: Over all devices.
      hbm_bytes: Per device.
      host_bytes: Per device, to the host's memory; as many come back.
    """

    model_flops: float
    executed_flops: float
    hbm_bytes: float
    host_bytes: float


def work(
    name: str,
    program: programs.Program,
    model: ModelConfig,
    critic: str,
) -> Work:
    """Return the work of one call of a program (one turn of the loop of ``decode``).

    Args:
      name: Of the program, one of ``programs.PROGRAMS``.
      program: The program.
      model: The architecture.
      critic: ``config.ppo.critic``.
    """
    layers, head = sum(_matrices(model).values()), model.embed_dim * model.vocab_size
    tokens = program.rows * program.length
    attention = 2 * program.length * model.num_heads * model.head_dim * model.num_layers
    if name == programs.DECODE:
        slots = program.arguments[1].text.shape[1]
        attention = 4 * slots * model.num_heads * model.head_dim * model.num_layers
    trunk = tokens * (2 * layers + attention)
    # The last token of a prompt is scored by the first turn of decoding.
    scored = {programs.PREFILL: 0, programs.DECODE: program.rows}.get(name, tokens)
    output = scored * 2 * head
    trunks = 2 if critic == "separate" and name in (programs.UPDATE, programs.SCORE) else 1
    forward = trunks * trunk + output
    trained = name in (programs.SUPERVISED, programs.UPDATE)
    passes = (1 if model.lora.rank else 2) if trained else 0
    model_flops = forward * (1 + passes)
    repeated = 0.0
    if trained:
        repeated = trunks * (trunk - tokens * _kept(model, attention)) + output
    state = programs.bytes_per_device(program.arguments[:2])
    moved = _moved(model, program, tokens, trunks) * (1 + passes + bool(repeated and passes))
    there = trunks * remat.widths(model)[1] * model.num_layers * _own(program, tokens)
    return Work(
        model_flops,
        model_flops + repeated,
        moved + state * (2 if trained else 1),
        there * _size(model) if trained else 0.0,
    )


def times(work: Work, wire_bytes: float, cycles: int, chip: Chip, devices: int) -> dict[str, float]:
    """Return the times of ``FORMULA`` in seconds, and the MFU that they would be.

    Args:
      work: Of one call.
      wire_bytes: That a device sends in a call.
      cycles: From ``hlo.cycles``.
      chip: Peaks of a device.
      devices: How many there are.
    """
    parts = {
        "compute_s": work.executed_flops / (devices * chip.flops),
        "hbm_s": work.hbm_bytes / chip.hbm_bandwidth,
        "ici_s": wire_bytes / chip.ici_bandwidth,
        "host_s": 4 * work.host_bytes / chip.host_bandwidth,
    }
    schedule = cycles / chip.clock
    bound, estimate = max(parts.values()), max(schedule, parts["ici_s"], parts["host_s"])
    ideal = work.model_flops / (devices * chip.flops)
    return {
        **parts,
        "roofline_s": bound,
        "mfu_bound": ideal / bound,
        "schedule_s": schedule,
        "estimate_s": estimate,
        "mfu_estimate": ideal / estimate if estimate else 0.0,
    }


def _matrices(model: ModelConfig) -> dict[str, int]:
    """Return the size of each matrix of the layers, of all layers together, by its path."""
    plain = dataclasses.replace(model, lora=LoraConfig())
    layers: Any = functional.abstract_params(plain)["layers"]
    return {
        f"{part}/{name}": math.prod(layers[part][name]["kernel"].shape)
        for part, name in (path.split("/") for path in lora.PATHS)
    }


def _kept(model: ModelConfig, attention: float) -> float:
    """Return the forward FLOPs of a token, in all layers, that the backward pass does not repeat.

    Nothing needs the output of the last matrix of a layer again.
    """
    if model.remat == "none":
        names: set[str] = {*lora.PATHS, kernels.SAVED}
    else:
        names = {*remat.KEPT[model.remat], "mlp/down"}
    sizes = _matrices(model)
    scores = attention if kernels.SAVED in names else 0.0
    return scores + sum(2 * size for path, size in sizes.items() if path in names)


def _own(program: programs.Program, tokens: int) -> float:
    """Return the tokens of a device."""
    shape = program.mesh.shape
    return tokens / (shape["data"] * shape["fsdp"] * shape["sequence"])


def _size(model: ModelConfig) -> int:
    return 2 if model.dtype == "bfloat16" else 4


def _moved(model: ModelConfig, program: programs.Program, tokens: int, trunks: int) -> float:
    """Return the bytes of one pass through all matrix products, per device."""
    layers, head = sum(_matrices(model).values()), model.embed_dim * model.vocab_size
    inner = 2 * (model.num_heads + model.num_kv_heads) * model.head_dim + 3 * model.mlp_dim
    width = model.num_layers * (7 * model.embed_dim + inner)
    weights = (trunks * layers + head) / program.mesh.shape["tensor"]
    return _size(model) * (weights + trunks * _own(program, tokens) * width)
