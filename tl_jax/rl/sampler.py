"""Autoregressive sampling: one prefill and one decode loop in a single compiled function."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from tl_jax.config import ModelConfig
from tl_jax.models import functional
from tl_jax.types import Params


@dataclasses.dataclass(frozen=True)
class SampleConfig:
    """How new tokens are chosen.

    Attributes:
      max_new_tokens: Most tokens sampled per row, the stop token included.
      temperature: Divides the logits; 0 takes the most likely token.
      top_p: Sample from the smallest set of tokens with at least this probability; 1 is all.
      stop_ids: A row ends with the first of these tokens.
    """

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    stop_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, got {self.max_new_tokens}")
        if self.temperature < 0:
            raise ValueError(f"temperature must not be negative, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], got {self.top_p}")


@flax.struct.dataclass
class Samples:
    """New tokens of a batch of prompts; N is ``max_new_tokens``.

    Attributes:
      tokens: ``[B, N]`` int32; 0 after the end of a row.
      lengths: ``[B]`` int32 sampled tokens per row, the stop token included.
      logprobs: ``[B, N]`` float32 under the whole distribution (before top-p) at the sampling
        temperature, at temperature 1 when greedy; 0 after the end of a row.
      finished: ``[B]`` bool, whether the row ended with a stop token.
    """

    tokens: jax.Array
    lengths: jax.Array
    logprobs: jax.Array
    finished: jax.Array


class Generation(NamedTuple):
    """The sampled tokens of one prompt, the stop token included, on the host."""

    ids: list[int]
    logprobs: list[float]
    finished: bool


Carry = tuple[jax.Array, Samples, functional.Cache]
Sampler = Callable[[Params, jax.Array, jax.Array, jax.Array], Samples]


def make_sampler(model_config: ModelConfig, sample_config: SampleConfig) -> Sampler:
    """Build the compiled function that continues a batch of prompts.

    Args:
      model_config: The architecture.
      sample_config: How tokens are chosen.

    Returns:
      ``sample(params, prompt_BP, prompt_lengths_B, row_keys_B) -> Samples``. Prompts are
      right-padded int32; only the first ``prompt_lengths_B`` (at least 1) tokens of a row count.
      ``row_keys_B`` are typed PRNG keys: what a row samples depends on its prompt and its key,
      not on the other rows. One compilation per shape of ``prompt_BP``.
    """
    new_tokens = sample_config.max_new_tokens
    stop_ids = np.array(sample_config.stop_ids, np.int32)

    @jax.jit
    def sample(
        params: Params, prompt_BP: jax.Array, prompt_lengths_B: jax.Array, row_keys_B: jax.Array
    ) -> Samples:
        rows, prompt_slots = prompt_BP.shape
        params = functional.unstack_layers(params)

        def extend(samples: Samples, step: jax.Array | int, hidden_BD: jax.Array) -> Samples:
            logits_BV = functional.logits(params, hidden_BD, model_config)
            keys_B = jax.vmap(jax.random.fold_in, (0, None))(row_keys_B, step)
            return _append(samples, step, *_choose(logits_BV, keys_B, sample_config), stop_ids)

        def decode(carry: Carry) -> Carry:
            step, samples, cache = carry
            hidden_B1D, cache = functional.apply_with_cache(
                params,
                jax.lax.dynamic_slice_in_dim(samples.tokens, step - 1, 1, axis=1),
                (prompt_lengths_B + step - 1)[:, None],
                jnp.ones((rows, 1), bool),
                cache,
                model_config,
            )
            return step + 1, extend(samples, step, hidden_B1D[:, 0]), cache

        def unfinished(carry: Carry) -> jax.Array:
            step, samples, _ = carry
            return (step < new_tokens) & ~jnp.all(samples.finished)

        position_BP = jnp.broadcast_to(jnp.arange(prompt_slots, dtype=jnp.int32), prompt_BP.shape)
        hidden_BPD, cache = functional.apply_with_cache(
            params,
            prompt_BP,
            position_BP,
            position_BP < prompt_lengths_B[:, None],
            # The last sampled token is never fed back.
            functional.init_cache(model_config, rows, prompt_slots + new_tokens - 1),
            model_config,
        )
        last_B11 = (prompt_lengths_B - 1)[:, None, None]
        hidden_BD = jnp.take_along_axis(hidden_BPD, last_B11, axis=1)[:, 0]
        samples = extend(_empty(rows, new_tokens), 0, hidden_BD)
        return jax.lax.while_loop(unfinished, decode, (jnp.int32(1), samples, cache))[1]

    return sample


def generate(
    sample: Sampler,
    params: Params,
    prompts: Sequence[Sequence[int]],
    row_keys: jax.Array,
    *,
    batch_size: int,
    length: int = 0,
) -> list[Generation]:
    """Continue prompts of any length in batches of similar length.

    Args:
      sample: From ``make_sampler``.
      params: Model parameters.
      prompts: Token ids, at least one per prompt.
      row_keys: ``[len(prompts)]`` typed PRNG keys; they belong to the prompts, so results do not
        depend on how prompts fall into batches.
      batch_size: Rows per compiled call; a shorter last batch is filled with repeated rows.
      length: Padded length of every batch; 0 takes the bucket of its longest prompt.

    Returns:
      One ``Generation`` per prompt, in the order given.

    Raises:
      ValueError: A prompt without tokens, or longer than ``length``.
    """
    for index, prompt in enumerate(prompts):
        if not len(prompt):
            raise ValueError(f"prompt {index} has no tokens; give it at least one (such as BOS)")
        if length and len(prompt) > length:
            raise ValueError(f"prompt {index} has {len(prompt)} tokens, more than {length}")
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    generations: dict[int, Generation] = {}
    for start in range(0, len(order), batch_size):
        members = order[start : start + batch_size]
        rows = members + members[-1:] * (batch_size - len(members))
        lengths = np.array([len(prompts[index]) for index in rows], np.int32)
        tokens = np.zeros((batch_size, length or bucket_length(int(lengths.max()))), np.int32)
        for row, index in enumerate(rows):
            tokens[row, : lengths[row]] = prompts[index]
        samples = jax.device_get(sample(params, tokens, lengths, row_keys[np.array(rows)]))
        for row, index in enumerate(members):
            size = int(samples.lengths[row])
            generations[index] = Generation(
                ids=samples.tokens[row, :size].tolist(),
                logprobs=samples.logprobs[row, :size].tolist(),
                finished=bool(samples.finished[row]),
            )
    return [generations[index] for index in range(len(prompts))]


def bucket_length(length: int) -> int:
    """Return the smallest padded length not below ``length``: 32, 48, 64, 96, 128, 192 ...

    Texts of any lengths up to 8192 need 17 compilations and waste a fifth on average.
    """
    power = 32
    while power < length:
        if power * 3 // 2 >= length:
            return power * 3 // 2
        power *= 2
    return power


def scoring_temperature(temperature: float) -> float:
    """Return the temperature at which log-probabilities are taken: 1 when sampling is greedy."""
    return temperature if temperature > 0 else 1.0


def _empty(rows: int, new_tokens: int) -> Samples:
    return Samples(
        tokens=jnp.zeros((rows, new_tokens), jnp.int32),
        lengths=jnp.zeros(rows, jnp.int32),
        logprobs=jnp.zeros((rows, new_tokens), jnp.float32),
        finished=jnp.zeros(rows, bool),
    )


def _append(
    samples: Samples,
    step: jax.Array | int,
    token_B: jax.Array,
    logprob_B: jax.Array,
    stop_ids: np.ndarray,
) -> Samples:
    live_B = ~samples.finished
    return Samples(
        tokens=samples.tokens.at[:, step].set(jnp.where(live_B, token_B, 0)),
        lengths=samples.lengths + live_B,
        logprobs=samples.logprobs.at[:, step].set(jnp.where(live_B, logprob_B, 0.0)),
        finished=samples.finished | jnp.isin(token_B, stop_ids),
    )


def _choose(
    logits_BV: jax.Array, keys_B: jax.Array, config: SampleConfig
) -> tuple[jax.Array, jax.Array]:
    logits_BV = logits_BV.astype(jnp.float32) / scoring_temperature(config.temperature)
    if config.temperature == 0:
        token_B = jnp.argmax(logits_BV, axis=-1).astype(jnp.int32)
    else:
        allowed_BV = logits_BV if config.top_p == 1 else _nucleus(logits_BV, config.top_p)
        token_B = jax.vmap(jax.random.categorical)(keys_B, allowed_BV).astype(jnp.int32)
    logprobs_BV = jax.nn.log_softmax(logits_BV)
    return token_B, jnp.take_along_axis(logprobs_BV, token_B[:, None], axis=-1)[:, 0]


def _nucleus(logits_BV: jax.Array, top_p: float) -> jax.Array:
    """Set logits outside the smallest set with probability ``top_p`` to minus infinity."""
    sorted_BV = jnp.sort(logits_BV, axis=-1, descending=True)
    probs_BV = jax.nn.softmax(sorted_BV)
    # The mass before a token decides, so the most likely token always stays.
    kept_BV = jnp.cumsum(probs_BV, axis=-1) - probs_BV < top_p
    least_B1 = jnp.min(jnp.where(kept_BV, sorted_BV, jnp.inf), axis=-1, keepdims=True)
    return jnp.where(logits_BV >= least_B1, logits_BV, -jnp.inf)
