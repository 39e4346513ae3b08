"""The programs that a run compiles, with the shapes and layouts of their arguments."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from tl_jax.config import ModelConfig, RunConfig
from tl_jax.models import critic, functional, lora
from tl_jax.parallel import sharding
from tl_jax.parallel.mesh import make_sampling_mesh
from tl_jax.rl import logprobs
from tl_jax.sampling.decode import Programs, Prompts, Rows, make_programs
from tl_jax.sampling.held_rows import WIDTHS
from tl_jax.sampling.next_token import SampleConfig, scoring_temperature
from tl_jax.train import ppo as ppo_lib
from tl_jax.train import ppo_step, sft
from tl_jax.train import step as step_lib
from tl_jax.types import Batch, Rollout

SUPERVISED, UPDATE, SCORE, PREFILL, DECODE = "supervised", "update", "score", "prefill", "decode"
"""Names of the programs."""


class Program(NamedTuple):
    """One compiled function of a run.

    Attributes:
      jitted: From ``jax.jit``.
      arguments: Shapes, types and shardings to lower it with.
      rows: Sequences that one call works on, over all devices.
      length: Tokens per sequence.
      beside: What lies in memory while it runs and is no argument of it: shapes with shardings.
      mesh: Where it runs.
    """

    jitted: Any
    arguments: tuple[Any, ...]
    rows: int
    length: int
    beside: Any
    mesh: Mesh


def supervised_program(config: RunConfig, model: ModelConfig, mesh: Mesh) -> Program:
    """Return the step of the supervised phase."""
    declared, frozen = lora.split(functional.abstract_params(model), model.lora)
    frozen = sharding.placed(frozen, mesh)
    # The schedule is a table of no size; of epochs the steps are known once data are prepared.
    steps = max(config.train.steps, math.ceil(config.optim.warmup_steps) + 1)
    step, optimizer = sft.make_step(config, model, steps)
    state = step_lib.abstract_state(declared, optimizer, mesh)
    rows, length = config.data.batch_size, config.data.row_tokens
    batch = _batch(rows, length, mesh, of_trees=sft.shares_prefixes(config, model, mesh))
    jitted = _jit_step(step, state, frozen, mesh)
    return Program(jitted, (state, batch, frozen), rows, length, (), mesh)


def update_program(config: RunConfig, model: ModelConfig, mesh: Mesh) -> Program:
    """Return the step of the reward phase; a reference that waits on the device lies beside it."""
    state, frozen, reference = _reward_state(config, model, mesh)
    step = ppo_step.make_step(config, model, ppo_step.make_optimizer(config))
    samples = _reward_rows(config) // config.ppo.minibatches
    rows, length, shared = _rows_of(samples, config, model, mesh)
    batch = _batch(rows, length, mesh, with_rollout=True, of_trees=shared)
    jitted = _jit_step(step, state, frozen, mesh)
    beside = _idle(config, reference)
    return Program(jitted, (state, batch, frozen), rows, length, beside, mesh)


def score_program(config: RunConfig, model: ModelConfig, mesh: Mesh) -> Program:
    """Return what scores a rollout under policy and critic, with the reference beside it.

    The same scores it under the reference, with the policy beside it, in less memory.
    """
    state, frozen, reference = _reward_state(config, model, mesh)
    step = logprobs.make_logprob_step(
        model,
        temperature=scoring_temperature(config.ppo.temperature),
        chunk=config.train.ce_chunk,
    )
    rows, length, shared = _rows_of(_reward_rows(config), config, model, mesh)
    params = lora.joined(state.params, frozen)
    batch = _batch(rows, length, mesh, of_trees=shared)
    beside = (reference, *_idle(config, state.opt_state))
    return Program(step, (params, batch), rows, length, beside, mesh)


def prefill_program(config: RunConfig, model: ModelConfig, mesh: Mesh) -> Program:
    """Return what reads a piece of one prompt per part of the rows into the cache."""
    programs, params, rows, beside, mesh = _sampling(config, model, mesh)
    parts, width = sharding.parts(mesh, sharding.RULES["batch"]), WIDTHS[-1]
    key = jax.eval_shape(lambda: jax.random.key(0)).dtype
    by_row = ("batch",)
    number = _shape((parts,), jnp.int32, by_row, mesh)
    prompts = Prompts(
        tokens=_shape((parts, width), jnp.int32, ("batch", None), mesh),
        **dict.fromkeys(Prompts._fields[1:6], number),
        live=_shape((parts,), jnp.bool_, by_row, mesh),
        keys=_shape((parts,), key, by_row, mesh),
    )
    return Program(programs.read, (params, rows, prompts), parts, width, beside, mesh)


def decode_program(config: RunConfig, model: ModelConfig, mesh: Mesh) -> Program:
    """Return the loop that samples new tokens; one call makes one token per row and turn."""
    programs, params, rows, beside, mesh = _sampling(config, model, mesh)
    count = _reward_rows(config)
    number = jax.ShapeDtypeStruct((), jnp.int32, sharding=sharding.replicated(mesh))
    ended = _shape((count,), jnp.bool_, ("batch",), mesh)
    arguments = (params, rows, ended, None, None, number, number)
    return Program(programs.extend, arguments, count, 1, beside, mesh)


PROGRAMS: dict[str, Callable[[RunConfig, ModelConfig, Mesh], Program]] = {
    SUPERVISED: supervised_program,
    UPDATE: update_program,
    SCORE: score_program,
    PREFILL: prefill_program,
    DECODE: decode_program,
}
"""What makes each program, by its name."""


def bytes_per_device(tree: Any) -> int:
    """Return what shapes with shardings take of a device's memory."""

    def size(leaf: Any) -> int:
        width = 4 if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf.dtype.itemsize
        return math.prod(leaf.sharding.shard_shape(leaf.shape)) * width

    return sum(map(size, jax.tree.leaves(tree)))


def _jit_step(step: Any, state: Any, frozen: Any, mesh: Mesh) -> Any:
    layout = jax.tree.map(lambda leaf: leaf.sharding, state)
    return step_lib.jit_train_step(step, layout, sharding.batch_sharding(mesh), frozen)


def _shape(
    shape: tuple[int, ...], dtype: Any, axes: tuple[str | None, ...], mesh: Mesh
) -> jax.ShapeDtypeStruct:
    where = NamedSharding(mesh, sharding.spec(axes))
    return jax.ShapeDtypeStruct(shape, dtype, sharding=where)


def _batch(
    rows: int, length: int, mesh: Mesh, *, with_rollout: bool = False, of_trees: bool = False
) -> Batch[jax.ShapeDtypeStruct]:
    whole, real = (
        _shape((rows, length), dtype, ("batch", "length"), mesh)
        for dtype in (jnp.int32, jnp.float32)
    )
    extra = Rollout(real, real, real, real, real, real) if with_rollout else None
    counts = (whole, whole) if of_trees else ()
    return Batch(whole, whole, real, whole, whole, extra, *counts)


def _prompt_length(config: RunConfig) -> int:
    return -(-config.ppo.max_prompt_length // 64) * 64


def _rows_of(
    samples: int, config: RunConfig, model: ModelConfig, mesh: Mesh
) -> tuple[int, int, bool]:
    """Return how many rows samples of a rollout take, their tokens, and whether they share them."""
    ppo = config.ppo
    prompt = _prompt_length(config)
    shared = ppo_lib.shared_rows(
        config, model, mesh, prompt_length=prompt, reply_length=ppo.max_new_tokens
    )
    if shared is None:
        return samples, prompt + ppo.max_new_tokens, False
    return shared.most(samples, ppo.samples_per_prompt), shared.length, True


def _reward_rows(config: RunConfig) -> int:
    return config.ppo.prompts_per_step * config.ppo.samples_per_prompt


def _reward_state(config: RunConfig, model: ModelConfig, mesh: Mesh) -> tuple[Any, Any, Any]:
    """Return the state, what is frozen of policy and critic, and the reference beside them."""
    separate = config.ppo.critic == "separate"
    whole = critic.abstract_params(model, separate=separate)
    declared, frozen = lora.split(whole, model.lora)
    optimizer = ppo_step.make_optimizer(config)
    state = step_lib.abstract_state(declared, optimizer, mesh, kl_coef=config.ppo.kl_coef)
    # With adapters the reference's matrices are those of the policy.
    reference = lora.split(functional.abstract_params(model), model.lora)[0]
    return state, sharding.placed(frozen, mesh), sharding.placed(reference, mesh)


def _idle(config: RunConfig, *waiting: Any) -> tuple[Any, ...]:
    """Return what takes a device's memory of that which waits for another program."""
    return () if config.ppo.idle_memory == "host" else waiting


def _sampling(
    config: RunConfig, model: ModelConfig, mesh: Mesh
) -> tuple[Programs, Any, Rows, tuple[Any, ...], Mesh]:
    """Return the programs, their parameters and rows, what lies beside, and where they run."""
    ppo = config.ppo
    limits = SampleConfig(ppo.max_new_tokens, ppo.temperature, ppo.top_k, ppo.top_p, lookup=0)
    programs = make_programs(model, limits)
    state, frozen, reference = _reward_state(config, model, mesh)
    params = lora.joined(state.params, frozen)
    beside = (params, *_idle(config, state.opt_state, reference))
    mesh = make_sampling_mesh(mesh, config.mesh.sampling_tensor)
    params = jax.tree.map(lambda leaf: _on(leaf, mesh), params)
    if config.mesh.sampling_tensor:
        beside = (*beside, params)
    unstacked = jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
        jax.eval_shape(functional.unstack_layers, params),
        _unstacked_layout(params, model.num_layers),
    )
    count = _reward_rows(config)
    slots = _prompt_length(config) + ppo.max_new_tokens
    key = jax.eval_shape(lambda: jax.random.key(0))
    empty = jax.eval_shape(lambda k: programs.begin(count, slots, k), key)
    rows = jax.tree.map(lambda x: _shape(x.shape, x.dtype, _row_axes(x), mesh), empty)
    return programs, unstacked, rows, beside, mesh


def _on(leaf: Any, mesh: Mesh) -> jax.ShapeDtypeStruct:
    where = NamedSharding(mesh, leaf.sharding.spec)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)


def _unstacked_layout(params: Any, count: int) -> Any:
    """Return the shardings of the parameters with one dict per layer."""

    def layer(leaf: Any) -> NamedSharding:
        return NamedSharding(leaf.sharding.mesh, jax.P(*leaf.sharding.spec[1:]))

    layout = jax.tree.map(lambda leaf: leaf.sharding, params)
    return {**layout, "layers": (jax.tree.map(layer, params["layers"]),) * count}


def _row_axes(x: Any) -> tuple[str | None, ...]:
    if x.ndim == 4:  # keys and values: rows, key-value heads, then slots and head dim in any order
        return "batch", "act_heads", None, None
    return ("batch", *(None,) * (x.ndim - 1))
