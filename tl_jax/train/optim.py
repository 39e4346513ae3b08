"""AdamW with warm-up, decay and clipping."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from tl_jax.config import OptimConfig
from tl_jax.settings import ConfigError

# Which optimiser learns the parts that are not the policy's.
_CRITIC = {"value_head": "value", "critic": "critic"}


def make_schedule(config: OptimConfig, total_steps: int) -> optax.Schedule:
    """Return the learning rate per step: linear warm-up, then cosine decay or constant.

    Args:
      config: ``learning_rate`` is the peak; cosine ends at ``final_fraction`` of it.
      total_steps: Steps of the whole phase, warm-up included.

    Raises:
      ConfigError: The warm-up of a cosine schedule does not end before the phase does.
    """
    if config.schedule == "constant":
        if config.warmup_steps == 0:
            return optax.constant_schedule(config.learning_rate)
        return optax.linear_schedule(0.0, config.learning_rate, config.warmup_steps)
    if config.warmup_steps >= total_steps:
        raise ConfigError(
            f"warmup_steps {config.warmup_steps} must be below the {total_steps} steps of the phase"
        )
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0 if config.warmup_steps else config.learning_rate,
        peak_value=config.learning_rate,
        warmup_steps=config.warmup_steps,
        decay_steps=total_steps,
        end_value=config.learning_rate * config.final_fraction,
    )


def make_optimizer(
    config: OptimConfig,
    total_steps: int,
    *,
    value_learning_rate: float | None = None,
    critic_learning_rate: float = 0.0,
) -> optax.GradientTransformation:
    """Return AdamW over a parameter dict, clipped by global norm.

    Norm scales and biases are not decayed. With ``value_learning_rate`` the value head has its
    own constant rate and is clipped apart, so that early value errors do not scale down the
    policy's gradient; so has, with ``critic_learning_rate``, a trunk of the critic's own. Moments
    and updates are float32 whatever the type of the parameters; ``optax.apply_updates`` rounds the
    sum once.
    """

    def adamw(schedule: optax.ScalarOrSchedule) -> optax.GradientTransformation:
        return optax.chain(
            optax.clip_by_global_norm(config.clip_norm),
            optax.adamw(
                schedule,
                b1=config.b1,
                b2=config.b2,
                eps=config.eps,
                weight_decay=config.weight_decay,
                mask=_decayed,
            ),
        )

    policy = adamw(make_schedule(config, total_steps))
    if value_learning_rate is None:
        return _in_float32(policy)
    parts = optax.partition(
        {
            "policy": policy,
            "value": adamw(value_learning_rate),
            "critic": adamw(critic_learning_rate),
        },
        lambda params: {
            name: jax.tree.map(lambda _, n=name: _CRITIC.get(n, "policy"), tree)
            for name, tree in params.items()
        },
    )
    return _in_float32(parts)


def _in_float32(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """Run ``inner`` on float32 copies; moments of b2 = 0.95 do not move in bfloat16."""

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return inner.update(_float32(grads), state, _float32(params))

    return optax.GradientTransformation(lambda params: inner.init(_float32(params)), update)


def _float32(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), tree)


def _decayed(params: Any) -> Any:
    return jax.tree_util.tree_map_with_path(
        lambda path, _: getattr(path[-1], "key", "") not in ("scale", "bias"), params
    )
