"""The compiled programs of sampling: prompts are read into rows, and rows are extended."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from tl_jax.config import ModelConfig
from tl_jax.models import functional
from tl_jax.sampling.next_token import SampleConfig, choose
from tl_jax.types import Params


class Samples(flax.struct.PyTreeNode):
    """New tokens of the prompts in the rows; N is ``max_new_tokens``.

    Attributes:
      tokens: ``[B, N]`` int32; 0 after the end of a row.
      lengths: ``[B]`` int32 sampled tokens per row, the stop token included.
      logprobs: ``[B, N]`` float32, see ``choice.choose``; 0 after the end of a row.
      finished: ``[B]`` bool, whether the row ended before its tokens ran out.
    """

    tokens: jax.Array
    lengths: jax.Array
    logprobs: jax.Array
    finished: jax.Array


class Rows(flax.struct.PyTreeNode):
    """What the device holds of the rows.

    Attributes:
      samples: What was sampled so far.
      cache: Keys and values of each row's prompt and new tokens but the last; the token at a
        position is in the slot of that number.
      keys: ``[B]`` typed PRNG keys of the prompts.
    """

    samples: Samples
    cache: functional.Cache
    keys: jax.Array


class Programs(NamedTuple):
    """What ``make_programs`` builds. ``read`` and ``extend`` take over the rows that they get.

    Attributes:
      unstack: ``(params) -> params`` in the form that the others read.
      begin: ``(rows, slots, key) -> Rows`` that hold no prompt yet; numbers are static.
      lengthen: ``(rows, slots) -> Rows`` with more slots.
      read: ``(params, rows, prompt_RP, prompt_lengths_R, places_R, keys_R, allowed_RV) -> Rows``
        with R prompts put into the rows ``places_R`` and their first tokens chosen. Prompts are
        right-padded int32; only the first ``prompt_lengths_R`` (at least 1) tokens count. If R is
        the number of rows, ``places_R`` is not read: prompt after prompt gets row after row, and
        stays on the device that read it.
      extend: ``(params, rows, ended_B, allowed_BV, steps, due) -> Rows`` with at most ``steps``
        further tokens per row. Rows of ``ended_B`` end first; it returns when ``due`` rows have
        ended.
    """

    unstack: Callable[..., Params]
    begin: Callable[..., Rows]
    lengthen: Callable[..., Rows]
    read: Callable[..., Rows]
    extend: Callable[..., Rows]


def make_programs(model_config: ModelConfig, config: SampleConfig) -> Programs:
    """Build the programs for a model.

    The rows are donated from each call to the next, so that the cache is never copied. What a row
    samples depends on its prompt and its key, not on the other rows.

    Args:
      model_config: The architecture.
      config: How tokens are chosen.
    """
    new_tokens = config.max_new_tokens
    stop_ids = np.array(config.stop_ids, np.int32)

    def begin(rows: int, slots: int, key: jax.Array) -> Rows:
        samples = _empty(rows, new_tokens)
        return Rows(
            samples=samples.replace(finished=jnp.ones(rows, bool)),
            cache=functional.init_cache(model_config, rows, slots),
            keys=jnp.broadcast_to(key, rows),
        )

    def lengthen(rows: Rows, slots: int) -> Rows:
        return rows.replace(cache=_padded(rows.cache, slots))

    def append(
        params: Params,
        samples: Samples,
        keys_B: jax.Array,
        hidden_BD: jax.Array,
        allowed_BV: jax.Array | None,
    ) -> Samples:
        logits_BV = functional.logits(params, hidden_BD, model_config)
        # What a row samples depends on its key and on how far it is, not on the other rows.
        keys_B = jax.vmap(jax.random.fold_in)(keys_B, samples.lengths)
        return _append(samples, *choose(logits_BV, keys_B, config, allowed_BV), stop_ids)

    def read(
        params: Params,
        rows: Rows,
        prompt_RP: jax.Array,
        prompt_lengths_R: jax.Array,
        places_R: jax.Array,
        keys_R: jax.Array,
        allowed_RV: jax.Array | None,
    ) -> Rows:
        count, width = prompt_RP.shape
        position_RP = jnp.broadcast_to(jnp.arange(width, dtype=jnp.int32), prompt_RP.shape)
        hidden_RPD, cache = functional.apply_with_cache(
            params,
            prompt_RP,
            position_RP,
            position_RP < prompt_lengths_R[:, None],
            functional.init_cache(model_config, count, width),
            model_config,
        )
        last_R11 = (prompt_lengths_R - 1)[:, None, None]
        hidden_RD = jnp.take_along_axis(hidden_RPD, last_R11, axis=1)[:, 0]
        samples = append(params, _empty(count, new_tokens), keys_R, hidden_RD, allowed_RV)
        cache = _padded(cache.replace(index=prompt_lengths_R), rows.cache.valid.shape[1])
        new = Rows(samples, cache, keys_R)
        if count == rows.cache.valid.shape[0]:
            return new
        return jax.tree.map(lambda old, x: old.at[places_R].set(x), rows, new)

    def extend(
        params: Params,
        rows: Rows,
        ended_B: jax.Array,
        allowed_BV: jax.Array | None,
        steps: jax.Array,
        due: jax.Array,
    ) -> Rows:
        def unfinished(carry: tuple[jax.Array, Rows]) -> jax.Array:
            step, rows = carry
            return (step < steps) & (jnp.sum(_ended(rows.samples)) < due)

        def decode(carry: tuple[jax.Array, Rows]) -> tuple[jax.Array, Rows]:
            step, rows = carry
            samples, cache = rows.samples, rows.cache
            last_B1 = jnp.maximum(samples.lengths - 1, 0)[:, None]
            hidden_B1D, new = functional.apply_with_cache(
                params,
                jnp.take_along_axis(samples.tokens, last_B1, axis=1),
                cache.index[:, None],
                jnp.ones_like(last_B1, bool),
                cache,
                model_config,
            )
            # A row that has ended writes into its next slot again and again.
            index_B = jnp.where(_ended(samples), cache.index, new.index)
            samples = append(params, samples, rows.keys, hidden_B1D[:, 0], allowed_BV)
            return step + 1, Rows(samples, new.replace(index=index_B), rows.keys)

        samples = rows.samples.replace(finished=rows.samples.finished | ended_B)
        carry = (jnp.int32(0), rows.replace(samples=samples))
        return jax.lax.while_loop(unfinished, decode, carry)[1]

    return Programs(
        unstack=jax.jit(functional.unstack_layers),
        begin=jax.jit(begin, static_argnums=(0, 1)),
        lengthen=jax.jit(lengthen, static_argnums=1),
        read=jax.jit(read, donate_argnums=1),
        extend=jax.jit(extend, donate_argnums=1),
    )


def _ended(samples: Samples) -> jax.Array:
    return samples.finished | (samples.lengths >= samples.tokens.shape[1])


def _empty(rows: int, new_tokens: int) -> Samples:
    return Samples(
        tokens=jnp.zeros((rows, new_tokens), jnp.int32),
        lengths=jnp.zeros(rows, jnp.int32),
        logprobs=jnp.zeros((rows, new_tokens), jnp.float32),
        finished=jnp.zeros(rows, bool),
    )


def _append(
    samples: Samples, token_B: jax.Array, logprob_B: jax.Array, stop_ids: np.ndarray
) -> Samples:
    rows, new_tokens = samples.tokens.shape
    live_B = ~_ended(samples)
    # Nothing is written for the others: their place is behind the end.
    at = jnp.arange(rows), jnp.where(live_B, samples.lengths, new_tokens)
    return Samples(
        tokens=samples.tokens.at[at].set(token_B, mode="drop"),
        lengths=samples.lengths + live_B,
        logprobs=samples.logprobs.at[at].set(logprob_B, mode="drop"),
        finished=samples.finished | (live_B & jnp.isin(token_B, stop_ids)),
    )


def _padded(cache: functional.Cache, slots: int) -> functional.Cache:
    """Return the cache with empty slots behind its own."""
    more = slots - cache.valid.shape[1]

    def pad(x: jax.Array, axis: int) -> jax.Array:
        return jnp.pad(x, [(0, more if number == axis else 0) for number in range(x.ndim)])

    return cache.replace(
        keys=tuple(pad(x, 2) for x in cache.keys),
        values=tuple(pad(x, 2) for x in cache.values),
        positions=pad(cache.positions, 1),
        valid=pad(cache.valid, 1),
    )
