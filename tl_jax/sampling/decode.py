"""The compiled programs of sampling: prompts are read into rows, and rows are extended."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from tl_jax.config import ModelConfig
from tl_jax.models import functional
from tl_jax.parallel.sharding import cut
from tl_jax.sampling import lookup
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
    """What the device holds of the rows; S is the number of slots.

    Attributes:
      samples: What was sampled so far.
      cache: Keys and values of each row's text but its last token.
      text: ``[B, S]`` int32, each row's prompt and new tokens, ``cache.index + 1`` of them.
      keys: ``[B]`` typed PRNG keys of the prompts.
    """

    samples: Samples
    cache: functional.Cache
    text: jax.Array
    keys: jax.Array


class Prompts(NamedTuple):
    """Pieces of prompts that are read at once, one for each part of the rows.

    Rows are numbered within their part; R is the number of parts.

    Attributes:
      tokens: ``[R, W]`` int32, right-padded; with the padding they fit behind ``shared``.
      counts: ``[R]`` int32 tokens that are no padding; the last of a prompt is not read here, but
        put in ``last``.
      last: ``[R]`` int32, the token behind them.
      sources: ``[R]`` int32 rows that hold the beginning of the prompt.
      shared: ``[R]`` int32 tokens of the source's text that are this beginning.
      places: ``[R]`` int32 rows that take the prompt.
      live: ``[R]`` bool; False where one of several parts gets no prompt.
      keys: ``[R]`` typed PRNG keys.
    """

    tokens: Any
    counts: Any
    last: Any
    sources: Any
    shared: Any
    places: Any
    live: Any
    keys: Any


class Programs(NamedTuple):
    """What ``make_programs`` builds. ``read`` and ``extend`` take over the rows that they get.

    Attributes:
      unstack: ``(params) -> params`` in the form that the others read.
      begin: ``(rows, slots, key) -> Rows`` that hold no prompt yet; numbers are static.
      read: ``(params, rows, prompts) -> Rows`` with pieces of prompts put into rows, behind what
        other rows hold of their beginnings. Without tokens (W = 0) rows are copied.
      extend: ``(params, rows, ended_B, allowed_BTV, proposals_BC, steps, due) -> Rows`` with new
        tokens from at most ``steps`` forwards. Rows of ``ended_B`` end first; it returns when
        ``due`` rows have ended. With ``allowed_BTV`` only these tokens may be chosen, at the first
        new place and at each behind a proposal; without ``proposals_BC`` they are looked up.
      look_up: ``(rows) -> proposals_BC``, as many as the configuration allows.
    """

    unstack: Callable[..., Params]
    begin: Callable[..., Rows]
    read: Callable[..., Rows]
    extend: Callable[..., Rows]
    look_up: Callable[[Rows], jax.Array]


def count_parts(rows: int) -> int:
    """Return into how many parts the mesh in context cuts so many rows."""
    return math.gcd(rows, cut("batch"))


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
        samples = Samples(
            tokens=jnp.zeros((rows, new_tokens), jnp.int32),
            lengths=jnp.zeros(rows, jnp.int32),
            logprobs=jnp.zeros((rows, new_tokens), jnp.float32),
            finished=jnp.ones(rows, bool),
        )
        return Rows(
            samples=samples,
            cache=functional.init_cache(model_config, rows, slots),
            text=jnp.zeros((rows, slots), jnp.int32),
            keys=jnp.broadcast_to(key, rows),
        )

    def read(params: Params, rows: Rows, prompts: Prompts) -> Rows:
        width = prompts.tokens.shape[1]
        parts = len(prompts.places)

        def apart(x: jax.Array) -> jax.Array:
            return x.reshape(parts, x.shape[0] // parts, *x.shape[1:])

        def taken(numbers_R: Any) -> Callable[[jax.Array], jax.Array]:
            return lambda x: jax.vmap(lambda part, at: part[at])(apart(x), numbers_R)

        cache, text_RS = jax.tree.map(taken(prompts.sources), (rows.cache, rows.text))
        cache = cache.replace(index=prompts.shared)
        if width:
            _, cache = functional.apply_with_cache(params, prompts.tokens, cache, model_config)
        cache = cache.replace(index=prompts.shared + prompts.counts)
        piece_RW = jnp.pad(prompts.tokens, ((0, 0), (0, 1)))
        piece_RW = jax.vmap(lambda x, at, token: x.at[at].set(token))(
            piece_RW, prompts.counts, prompts.last
        )
        text_RS = jax.vmap(
            lambda x, at, new: x.at[at + jnp.arange(width + 1)].set(new, mode="drop")
        )(text_RS, prompts.shared, piece_RW)
        samples = jax.tree.map(lambda x: jnp.zeros((parts, *x.shape[1:]), x.dtype), rows.samples)
        new = Rows(samples, cache, text_RS, prompts.keys)
        if parts > 1:
            kept = jax.tree.map(taken(prompts.places), rows)
            new = jax.tree.map(lambda x, y: jnp.where(_along(prompts.live, x), x, y), new, kept)

        def put(x: jax.Array, new: jax.Array) -> jax.Array:
            whole = jax.vmap(lambda part, at, row: part.at[at].set(row))(
                apart(x), prompts.places, new
            )
            return whole.reshape(x.shape)

        return jax.tree.map(put, rows, new)

    def look_up(rows: Rows, count: int = config.lookup) -> jax.Array:
        return lookup.propose(rows.text, rows.cache.index + 1, count)

    def extend(
        params: Params,
        rows: Rows,
        ended_B: jax.Array,
        allowed_BTV: jax.Array | None,
        proposals_BC: jax.Array | None,
        steps: jax.Array,
        due: jax.Array,
    ) -> Rows:
        def unfinished(carry: tuple[jax.Array, Rows]) -> jax.Array:
            step, rows = carry
            return (step < steps) & (jnp.sum(_ended(rows.samples)) < due)

        def forward(rows: Rows, proposals_BC: jax.Array) -> Rows:
            last_B1 = jnp.take_along_axis(rows.text, rows.cache.index[:, None], axis=1)
            tokens_BT = jnp.concatenate([last_B1, jnp.maximum(proposals_BC, 0)], axis=1)
            hidden_BTD, cache = functional.apply_with_cache(
                params, tokens_BT, rows.cache, model_config
            )
            logits_BTV = functional.logits(params, hidden_BTD, model_config)
            cache = cache.replace(index=rows.cache.index)
            allowed = None if allowed_BTV is None else allowed_BTV[:, : tokens_BT.shape[1]]
            return accept(
                rows.replace(cache=cache), logits_BTV, proposals_BC, allowed, config, stop_ids
            )

        def decode(carry: tuple[jax.Array, Rows]) -> tuple[jax.Array, Rows]:
            step, rows = carry
            if proposals_BC is not None:
                return step + 1, forward(rows, proposals_BC)
            count = lookup.most_proposals(len(ended_B), config.lookup)
            return step + 1, forward(rows, look_up(rows, count))

        samples = rows.samples.replace(finished=rows.samples.finished | ended_B)
        carry = (jnp.int32(0), rows.replace(samples=samples))
        return jax.lax.while_loop(unfinished, decode, carry)[1]

    return Programs(
        unstack=jax.jit(functional.unstack_layers),
        begin=jax.jit(begin, static_argnums=(0, 1)),
        read=jax.jit(read, donate_argnums=1),
        extend=jax.jit(extend, donate_argnums=1),
        look_up=jax.jit(look_up),
    )


def _ended(samples: Samples) -> jax.Array:
    return samples.finished | (samples.lengths >= samples.tokens.shape[1])


def accept(
    rows: Rows,
    logits_BTV: jax.Array,
    proposals_BC: jax.Array,
    allowed_BTV: jax.Array | None,
    config: SampleConfig,
    stop_ids: np.ndarray,
) -> Rows:
    """Choose a token at every place and append those that follow from what was chosen before.

    A token counts if all proposals before it are what was chosen, so each is chosen as it would
    be one at a time: by its own key, from the logits behind the same tokens.
    """
    samples, text_BS = rows.samples, rows.text
    B, T, V = logits_BTV.shape
    number_BT = samples.lengths[:, None] + jnp.arange(T)
    # What a row samples depends on its key and on how far it is, not on the other rows.
    keys_BT = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)))(rows.keys, number_BT)
    flat = None if allowed_BTV is None else allowed_BTV.reshape(B * T, V)
    token_BT, logprob_BT = (
        x.reshape(B, T)
        for x in choose(logits_BTV.reshape(B * T, V), keys_BT.reshape(B * T), config, flat)
    )
    stops_BT = jnp.isin(token_BT, stop_ids)
    goes_on_BC = (token_BT[:, :-1] == proposals_BC) & ~stops_BT[:, :-1]
    live_B1 = ~_ended(samples)[:, None]
    counts_BT = jnp.concatenate([live_B1, live_B1 & goes_on_BC], axis=1)
    counts_BT = jnp.cumprod(counts_BT, axis=1).astype(bool)
    counts_BT &= number_BT < samples.tokens.shape[1]
    count_B = jnp.sum(counts_BT, axis=1, dtype=jnp.int32)
    row_B1 = jnp.arange(B)[:, None]

    def written(x: jax.Array, at_BT: jax.Array, new_BT: jax.Array) -> jax.Array:
        # Nothing is written for the others: their place is behind the end.
        at = row_B1, jnp.where(counts_BT, at_BT, x.shape[1])
        return x.at[at].set(new_BT, mode="drop")

    after_BT = rows.cache.index[:, None] + 1 + jnp.arange(T)
    new = Samples(
        tokens=written(samples.tokens, number_BT, token_BT),
        lengths=samples.lengths + count_B,
        logprobs=written(samples.logprobs, number_BT, logprob_BT),
        finished=samples.finished | jnp.any(counts_BT & stops_BT, axis=1),
    )
    return rows.replace(
        samples=new,
        cache=rows.cache.replace(index=rows.cache.index + count_B),
        text=written(text_BS, after_BT, token_BT),
    )


def _along(live_R: jax.Array, x: jax.Array) -> jax.Array:
    """Return the flags of the rows so that they spread over the other axes of ``x``."""
    return live_R.reshape(-1, *(1,) * (x.ndim - 1))
