"""AdamW with warm-up, decay and clipping."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from tl_jax.config import OptimConfig
from tl_jax.errors import ConfigError

# Which optimiser learns the parts that are not the policy's.
_CRITIC = {"value_head": "value", "critic": "critic"}

# A step moves a second moment by 1 - b2 of its distance to the squared gradient. bfloat16 loses
# changes below 1/512, with this b2 those of gradients within a fifth of it.
_MAX_ROUNDED_B2 = 0.99

_ROUNDING_SEED = 0


def warmup_steps(config: OptimConfig, total_steps: int) -> int:
    """Return the steps of the warm-up, of which ``config`` has the number or the share."""
    given = config.warmup_steps
    # 0.29 * 100 is 28.999999999999996.
    return int(given) if given >= 1 else int(given * total_steps + 1e-6)


def make_schedule(config: OptimConfig, total_steps: int) -> optax.Schedule:
    """Return the learning rate per step: linear warm-up, then cosine or linear decay, or constant.

    Args:
      config: ``learning_rate`` is the peak; a decay ends at ``final_fraction`` of it.
      total_steps: Steps of the whole phase, warm-up included.

    Raises:
      ConfigError: The warm-up before a decay does not end before the phase does.
    """
    rise = warmup_steps(config, total_steps)
    if config.schedule == "constant":
        if rise == 0:
            return optax.constant_schedule(config.learning_rate)
        return optax.linear_schedule(0.0, config.learning_rate, rise)
    if rise >= total_steps:
        raise ConfigError(f"warmup_steps {rise} must be below the {total_steps} steps of the phase")
    if config.schedule == "linear":
        peak, last = config.learning_rate, config.learning_rate * config.final_fraction
        decay = optax.linear_schedule(peak, last, total_steps - rise)
        if rise == 0:
            return decay
        warmup = optax.linear_schedule(0.0, peak, rise)
        return optax.join_schedules([warmup, decay], [rise])
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0 if rise else config.learning_rate,
        peak_value=config.learning_rate,
        warmup_steps=rise,
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
    and updates are computed in float32 whatever the type of the parameters; ``apply_updates``
    rounds the sum once, and moments of type bfloat16 are rounded after each step.

    Raises:
      ConfigError: Moments of type bfloat16 with a ``b2`` whose steps would be lost in rounding.
    """
    if config.moments == "bfloat16" and config.b2 > _MAX_ROUNDED_B2:
        raise ConfigError(
            f"optim.b2 {config.b2} changes second moments by less than bfloat16 can hold; take at "
            f"most {_MAX_ROUNDED_B2}, or optim.moments 'float32'"
        )

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
        return _in_float32(policy, config.moments)
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
    return _in_float32(parts, config.moments)


def apply_updates(params: Any, updates: Any, step: jax.Array) -> Any:
    """Return the parameters after an update, each in its own type.

    A parameter of type bfloat16 is rounded up or down by chance, so that on average it moves by its
    update. The nearest number would nearly always be the old one: at a learning rate of 1e-5 most
    updates are far less than half the distance to the next. The chances are those of the step and
    of the parameter's place in the tree, on every mesh the same.

    Args:
      params: Nested dict of arrays.
      updates: What is added, of the same shapes, float32.
      step: Updates so far, a scalar.
    """
    leaves, tree = jax.tree.flatten(params)
    key = jax.random.fold_in(jax.random.key(_ROUNDING_SEED), step)
    added = [
        _rounded(leaf.astype(jnp.float32) + update, jax.random.fold_in(key, place))
        if leaf.dtype == jnp.bfloat16
        else (leaf + update).astype(leaf.dtype)
        for place, (leaf, update) in enumerate(zip(leaves, jax.tree.leaves(updates), strict=True))
    ]
    return jax.tree.unflatten(tree, added)


def _rounded(values: jax.Array, key: jax.Array) -> jax.Array:
    """Round float32 values to bfloat16, up as often as the part that is cut off is large."""
    bits = jax.lax.bitcast_convert_type(values, jnp.uint32)
    chance = jax.random.bits(key, values.shape, jnp.uint16).astype(jnp.uint32)
    kept = (bits + chance) & jnp.uint32(0xFFFF0000)
    return jax.lax.bitcast_convert_type(kept, jnp.float32).astype(jnp.bfloat16)


def _in_float32(inner: optax.GradientTransformation, moments: str) -> optax.GradientTransformation:
    """Run ``inner`` on float32 copies; between steps its moments have the type ``moments``."""

    def init(params: Any) -> Any:
        return _cast(inner.init(_cast(params, "float32")), moments)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        wide = (_cast(tree, "float32") for tree in (updates, state, params))
        updates, state = inner.update(*wide)
        return updates, _cast(state, moments)

    return optax.GradientTransformation(init, update)


def _cast(tree: Any, dtype: str) -> Any:
    """Return the tree with its floating-point leaves in ``dtype``; counts stay as they are."""

    def one(leaf: Any) -> Any:
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(one, tree)


def _decayed(params: Any) -> Any:
    return jax.tree_util.tree_map_with_path(
        lambda path, _: getattr(path[-1], "key", "") not in ("scale", "bias"), params
    )
