"""The reward phase: sample calls, score them by rule, improve the policy with PPO."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console

from tl_jax.cli.supervised import start_state
from tl_jax.cli.workspace import Workspace, check_reward
from tl_jax.config import PpoConfig, RunConfig
from tl_jax.data.examples import Prompt
from tl_jax.data.pipeline import JsonlSource, make_loader
from tl_jax.data.prepared_files import EXAMPLES, PROMPTS
from tl_jax.data.records import prompt_from_json, read_prompts
from tl_jax.models import functional
from tl_jax.parallel import processes, sharding
from tl_jax.rl import rollout as rollout_lib
from tl_jax.rl.choice import scoring_temperature
from tl_jax.rl.gold import with_gold
from tl_jax.settings import ConfigError
from tl_jax.train import optim
from tl_jax.train import step as step_lib
from tl_jax.train.checkpoint import Checkpoints
from tl_jax.train.loop import Advanced, Phase, run_phase
from tl_jax.train.metrics import MetricsWriter
from tl_jax.types import Params, StepMetrics, TrainState

STAGE = "reward"


def train(workspace: Workspace, metrics: MetricsWriter) -> None:
    """Train up to ``config.ppo.steps`` rollouts from the supervised model.

    Raises:
      ConfigError: Several processes, rows that cannot be spread evenly, a reward that cannot read
        the calls, or no usable prompt.
    """
    processes.require_one("reward training")
    config, model, ppo = workspace.config, workspace.model, workspace.config.ppo
    check_rows(config, dict(workspace.mesh.shape))
    check_reward(config)
    first = "supervised" if workspace.phase_done("supervised") else "before"
    reference = workspace.params(first)
    optimizer = optim.make_optimizer(
        config.ppo_optim, policy_updates(ppo), value_learning_rate=ppo.value_learning_rate
    )
    abstract_params = workspace.abstract_params(value_head=True)
    abstract = jax.eval_shape(
        lambda params: step_lib.init_state(params, optimizer), abstract_params
    )
    declared = functional.abstract_params(model, value_head=True)
    layout = step_lib.state_shardings(abstract, declared, workspace.mesh)
    gold = gold_loader(workspace) if ppo.ce_coef else None
    settings = config.checkpoint
    with Checkpoints(
        workspace.checkpoint_dir(STAGE), settings.every_steps, settings.keep
    ) as checkpoints:
        initial = lambda: with_value_head(reference, abstract_params["value_head"])  # noqa: E731
        state, start = start_state(initial, abstract, layout, optimizer, checkpoints, gold)
        phase = Phase(
            stage=STAGE,
            steps=ppo.steps,
            advance=make_advance(workspace, reference, optimizer, layout, gold),
            log_every=1,
            loader=gold,
            shown=("reward_mean", "category/all_right", "kl_k1", "entropy"),
        )
        run_phase(
            phase, state, start, checkpoints=checkpoints, metrics=metrics, metadata={"stage": STAGE}
        )


def check_rows(config: RunConfig, mesh_shape: Mapping[str, int]) -> None:
    """Refuse updates whose rows cannot be spread evenly over the mesh.

    Raises:
      ConfigError: The message names the settings that decide about the rows.
    """
    ppo = config.ppo
    rows, rest = divmod(ppo.prompts_per_step * ppo.samples_per_prompt, ppo.minibatches)
    names = "config.ppo.prompts_per_step x samples_per_prompt / minibatches"
    if rest:
        raise ConfigError(f"{names} is not a whole number of rows")
    sizes = {names: rows}
    if ppo.ce_coef:
        sizes[f"{names} + config.data.batch_size"] = rows + config.data.batch_size
        if not warmup_rollouts(ppo):
            del sizes[names]
    shards = mesh_shape["data"] * mesh_shape["fsdp"]
    for name, size in sizes.items():
        if size % shards:
            raise ConfigError(
                f"{name} = {size} rows is not divisible by {shards} mesh rows (data x fsdp)"
            )


def warmup_rollouts(ppo: PpoConfig) -> int:
    """Return for how many rollouts only the critic learns; without its loss there is no use."""
    return ppo.critic_warmup_steps if ppo.value_coef else 0


def policy_updates(ppo: PpoConfig) -> int:
    """Return the number of updates of the policy, those of the whole phase but the warm-up."""
    return (ppo.steps - warmup_rollouts(ppo)) * ppo.epochs * ppo.minibatches


def critic_only(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Return ``optimizer`` without its effect on the policy: no decay, no moments, no count.

    Args:
      optimizer: From ``optim.make_optimizer`` with a value learning rate; the state is its own.
    """

    def update(grads: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, new_state = optimizer.update(grads, state, params)
        frozen = {
            name: part if name == "value_head" else jax.tree.map(jnp.zeros_like, part)
            for name, part in updates.items()
        }

        def keep_policy(path: Any, new: Any, old: Any) -> Any:
            return old if any(getattr(key, "key", None) == "policy" for key in path) else new

        return frozen, jax.tree_util.tree_map_with_path(keep_policy, new_state, state)

    return optax.GradientTransformation(optimizer.init, update)


def with_value_head(params: Params, head: Any) -> Params:
    """Return a copy of ``params`` with a zero value head of the abstract form ``head``."""
    zeros = jax.tree.map(lambda x: jax.device_put(jnp.zeros(x.shape, x.dtype), x.sharding), head)
    return {**jax.tree.map(jnp.copy, params), "value_head": zeros}


def make_advance(
    workspace: Workspace, reference: Params, optimizer: Any, layout: TrainState, gold: Any
) -> Any:
    """Return ``(state, step) -> (state, values, samples)``: one rollout and its updates.

    ``gold`` is an iterator of gold rows that join every update, or None.
    """
    config, model, ppo = workspace.config, workspace.model, workspace.config.ppo
    temperature = scoring_temperature(ppo.temperature)
    prompts = usable_prompts(workspace)
    prompt_length = -(-prompts.longest // 64) * 64
    sample = workspace.sampler(ppo.max_new_tokens, ppo.temperature, ppo.top_p, top_k=ppo.top_k)
    logprob_step = rollout_lib.make_logprob_step(
        model, temperature=temperature, chunk=config.train.ce_chunk
    )
    rows = sharding.batch_sharding(workspace.mesh)
    warmup = warmup_rollouts(ppo)
    schedule = optim.make_schedule(config.ppo_optim, policy_updates(ppo))
    before = warmup * ppo.epochs * ppo.minibatches

    def compiled(optimizer: Any, schedule: Any = None, **coefficients: float) -> Any:
        loss = step_lib.LossConfig(
            clip_ratio=ppo.clip_ratio,
            clip_value=ppo.clip_value,
            temperature=temperature,
            ce_chunk=config.train.ce_chunk,
            **coefficients,
        )
        return step_lib.jit_train_step(
            step_lib.make_train_step(model, loss, optimizer, schedule=schedule), layout, rows
        )

    joint = compiled(
        optimizer,
        lambda count: schedule(count - before),
        ce_coef=ppo.ce_coef,
        reward_coef=ppo.reward_coef,
        value_coef=ppo.value_coef,
        value_stop_gradient=ppo.value_stop_gradient,
    )
    # The critic starts from zero; until it knows the mean reward it would only add noise.
    critic = compiled(
        critic_only(optimizer),
        ce_coef=0.0,
        reward_coef=0.0,
        value_coef=ppo.value_coef,
        value_stop_gradient=True,
    )

    def advance(state: TrainState, step: int) -> Advanced:
        result = rollout_lib.rollout(
            state.params,
            reference,
            choose_prompts(prompts, ppo.prompts_per_step, config.seed, step),
            sample=sample,
            logprob_step=logprob_step,
            tokenizer=workspace.tokenizer,
            ppo=ppo,
            reward=config.reward,
            seed=config.seed,
            step=step,
            call_style=workspace.call_style,
            batch_size=ppo.prompts_per_step * ppo.samples_per_prompt,
            prompt_length=prompt_length,
        )
        update, beside = (critic, None) if step < warmup else (joint, gold)
        batch = jax.device_get(result.batch)
        values: list[StepMetrics] = []
        for members in minibatches(batch.tokens.shape[0], ppo, config.seed, step):
            part = jax.tree.map(lambda x, m=members: x[m], batch)
            if beside is not None:
                part = with_gold(part, next(beside))
            placed = jax.tree.map(
                lambda x: jax.make_array_from_process_local_data(rows, np.asarray(x)), part
            )
            state, metrics = update(state, placed)
            values.append(metrics)
        return state, {**result.metrics, **summary(values)}, result.records

    return advance


class StoredPrompts(Sequence[Prompt]):
    """Prompts in a file, each read when it is asked for.

    Args:
      source: The file.
      lengths: Rows of the prompts, with their tokens.

    Attributes:
      longest: Most tokens of a prompt.
    """

    def __init__(self, source: JsonlSource, lengths: Mapping[int, int]):
        self._source = source
        self._rows = np.array(list(lengths), np.int64)
        self.longest = max(lengths.values())

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        return prompt_from_json(self._source[self._rows[index]])


def usable_prompts(workspace: Workspace) -> StoredPrompts:
    """Return the prompts of the training data that fit the limits of the rollout.

    How many are left out, and why, is printed and written to ``results/prompts.json``.

    Raises:
      ConfigError: There are none.
    """
    ppo = workspace.config.ppo
    path = workspace.data_dir / PROMPTS
    kept, dropped = rollout_lib.select_prompts(read_prompts(path), max_length=ppo.max_prompt_length)
    workspace.results_dir.mkdir(parents=True, exist_ok=True)
    counts = {"used": len(kept), "left_out": dropped}
    (workspace.results_dir / "prompts.json").write_text(json.dumps(counts, indent=1) + "\n")
    if dropped:
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
        text = f"reward training uses {len(kept)} prompts; left out: {reasons}"
        Console(soft_wrap=True, highlight=False).print(text, markup=False)
    if not kept:
        raise ConfigError(
            f"no prompt can be used for reward training ({dropped}); raise "
            "config.ppo.max_prompt_length or look at mae_report.json"
        )
    return StoredPrompts(JsonlSource(path), kept)


def choose_prompts(prompts: Sequence[Prompt], count: int, seed: int, step: int) -> list[Prompt]:
    """Return the prompts of a step: every epoch visits all of them in another order."""
    chosen = []
    for place_ in range(step * count, (step + 1) * count):
        epoch, index = divmod(place_, len(prompts))
        order = np.random.default_rng([seed, epoch]).permutation(len(prompts))
        chosen.append(prompts[order[index]])
    return chosen


def minibatches(rows: int, ppo: PpoConfig, seed: int, step: int) -> list[np.ndarray]:
    """Return the rows of each update: every PPO epoch cuts all rows anew."""
    parts = []
    for epoch in range(ppo.epochs):
        order = np.random.default_rng([seed, step, epoch]).permutation(rows)
        parts.extend(np.split(order, ppo.minibatches))
    return parts


def gold_loader(workspace: Workspace) -> Any:
    """Return rows of gold trajectories for the cross-entropy of a joint run."""
    data = workspace.config.data
    return make_loader(
        workspace.data_dir / EXAMPLES,
        length=data.max_length,
        rows=data.batch_size,
        seed=workspace.config.seed + 1,
        packing=data.packing,
        packing_bins=data.packing_bins,
        packing_fit=data.packing_fit,
        prefetch=data.prefetch,
    )


def summary(values: list[StepMetrics]) -> dict[str, Any]:
    """Return the metrics of a step: means over its updates, the first update's log-ratio.

    The learning rate is the policy's at the last update, 0 while only the critic learns.
    """
    names = ("loss", "ce_loss", "policy_loss", "value_loss", "grad_norm", "approx_kl")
    result = {
        name: jnp.mean(jnp.stack([getattr(v, name) for v in values]))
        for name in (*names, "clip_fraction")
    }
    result["tokens"] = jnp.sum(jnp.stack([v.tokens for v in values]))
    result["skipped"] = values[-1].skipped
    result["learning_rate"] = values[-1].learning_rate
    # Nothing has moved yet at the first update: what is left of the ratio is the difference in
    # rounding between the program that scored the rollout and the train step.
    result["first_max_abs_log_ratio"] = values[0].max_abs_log_ratio
    return result
