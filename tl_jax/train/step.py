"""The one train step: token-weighted cross-entropy plus a reward term."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding

from tl_jax.config import ModelConfig, PpoConfig
from tl_jax.models import critic, functional, lora
from tl_jax.ops.cross_entropy import token_logprobs
from tl_jax.ops.policy import clipped_policy_loss, clipped_value_loss, kl_loss
from tl_jax.parallel import sharding
from tl_jax.train.optimizer import apply_updates
from tl_jax.types import Batch, Params, StepMetrics, TrainState


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """``ce_coef * weighted_ce + reward_coef * policy_term + value_coef * value_loss``.

    A coefficient of zero removes its term from the compiled program. Supervised training is
    (1, 0, 0), reward training (0, 1, value_coef), a joint run mixes them; these decide, not the
    coefficients of ``ppo``. The policy term is the clipped loss, minus ``ppo.entropy_coef`` times
    the entropy, plus, if ``kl_estimator`` is set, the state's ``kl_coef`` times the divergence from
    the reference. With a ``ppo.stop_kl`` above 0, a step whose policy is already more nats per
    token from the one that sampled changes nothing. ``temperature`` divides the logits of the
    policy term.
    """

    ce_coef: float = 1.0
    reward_coef: float = 0.0
    value_coef: float = 0.0
    kl_estimator: str = ""
    temperature: float = 1.0
    ce_chunk: int = 1024
    ppo: PpoConfig = PpoConfig()

    @property
    def uses_rollout(self) -> bool:
        """Whether batches must carry a Rollout."""
        return bool(self.reward_coef or self.value_coef)


def init_state(
    params: Params, optimizer: optax.GradientTransformation, *, kl_coef: float | None = None
) -> TrainState:
    """Return the state before the first step; reward training starts with a ``kl_coef``.

    Only what is trained has a place in it (``models/lora.py``: ``split``).
    """
    return TrainState(
        step=jnp.int32(0),
        params=params,
        opt_state=optimizer.init(params),
        skipped=jnp.int32(0),
        kl_coef=None if kl_coef is None else jnp.float32(kl_coef),
    )


def state_shardings(state: TrainState[Any], declared: Any, mesh: Mesh) -> TrainState[NamedSharding]:
    """Return the sharding of every leaf of ``state``: moments lie as their parameters do.

    Args:
      state: A state, or its shapes; only the structure is read.
      declared: Nested dict of declarations of the trained parameters.
      mesh: The device mesh.
    """
    params = sharding.param_shardings(declared, mesh)
    by_path = {path: leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    whole = sharding.replicated(mesh)

    def like_parameter(path: Any, leaf: Any) -> NamedSharding:
        # An optimizer leaf belongs to the parameter whose path its own path ends with.
        for start in range(len(path)):
            if path[start:] in by_path and leaf.ndim:
                return by_path[path[start:]]
        return whole

    return TrainState(
        step=whole,
        params=params,
        opt_state=jax.tree_util.tree_map_with_path(like_parameter, state.opt_state),
        skipped=whole,
        kl_coef=None if state.kl_coef is None else whole,
    )


def abstract_state(
    declared: Any,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    kl_coef: float | None = None,
) -> TrainState[jax.ShapeDtypeStruct]:
    """Return shape, type and sharding of every leaf of the state, which need not exist.

    Args:
      declared: Nested dict of declarations of the trained parameters.
      optimizer: From ``optim.make_optimizer``.
      mesh: The device mesh.
      kl_coef: As for ``init_state``.
    """
    params = sharding.placed(declared, mesh)
    shapes = jax.eval_shape(lambda p: init_state(p, optimizer, kl_coef=kl_coef), params)
    return jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
        shapes,
        state_shardings(shapes, declared, mesh),
    )


def jit_train_step(
    step: Any, state_layout: TrainState[NamedSharding], batch_layout: Any, frozen: Params
) -> Any:
    """Compile ``step`` with pinned layouts and a donated state; ``frozen`` stays where it is."""
    return jax.jit(
        step,
        in_shardings=(state_layout, batch_layout, jax.tree.map(lambda x: x.sharding, frozen)),
        out_shardings=(state_layout, None),
        donate_argnums=0,
    )


def loss_sums(
    params: Params, batch: Batch, model: ModelConfig, loss: LossConfig
) -> dict[str, jax.Array]:
    """Return the unreduced float32 sums of one micro-batch, by term, and its diagnostics.

    ``ce``, ``policy`` and ``value`` are sums over tokens, to be divided by the global
    denominators of ``denominators``.
    """
    hidden_BTD = functional.hidden_states(params, batch, model)
    sums: dict[str, jax.Array] = {}
    counted: dict[float, jax.Array] = {}
    if loss.ce_coef:
        counted[1.0] = batch.weights != 0
    if loss.reward_coef:
        sampled_BT = _rollout(batch).weights != 0
        counted[loss.temperature] = counted.get(loss.temperature, False) | sampled_BT
    scored = {}
    for temperature, counted_BT in counted.items():
        of_policy = bool(loss.reward_coef) and temperature == loss.temperature
        scored[temperature] = token_logprobs(
            hidden_BTD,
            functional.head_kernel(params, model),
            batch.targets,
            counted_BT,
            chunk=loss.ce_chunk,
            temperature=temperature,
            with_entropy=of_policy and bool(loss.ppo.entropy_coef),
        )
    if loss.ce_coef:
        sums["ce"] = -jnp.sum(scored[1.0][0] * batch.weights)
    if loss.reward_coef:
        logprobs_BT, entropy_BT = scored[loss.temperature]
        rollout = _rollout(batch)
        sums["policy"], stats = clipped_policy_loss(
            logprobs_BT,
            rollout.old_logprobs,
            rollout.advantages,
            rollout.weights,
            clip_low=loss.ppo.clip_low,
            clip_high=loss.ppo.clip_high,
            dual_clip=loss.ppo.dual_clip,
        )
        sums |= stats
        if loss.ppo.entropy_coef:
            sums["entropy"] = jnp.sum(entropy_BT * rollout.weights)
        if loss.kl_estimator:
            sums["kl_loss"] = kl_loss(
                logprobs_BT, rollout.ref_logprobs, rollout.weights, estimator=loss.kl_estimator
            )
    if loss.value_coef:
        rollout = _rollout(batch)
        values_BT = critic.values(
            params, hidden_BTD, batch, model, stop_gradient=loss.ppo.value_stop_gradient
        )
        sums["value"] = clipped_value_loss(
            values_BT,
            rollout.old_values,
            rollout.returns,
            rollout.weights,
            clip=loss.ppo.clip_value,
        )
    return sums


def denominators(batch: Batch, loss: LossConfig) -> tuple[jax.Array, jax.Array]:
    """Return the global sums of the weights of cross-entropy and reward; either may be zero."""
    weight = jnp.sum(batch.weights.astype(jnp.float32))
    if not loss.uses_rollout:
        return weight, jnp.float32(0)
    return weight, jnp.sum(_rollout(batch).weights)


def make_train_step(
    model: ModelConfig,
    loss: LossConfig,
    optimizer: optax.GradientTransformation,
    *,
    accumulation: int = 1,
    schedule: optax.Schedule | None = None,
) -> Callable[..., tuple[TrainState, StepMetrics]]:
    """Return the pure function ``(state, batch, frozen) -> (state, metrics)`` for ``jax.jit``.

    ``frozen`` are parameters that the state does not hold because they are not trained; without
    adapters there are none.

    Each loss term is summed over tokens and divided once by its sum of weights over the global
    batch, so the result does not depend on padding, packing, shared beginnings, the mesh or
    ``accumulation``. A step whose loss or gradient is not finite leaves parameters and optimizer
    state unchanged.

    Args:
      model: The architecture.
      loss: Coefficients and clips.
      optimizer: From ``optim.make_optimizer``.
      accumulation: Micro-batches a batch is cut into; must divide its rows.
      schedule: Learning rate per step, only reported.

    Source: paper, objectives of MAE, PKT and IRM; code/pkt and code/irm of the reference.
    """

    def objective(
        trained: Params, frozen: Params, micro: Batch, totals: tuple[Any, Any], kl_coef: Any
    ) -> Any:
        weight, sampled = (jnp.maximum(total, 1e-8) for total in totals)
        sums = loss_sums(lora.joined(trained, frozen), micro, model, loss)
        total = jnp.float32(0)
        if loss.ce_coef:
            total += loss.ce_coef * sums["ce"] / weight
        if loss.reward_coef:
            term = sums["policy"]
            if loss.ppo.entropy_coef:
                term -= loss.ppo.entropy_coef * sums["entropy"]
            if loss.kl_estimator:
                term += kl_coef * sums["kl_loss"]
            total += loss.reward_coef * term / sampled
        if loss.value_coef:
            total += loss.value_coef * sums["value"] / sampled
        return total, sums

    gradient = jax.value_and_grad(objective, has_aux=True)

    def step(
        state: TrainState, batch: Batch, frozen: Params | None = None
    ) -> tuple[TrainState, StepMetrics]:
        totals = denominators(batch, loss)

        def one(trained: Params, micro: Batch) -> Any:
            found, grads = gradient(trained, frozen or {}, micro, totals, state.kl_coef)
            return found, _laid_out(grads, model)

        if accumulation == 1:
            found, grads = gradient(state.params, frozen or {}, batch, totals, state.kl_coef)
            (total, sums), grads = found, _laid_out(grads, model)
        else:
            total, sums, grads = _accumulate(one, state.params, batch, accumulation)
        grads = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), grads)
        grad_norm = optax.tree.norm(grads)
        finite = jnp.isfinite(total) & jnp.isfinite(grad_norm)
        near = jnp.bool_(True)
        if loss.reward_coef and loss.ppo.stop_kl:
            near = sums["approx_kl"] <= loss.ppo.stop_kl * totals[1]
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = apply_updates(state.params, updates, state.step)

        def keep(new: Any, old: Any) -> Any:
            return jax.tree.map(lambda n, o: jnp.where(finite & near, n, o), new, old)

        new_state = state.replace(
            step=state.step + near.astype(jnp.int32),
            params=keep(params, state.params),
            opt_state=keep(opt_state, state.opt_state),
            skipped=state.skipped + (1 - finite.astype(jnp.int32)),
        )
        # The optimizer counts the steps that it took.
        rate = schedule(state.step - state.skipped) if schedule is not None else 0.0
        metrics = _metrics(batch, total, sums, totals, grad_norm, rate, new_state.skipped)
        return new_state, metrics

    return step


def make_eval_step(
    model: ModelConfig, *, ce_chunk: int
) -> Callable[[Params, Batch], tuple[jax.Array, jax.Array]]:
    """Return ``(params, batch) -> (loss_sum, weight_sum)`` of the weighted cross-entropy."""
    loss = LossConfig(ce_chunk=ce_chunk)

    def step(params: Params, batch: Batch) -> tuple[jax.Array, jax.Array]:
        return loss_sums(params, batch, model, loss)["ce"], denominators(batch, loss)[0]

    return step


def _rollout(batch: Batch) -> Any:
    if batch.rollout is None:
        raise ValueError("the reward term needs a batch with a rollout")
    return batch.rollout


def _laid_out(grads: Params, model: ModelConfig) -> Params:
    """Lay gradients as their parameters lie; the compiler on its own may hold them whole."""
    declared = critic.abstract_params(model, separate=True)
    leaves = jax.tree_util.tree_leaves_with_path(declared, is_leaf=lambda x: hasattr(x, "axes"))
    axes = {path: info.axes for path, info in leaves}
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: sharding.constrain(leaf, *axes[path]), grads
    )


def _accumulate(
    gradient: Any, params: Params, batch: Batch, accumulation: int
) -> tuple[jax.Array, dict[str, jax.Array], Params]:
    rows = batch.tokens.shape[0]
    if rows % accumulation:
        raise ValueError(f"{rows} rows cannot be cut into {accumulation} micro-batches")
    # Row r goes to micro-batch r % accumulation: each device keeps its own rows.
    micros = jax.tree.map(
        lambda x: x.reshape(rows // accumulation, accumulation, *x.shape[1:]).swapaxes(0, 1), batch
    )

    def body(carry: Any, micro: Batch) -> tuple[Any, None]:
        (total, sums), grads = gradient(params, micro)
        new = (total, sums, grads)
        merged = jax.tree.map(jnp.add, carry, new)
        merged[1].update({k: jnp.maximum(carry[1][k], sums[k]) for k in sums if "max" in k})
        return merged, None

    shapes = jax.eval_shape(gradient, params, jax.tree.map(lambda x: x[0], micros))
    # Sums of many small gradients need float32 also where one gradient does not.
    (total, sums), grads = jax.tree.map(lambda s: jnp.zeros(s.shape, jnp.float32), shapes)
    carry, _ = jax.lax.scan(body, (total, sums, grads), micros)
    return carry


def _metrics(
    batch: Batch,
    total: jax.Array,
    sums: dict[str, jax.Array],
    totals: tuple[jax.Array, jax.Array],
    grad_norm: jax.Array,
    rate: Any,
    skipped: jax.Array,
) -> StepMetrics:
    zero: jax.Array = jnp.float32(0)
    weight, sampled = (jnp.maximum(total_, 1e-8) for total_ in totals)
    tokens = batch.visible_until > 0 if batch.samples is None else batch.samples
    trained = batch.weights > 0 if batch.trained is None else batch.trained
    if batch.rollout is not None:
        trained |= batch.rollout.weights > 0
    return StepMetrics(
        loss=total,
        ce_loss=sums.get("ce", zero) / weight,
        policy_loss=sums.get("policy", zero) / sampled,
        value_loss=sums.get("value", zero) / sampled,
        weight_sum=totals[0],
        trained_tokens=jnp.sum(trained).astype(jnp.float32),
        tokens=jnp.sum(tokens).astype(jnp.float32),
        grad_norm=grad_norm,
        learning_rate=jnp.asarray(rate, jnp.float32),
        skipped=skipped.astype(jnp.float32),
        approx_kl=sums.get("approx_kl", zero) / sampled,
        clip_fraction=sums.get("clipped", zero) / sampled,
        ratio=sums.get("ratio", zero) / sampled,
        kl_loss=sums.get("kl_loss", zero) / sampled,
        max_abs_log_ratio=sums.get("max_abs_log_ratio", zero),
    )
