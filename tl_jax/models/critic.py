"""The critic of reward training: a value head on the policy's trunk, or on a trunk of its own."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from tl_jax.config import ModelConfig
from tl_jax.models import functional
from tl_jax.types import Params

HEAD, TRUNK = "value_head", "critic"
"""Keys of the critic among the parameters of the policy."""

_PARTS = ("embed", "layers", "final_norm")


def abstract_params(config: ModelConfig, *, separate: bool) -> dict[str, Any]:
    """Return what every parameter of policy and critic looks like."""
    return with_trunk(functional.abstract_params(config, value_head=True), separate=separate)


def with_trunk(params: Params, *, separate: bool) -> Params:
    """Return the parameters and, if ``separate``, the same leaves once more as a critic's trunk.

    Of frozen parameters both trunks are one: what tells them apart are their adapters.
    """
    trunk = {name: params[name] for name in _PARTS if name in params}
    return {**params, TRUNK: trunk} if separate and trunk else params


def attach(params: Params, head: Any, *, separate: bool) -> Params:
    """Return a copy of what is trained of the supervised model, with a critic.

    The head is zero at first, and a trunk of its own starts as the supervised model's: a critic
    that begins elsewhere has to learn to read before it can tell good replies from bad ones.

    Args:
      params: What is trained of the supervised model.
      head: Shapes, types and shardings of the head.
      separate: Give the critic a trunk of its own.
    """
    zeros = jax.tree.map(lambda x: jax.device_put(jnp.zeros(x.shape, x.dtype), x.sharding), head)
    return {**jax.tree.map(jnp.copy, with_trunk(params, separate=separate)), HEAD: zeros}


def values(
    params: Params, hidden_BTD: jax.Array, batch: Any, config: ModelConfig, *, stop_gradient: bool
) -> jax.Array:
    """Return the critic's predictions ``[B, T]`` float32.

    Args:
      params: With a critic.
      hidden_BTD: Hidden states of the policy on ``batch``.
      batch: Token rows, read again by a separate trunk.
      config: The architecture.
      stop_gradient: The value loss leaves a shared trunk as it is; a separate one always learns.
    """
    if TRUNK in params:
        hidden_BTD = functional.hidden_states(params[TRUNK], batch, config)
        return functional.values(params, hidden_BTD, stop_gradient=False)
    return functional.values(params, hidden_BTD, stop_gradient=stop_gradient)
