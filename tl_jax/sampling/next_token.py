"""How the next token of each row is chosen from its logits."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class SampleConfig:
    """How new tokens are chosen, and where a row ends.

    Attributes:
      max_new_tokens: Most tokens sampled per row, the stop token included.
      temperature: Divides the logits; 0 takes the most likely token.
      top_k: Sample from this many most likely tokens; 0 is all.
      top_p: Of those, sample from the smallest set with at least this share of their probability;
        1 is all.
      stop_ids: A row ends with the first of these tokens.
      stop_strings: A row ends with the token that completes one of these texts.
      lookup: Most tokens per row that are proposed from its text, where its last tokens stood
        before, and checked in one forward; what is sampled stays the same. 0 is none.
    """

    max_new_tokens: int
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    stop_ids: tuple[int, ...] = ()
    stop_strings: tuple[str, ...] = ()
    lookup: int = 7

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, got {self.max_new_tokens}")
        if self.temperature < 0:
            raise ValueError(f"temperature must not be negative, got {self.temperature}")
        if self.top_k < 0:
            raise ValueError(f"top_k must not be negative, got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], got {self.top_p}")
        if self.lookup < 0:
            raise ValueError(f"lookup must not be negative, got {self.lookup}")
        if "" in self.stop_strings:
            raise ValueError("stop_strings must not hold an empty text")


def scoring_temperature(temperature: float) -> float:
    """Return the temperature at which log-probabilities are taken: 1 when sampling is greedy."""
    return temperature if temperature > 0 else 1.0


def choose(
    logits_BV: jax.Array, keys_B: jax.Array, config: SampleConfig, allowed_BV: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """Choose one token per row.

    Args:
      logits_BV: Of the next token.
      keys_B: Typed PRNG keys; unused when greedy.
      config: Temperature, top-k and top-p.
      allowed_BV: Tokens that may be chosen, at least one per row; None is all. Top-k and top-p
        count among them.

    Returns:
      ``(token_B, logprob_B)``: int32, and float32 under the whole distribution (before
      ``allowed_BV``, top-k and top-p) at the scoring temperature.
    """
    logits_BV = logits_BV.astype(jnp.float32) / scoring_temperature(config.temperature)
    open_BV = logits_BV if allowed_BV is None else jnp.where(allowed_BV, logits_BV, -jnp.inf)
    if config.temperature == 0:
        token_B = jnp.argmax(open_BV, axis=-1).astype(jnp.int32)
    else:
        open_BV = _likeliest(open_BV, config.top_k, config.top_p)
        token_B = jax.vmap(jax.random.categorical)(keys_B, open_BV).astype(jnp.int32)
    chosen_B = jnp.take_along_axis(logits_BV, token_B[:, None], axis=-1)[:, 0]
    return token_B, chosen_B - jax.nn.logsumexp(logits_BV, axis=-1)


def _likeliest(logits_BV: jax.Array, top_k: int, top_p: float) -> jax.Array:
    """Set all but the likeliest logits to minus infinity."""
    limited = 0 < top_k < logits_BV.shape[-1]
    if not limited and top_p == 1:
        return logits_BV
    if limited:
        sorted_BK = jax.lax.top_k(logits_BV, top_k)[0]
    else:
        sorted_BK = jnp.sort(logits_BV, axis=-1, descending=True)
    probs_BK = jax.nn.softmax(sorted_BK)
    # The mass before a token decides, so the most likely token always stays.
    kept_BK = (jnp.cumsum(probs_BK, axis=-1) - probs_BK < top_p) | (top_p == 1)
    least_B1 = jnp.min(jnp.where(kept_BK, sorted_BK, jnp.inf), axis=-1, keepdims=True)
    return jnp.where(logits_BV >= least_B1, logits_BV, -jnp.inf)
