"""Work of a program by hand formulas, and the time that peaks and compiler allow for it.

Model FLOPs count matrix products only, causal attention as half, and no second forward pass; what
is executed counts the second pass, too. The compiler's own count is of no use: it takes the body of
a loop once.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from tl_jax.cli import programs
from tl_jax.config import ModelConfig
from tl_jax.models import functional
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
roofline_s = max(compute_s, hbm_s, ici_s), as if all overlapped; mfu_bound is its MFU
schedule_s = cycles that the compiler expects, without collectives / clock
estimate_s = max(schedule_s, ici_s); mfu_estimate is its MFU
MFU = model_flops / (devices * peak FLOP/s * seconds)"""


@dataclasses.dataclass(frozen=True)
class Work:
    """What one call does.

    Attributes:
      model_flops: Over all devices, see ``FORMULA``.
      executed_flops: Over all devices.
      hbm_bytes: Per device.
    """

    model_flops: float
    executed_flops: float
    hbm_bytes: float


def work(
    name: str,
    program: programs.Program,
    model: ModelConfig,
    mesh_shape: Mapping[str, int],
    critic: str,
) -> Work:
    """Return the work of one call of a program (one turn of the loop of ``decode``).

    Args:
      name: Of the program, one of ``programs.PROGRAMS``.
      program: The program.
      model: The architecture.
      mesh_shape: Sizes of the mesh axes.
      critic: ``config.ppo.critic``.
    """
    layers, head = _matrices(model)
    tokens = program.rows * program.length
    attention = 2 * program.length * model.num_heads * model.head_dim * model.num_layers
    if name == programs.EXTEND:
        slots = program.arguments[1].cache.valid.shape[1]
        attention = 4 * slots * model.num_heads * model.head_dim * model.num_layers
    trunk = tokens * (2 * layers + attention)
    # Of a prompt only the last position is scored.
    scored = program.rows if name in (programs.READ, programs.EXTEND) else tokens
    output = scored * 2 * head
    trunks = 2 if critic == "separate" and name in (programs.UPDATE, programs.SCORE) else 1
    forward = trunks * trunk + output
    trained = name in (programs.SUPERVISED, programs.UPDATE)
    passes = (1 if model.lora.rank else 2) if trained else 0
    model_flops = forward * (1 + passes)
    repeated = 0.0
    if trained:
        scores = tokens * attention
        again = {"none": 0, "minimal": 0, "dots": scores, "attention": trunk - scores}
        repeated = trunks * again.get(model.remat, trunk) + output
    state = programs.bytes_per_device(program.arguments[:2])
    moved = _moved(model, mesh_shape, tokens, trunks) * (1 + passes + bool(repeated and passes))
    return Work(model_flops, model_flops + repeated, moved + state * (2 if trained else 1))


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
    }
    schedule = cycles / chip.clock
    bound, estimate = max(parts.values()), max(schedule, parts["ici_s"])
    ideal = work.model_flops / (devices * chip.flops)
    return {
        **parts,
        "roofline_s": bound,
        "mfu_bound": ideal / bound,
        "schedule_s": schedule,
        "estimate_s": estimate,
        "mfu_estimate": ideal / estimate if estimate else 0.0,
    }


def _matrices(model: ModelConfig) -> tuple[int, int]:
    """Return the sizes of all matrices of the layers together, and of the output projection."""
    layers: Any = functional.abstract_params(model)["layers"]
    leaves = _leaves(layers)
    return sum(math.prod(x.shape) for x in leaves if len(x.shape) == 3), (
        model.embed_dim * model.vocab_size
    )


def _leaves(tree: Any) -> list[Any]:
    if hasattr(tree, "axes"):
        return [tree]
    return [leaf for part in tree.values() for leaf in _leaves(part)]


def _moved(model: ModelConfig, mesh_shape: Mapping[str, int], tokens: int, trunks: int) -> float:
    """Return the bytes of one pass through all matrix products, per device."""
    layers, head = _matrices(model)
    rows = tokens / (mesh_shape["data"] * mesh_shape["fsdp"])
    inner = 2 * (model.num_heads + model.num_kv_heads) * model.head_dim + 3 * model.mlp_dim
    width = model.num_layers * (7 * model.embed_dim + inner)
    size = 2 if model.dtype == "bfloat16" else 4
    return size * ((trunks * layers + head) / mesh_shape["tensor"] + trunks * rows * width)
