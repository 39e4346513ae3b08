"""The steps of the reward phase: what they train, by which losses and at which rates."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from tl_jax.config import ModelConfig, PpoConfig, RunConfig
from tl_jax.models import critic as critic_lib
from tl_jax.sampling.next_token import scoring_temperature
from tl_jax.train import optimizer as optim
from tl_jax.train import step as step_lib


def warmup_rollouts(ppo: PpoConfig) -> int:
    """Return for how many rollouts only the critic learns; without its loss there is no use."""
    return ppo.critic_warmup_steps if ppo.value_coef else 0


def policy_updates(ppo: PpoConfig) -> int:
    """Return the number of updates of the policy, those of the whole phase but the warm-up."""
    return (ppo.steps - warmup_rollouts(ppo)) * ppo.epochs * ppo.minibatches


def make_optimizer(config: RunConfig) -> optax.GradientTransformation:
    """Return the optimizer of policy and critic."""
    ppo = config.ppo
    return optim.make_optimizer(
        config.ppo_optim,
        policy_updates(ppo),
        value_learning_rate=ppo.value_learning_rate,
        critic_learning_rate=ppo.critic_learning_rate,
    )


def make_step(config: RunConfig, model: ModelConfig, optimizer: Any) -> Any:
    """Return the step that trains policy and critic, to be compiled."""
    ppo = config.ppo
    warmup = warmup_rollouts(ppo)
    schedule = optim.make_schedule(config.ppo_optim, policy_updates(ppo))
    before = warmup * ppo.epochs * ppo.minibatches
    loss = _loss(
        config, ce_coef=ppo.ce_coef, reward_coef=ppo.reward_coef, value_coef=ppo.value_coef, ppo=ppo
    )
    return step_lib.make_train_step(
        model, loss, optimizer, schedule=lambda count: schedule(count - before)
    )


def make_critic_step(config: RunConfig, model: ModelConfig, optimizer: Any) -> Any:
    """Return the step that trains the critic alone, to be compiled."""
    # The critic starts from zero; until it knows the mean reward it would only add noise.
    ppo = dataclasses.replace(config.ppo, value_stop_gradient=True)
    loss = _loss(config, ce_coef=0.0, reward_coef=0.0, value_coef=ppo.value_coef, ppo=ppo)
    return step_lib.make_train_step(model, loss, critic_only(optimizer))


def _loss(config: RunConfig, **fields: Any) -> step_lib.LossConfig:
    ppo = config.ppo
    return step_lib.LossConfig(
        kl_estimator=ppo.kl.removeprefix("loss_") if ppo.kl != "reward_k1" else "",
        temperature=scoring_temperature(ppo.temperature),
        ce_chunk=config.train.ce_chunk,
        **fields,
    )


def critic_only(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Return ``optimizer`` without its effect on the policy: no decay, no moments, no count.

    Args:
      optimizer: From ``optim.make_optimizer`` with a value learning rate; the state is its own.
    """

    critics = (critic_lib.HEAD, critic_lib.TRUNK)

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, new_state = optimizer.update(grads, state, params)
        frozen = {
            name: part if name in critics else jax.tree.map(jnp.zeros_like, part)
            for name, part in updates.items()
        }

        def keep_policy(path: Any, new: Any, old: Any) -> Any:
            return old if any(getattr(key, "key", None) == "policy" for key in path) else new

        return frozen, jax.tree_util.tree_map_with_path(keep_policy, new_state, state)

    return optax.GradientTransformation(optimizer.init, update)
