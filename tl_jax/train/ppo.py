"""The reward phase: sample calls, score them by rule, improve the policy with PPO."""

from __future__ import annotations

import dataclasses
import functools
import logging
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from tl_jax.config import ModelConfig, PpoConfig, RunConfig
from tl_jax.data.loader.loader import make_loader
from tl_jax.data.prepare.files import EXAMPLES
from tl_jax.errors import ConfigError, ScoringMismatch
from tl_jax.models import critic as critic_lib
from tl_jax.models import lora
from tl_jax.parallel import memory, processes, sharding
from tl_jax.rewards import taxonomy
from tl_jax.rl import rollout as rollout_lib
from tl_jax.rl.custom_reward import open_reward
from tl_jax.rl.gold_rows import with_gold
from tl_jax.rl.logprobs import make_logprob_step
from tl_jax.rl.prompts import minibatches
from tl_jax.rl.rows import SharedRows, plan_rows, share
from tl_jax.rl.tools_check import open_tools
from tl_jax.run.directory import Run, check_reward
from tl_jax.sampling.next_token import scoring_temperature
from tl_jax.train import ppo_step
from tl_jax.train import step as step_lib
from tl_jax.train.held_out import Best, make_measure
from tl_jax.train.loop import Loop, end_early, open_phase
from tl_jax.train.prompt_pools import chosen, prompt_pools, usable_prompts
from tl_jax.train.rollback import Rollbacks
from tl_jax.train.sft import check_attention, check_row_length, start_state, takes_trees
from tl_jax.types import StepMetrics

PHASE = "reward"

SHOWN = (
    "reward_mean",
    *(f"category/{name}" for name in taxonomy.CATEGORIES),
    "kl_k1",
    "entropy",
    "ratio",
    "clip_fraction",
    "value_loss",
    "rollout_tokens_per_s",
    "update_tokens_per_s",
)
"""What the progress line shows."""

_KL_STEP, _KL_REACH = 0.1, 0.2

logger = logging.getLogger(__name__)


def train(run: Run) -> None:
    """Do what is left of ``config.ppo.steps`` rollouts, from the supervised model.

    Raises:
      ConfigError: The data have not been prepared, rows that cannot be spread evenly, a reward that
        cannot read the calls, or no usable prompt.
      ScoringMismatch: The programs that score and train disagree.
      Stopped: A signal came; the same command resumes.
      Diverged: Too many steps in a row went badly; ``rollback.Rollbacks`` may try again.
    """
    if not run.steps_left(PHASE):
        return
    config, model, ppo = run.config, run.model, run.config.ppo
    check_rows(config, dict(run.mesh.shape))
    sampled = ppo.prompts_per_step * ppo.samples_per_prompt
    run.check_sampled_rows(sampled, "config.ppo.prompts_per_step x samples_per_prompt")
    check_objective(ppo, config.environment.path)
    check_reward(config)
    open_reward(config.reward)  # a fault of the file shows before anything is loaded
    rollbacks = Rollbacks(run, PHASE)
    with open_phase(run, PHASE) as (checkpoints, metrics):
        # The policy that training starts from is the reference; they share what is frozen.
        first = "supervised" if run.phase_done("supervised") else "before"
        trained, frozen = run.trained(first), run.frozen()
        if ppo.idle_memory == "host":
            trained = memory.held_in(memory.HOST, trained)
        reference = lora.joined(trained, frozen)

        # Policy and critic, their optimizer and the layout of both.
        separate = ppo.critic == "separate"
        frozen = critic_lib.with_trunk(frozen, separate=separate)
        declared = lora.split(critic_lib.abstract_params(model, separate=separate), model.lora)[0]
        optimizer = ppo_step.make_optimizer(config)
        init = functools.partial(step_lib.init_state, optimizer=optimizer, kl_coef=ppo.kl_coef)
        abstract = step_lib.abstract_state(declared, optimizer, run.mesh, kl_coef=ppo.kl_coef)
        layout = jax.tree.map(lambda leaf: leaf.sharding, abstract)
        head = abstract.params[critic_lib.HEAD]
        initial = lambda: critic_lib.attach(  # noqa: E731
            memory.held_in(memory.DEVICE, trained), head, separate=separate
        )
        gold = gold_loader(run) if ppo.ce_coef else None
        state, start = start_state(initial, abstract, layout, init, checkpoints, gold)

        # Rollouts, and the steps that learn from them.
        prompts = usable_prompts(run)
        plan = plan_rollouts(run, prompts.longest)
        pools = prompt_pools(run, reference, prompts)
        rows = sharding.batch_sharding(run.mesh)
        warmup = ppo_step.warmup_rollouts(ppo)
        joint, critic = (
            step_lib.jit_train_step(make(config, model, optimizer), layout, rows, frozen)
            for make in (ppo_step.make_step, ppo_step.make_critic_step)
        )
        measures = [(make_measure(run, frozen), config.evaluate.every)]
        best = Best(run, PHASE, start)
        with Loop(
            PHASE,
            ppo.steps,
            start,
            checkpoints=checkpoints,
            metrics=metrics,
            shown=SHOWN,
            skipped=int(state.skipped),
            end_if_hung=config.checkpoint.end_if_hung,
            rollbacks=len(rollbacks),
            updates=ppo.epochs * ppo.minibatches,
            loader=gold,
        ) as loop:
            for step in loop:
                began, drawn = time.monotonic(), step + rollbacks.passed_over(step)
                assert state.kl_coef is not None and layout.kl_coef is not None, "of this phase"
                kl_coef = float(state.kl_coef)
                if ppo.idle_memory == "host":
                    state = state.replace(opt_state=memory.offloaded(state.opt_state))
                result = rollout_lib.rollout(
                    plan,
                    lora.joined(state.params, frozen),
                    reference,
                    chosen(pools, config.seed, drawn),
                    step=drawn,
                    kl_coef=kl_coef,
                )
                state = state.replace(opt_state=memory.held_in(memory.DEVICE, state.opt_state))
                sampled_at = time.monotonic()

                update, beside = (critic, None) if step < warmup else (joint, gold)
                batch = jax.tree.map(processes.gather, result.batch)
                updates: list[StepMetrics] = []
                for members in minibatches(batch.tokens.shape[0], ppo, config.seed, step):
                    part = jax.tree.map(lambda x, m=members: x[m], batch)
                    if plan.rows is not None:
                        gold_rows = config.data.batch_size if beside is not None else 0
                        part, _ = share(part, part.rollout.weights, plan.rows, beside=gold_rows)
                    if beside is not None:
                        part = with_gold(part, next(beside))
                    placed = jax.tree.map(lambda x: processes.place(np.asarray(x), rows), part)
                    state, values = update(state, placed, frozen)
                    if updates and ppo.stop_kl and float(values.approx_kl) > ppo.stop_kl:
                        break  # The step has seen it, too, and has changed nothing.
                    updates.append(values)
                    if len(updates) == 1:
                        check_first_update(float(values.max_abs_log_ratio), ppo.max_first_log_ratio)
                if ppo.kl_target and step >= warmup:
                    new = adapted_kl_coef(kl_coef, result.metrics["kl_k1"], ppo.kl_target)
                    state = state.replace(
                        kl_coef=processes.place(np.asarray(new, np.float32), layout.kl_coef)
                    )

                found = {**result.metrics, **summary(updates), "kl_coef": kl_coef}
                found["rollout_tokens_per_s"] = result.sampled_tokens / (sampled_at - began)
                updated = float(jax.device_get(found["tokens"]))
                found["update_tokens_per_s"] = updated / (time.monotonic() - sampled_at)
                loop.record(found, result.records)
                if measured := loop.measure(state, measures):
                    if best.see(measured, loop.done, state):
                        end_early(run, loop)
                loop.save(state)
        if gold is not None:
            gold.close()


def plan_rollouts(run: Run, longest_prompt: int) -> rollout_lib.RolloutPlan:
    """Return what all rollouts of the phase share.

    Args:
      run: Of the run.
      longest_prompt: Tokens of the longest prompt that is sampled.

    Raises:
      ConfigError: Rows that cannot be spread evenly, or attention that cannot compute them.
    """
    config, ppo = run.config, run.config.ppo
    plan = rollout_lib.RolloutPlan(
        ppo=ppo,
        reward=config.reward,
        seed=config.seed,
        sample=run.sampler(ppo.max_new_tokens, ppo.temperature, ppo.top_p, top_k=ppo.top_k),
        logprob_step=make_logprob_step(
            run.model,
            temperature=scoring_temperature(ppo.temperature),
            chunk=config.train.ce_chunk,
        ),
        renderer=run.renderer,
        prompt_length=-(-longest_prompt // 64) * 64,
        tools=open_tools(run),
        function=run.reward or open_reward(config.reward),
    )
    length = plan.prompt_length + plan.max_tokens
    name = "longest prompt, in multiples of 64, and all tokens of its replies"
    sharding.check_length(length, name, run.mesh.shape)
    check_attention(run.model, length, run.mesh)
    rows = shared_rows(
        config, run.model, run.mesh, prompt_length=plan.prompt_length, reply_length=plan.max_tokens
    )
    if rows is None and config.data.shared_prefixes:
        logger.warning(
            "config.data.shared_prefixes: every sample has a row of its own, as the attention of "
            "these devices takes rows of plain texts only"
        )
    return dataclasses.replace(plan, rows=rows)


def shared_rows(
    config: RunConfig, model: ModelConfig, mesh: Mesh, *, prompt_length: int, reply_length: int
) -> SharedRows | None:
    """Return the rows that samples share; None where each has a row of its own.

    Args:
      config: Of the run.
      model: The architecture.
      mesh: The device mesh.
      prompt_length: Tokens of the longest prompt.
      reply_length: Most tokens after it.

    """
    rows = plan_rows(
        config.ppo,
        prompt_length=prompt_length,
        reply_length=reply_length,
        shards=sharding.parts(mesh, sharding.RULES["batch"]),
        parts=mesh.shape["sequence"],
        least=config.data.row_tokens if config.ppo.ce_coef else 0,
    )
    try:
        shared = config.data.shared_prefixes and takes_trees(model, rows.length, mesh)
    except ConfigError:  # a kernel chosen by name, for rows of another length
        shared = False
    return rows if shared else None


def check_rows(config: RunConfig, mesh_shape: Mapping[str, int]) -> None:
    """Refuse updates whose rows and tokens cannot be spread evenly over the mesh.

    Raises:
      ConfigError: The message names the settings that decide about the rows.
    """
    ppo = config.ppo
    if ppo.ce_coef:
        check_row_length(config.data, mesh_shape)
    rows, rest = divmod(ppo.prompts_per_step * ppo.samples_per_prompt, ppo.minibatches)
    names = "config.ppo.prompts_per_step x samples_per_prompt / minibatches"
    if rest:
        raise ConfigError(f"{names} is not a whole number of rows")
    sizes = {names: rows}
    if ppo.ce_coef:
        sizes[f"{names} + config.data.batch_size"] = rows + config.data.batch_size
        if not ppo_step.warmup_rollouts(ppo):
            del sizes[names]
    shards = mesh_shape["data"] * mesh_shape["fsdp"]
    for name, size in sizes.items():
        if size % shards:
            raise ConfigError(
                f"{name} = {size} rows is not divisible by {shards} mesh rows (data x fsdp)"
            )


def check_objective(ppo: PpoConfig, path: str = "") -> None:
    """Refuse settings of the reward term that contradict each other.

    Raises:
      ConfigError: The message names the settings.
    """
    if ppo.advantage != "gae":
        if ppo.samples_per_prompt < 2:
            raise ConfigError(
                f"config.ppo.advantage {ppo.advantage!r} compares the samples of a prompt; set "
                "config.ppo.samples_per_prompt to 2 or more"
            )
        if ppo.value_coef:
            raise ConfigError(
                f"config.ppo.advantage {ppo.advantage!r} has no use for a critic; set "
                "config.ppo.value_coef to 0"
            )
    if 0 < ppo.steps <= ppo_step.warmup_rollouts(ppo) and (ppo.reward_coef or ppo.ce_coef):
        raise ConfigError(
            f"in the first config.ppo.critic_warmup_steps={ppo.critic_warmup_steps} rollouts only "
            f"the critic learns, so config.ppo.steps={ppo.steps} would leave the policy as it is; "
            "raise ppo.steps or lower ppo.critic_warmup_steps"
        )
    if ppo.kl_target and not ppo.kl_coef:
        raise ConfigError(
            "config.ppo.kl_target changes config.ppo.kl_coef step by step, and 0 stays 0; set "
            "kl_coef to a first value such as 0.1, or kl_target to 0"
        )
    if 0 < ppo.missed_share < 1 and ppo.prompts_per_step == 1:
        raise ConfigError(
            "config.ppo.missed_share divides the prompts of a rollout; set "
            "config.ppo.prompts_per_step to 2 or more, or missed_share to 0 or 1"
        )
    if ppo.missed_share and path:
        raise ConfigError(
            "config.ppo.missed_share judges a reply by itself, not a dialogue with the tools of "
            "config.environment.path; set it to 0"
        )
    if ppo.dual_clip and ppo.dual_clip <= 1:
        raise ConfigError(f"config.ppo.dual_clip must be 0 or above 1, got {ppo.dual_clip}")


def check_first_update(log_ratio: float, limit: float) -> None:
    """Stop if an unchanged policy gives its own samples another probability than before.

    Raises:
      ScoringMismatch: ``log_ratio``, the largest of the first update, is above ``limit``
        (0: no limit).
    """
    if limit and not log_ratio <= limit:
        raise ScoringMismatch(
            f"the first update of a rollout sees a log-ratio of {log_ratio:.2g}, above "
            f"config.ppo.max_first_log_ratio {limit:.2g}, although the policy has not moved yet: "
            "scoring and training round differently, and the clip would act on the difference. "
            "Take config.model.dtype='float32', or raise the limit if this rounding is expected"
        )


def adapted_kl_coef(kl_coef: float, measured: float, target: float) -> float:
    """Return the KL coefficient for the next rollout, a little nearer to the target.

    Args:
      kl_coef: That of this rollout.
      measured: Divergence from the reference, nats per token.
      target: What it should be.

    Source: Ziegler et al. 2019 (arXiv 1909.08593), section 2.2.
    """
    error = min(max(measured / target - 1.0, -_KL_REACH), _KL_REACH)
    return kl_coef * (1.0 + _KL_STEP * error)


def gold_loader(run: Run) -> Any:
    """Return rows of gold trajectories for the cross-entropy of a joint run."""
    data = run.config.data
    return make_loader(
        run.data_dir / EXAMPLES,
        length=data.row_tokens,
        rows=data.batch_size,
        seed=run.config.seed + 1,
        packing=data.packing,
        packing_bins=data.packing_bins,
        packing_fit=data.packing_fit,
        streams=data.streams,
        prefetch=data.prefetch,
    )


def summary(values: list[StepMetrics]) -> dict[str, Any]:
    """Return the metrics of a step: means over its updates, the first update's log-ratio.

    The learning rate is the policy's at the last update, 0 while only the critic learns.
    """
    names = ("loss", "ce_loss", "policy_loss", "kl_loss", "value_loss", "grad_norm", "approx_kl")
    result: dict[str, Any] = {
        name: jnp.mean(jnp.stack([getattr(v, name) for v in values]))
        for name in (*names, "clip_fraction", "ratio")
    }
    result["updates"] = float(len(values))
    result["tokens"] = jnp.sum(jnp.stack([v.tokens for v in values]))
    result["skipped"] = values[-1].skipped
    result["learning_rate"] = values[-1].learning_rate
    # Nothing has moved yet at the first update: what is left of the ratio is the difference in
    # rounding between the program that scored the rollout and the train step.
    result["first_max_abs_log_ratio"] = values[0].max_abs_log_ratio
    return result
