"""Score the targets of a batch: log-probabilities, values, entropy."""

from __future__ import annotations

from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax.config import ModelConfig
from tl_jax.models import critic, functional
from tl_jax.ops.cross_entropy import token_logprobs
from tl_jax.sampling.next_token import scoring_temperature
from tl_jax.types import Batch, Params


class LogprobStep(Protocol):
    """Score the targets of a batch, which may still be the host's."""

    def __call__(
        self, params: Params, batch: Batch[jax.Array | np.ndarray], /
    ) -> tuple[jax.Array, jax.Array, jax.Array]: ...


def make_logprob_step(model_config: ModelConfig, *, temperature: float, chunk: int) -> LogprobStep:
    """Build the compiled training forward that scores the targets of a batch.

    Old policy and reference are both scored by it, never by the sampler: two programs round
    differently, and the difference would look like divergence and like a ratio off 1.

    Args:
      model_config: The architecture.
      temperature: That of the sampler; a greedy one (0) is scored at 1.
      chunk: Positions per chunk of the cross-entropy.

    Returns:
      ``(params, batch) -> (logprobs_BT, values_BT, entropy_BT)``, float32. Log-probabilities and
      entropy are 0 where the weight of a target is, values if the parameters have no value head.
    """
    temperature = scoring_temperature(temperature)

    @jax.jit
    def logprob_step(
        params: Params, batch: Batch[jax.Array]
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        hidden_BTD = functional.hidden_states(params, batch, model_config)
        kernel_DV = functional.head_kernel(params, model_config)
        logprobs_BT, entropy_BT = token_logprobs(
            *(hidden_BTD, kernel_DV, batch.targets, batch.weights),
            chunk=chunk,
            temperature=temperature,
        )
        if critic.HEAD in params:
            values_BT = critic.values(params, hidden_BTD, batch, model_config, stop_gradient=True)
        else:
            values_BT = jnp.zeros_like(logprobs_BT)
        return logprobs_BT, values_BT, entropy_BT

    return logprob_step
