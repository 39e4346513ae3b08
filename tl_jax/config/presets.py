"""Settings that several configurations share: published reward training, and runs on TPU pods."""

from __future__ import annotations

import dataclasses

from tl_jax.config import (
    CheckpointConfig,
    DataConfig,
    EvaluateConfig,
    MeshConfig,
    ModelSourceConfig,
    OptimConfig,
    PpoConfig,
    RewardConfig,
    RunConfig,
    TrainConfig,
)
from tl_jax.errors import ConfigError

RECOMMENDED = "recommended"

_SCRIPT = PpoConfig(
    prompts_per_step=8,
    samples_per_prompt=1,
    max_prompt_length=8192,
    max_new_tokens=512,
    temperature=0.0,
    kl_coef=0.3,
    gae_lambda=0.95,
    whiten_advantages=False,
    critic="separate",
    critic_learning_rate=1e-7,
    critic_warmup_steps=0,
    value_learning_rate=1e-7,
)

PPO = {
    "paper_script": _SCRIPT,
    "paper_code": dataclasses.replace(_SCRIPT, kl_coef=0.4),
}
"""Published settings by name.

``paper_script`` is what the published script asks for, ``paper_code`` what its code does: it never
reads the script's KL coefficient and takes 0.4. Both sample greedily, once per prompt, and
update once per rollout, so that no clip acts. One thing differs: the published critic starts from
random weights by mistake, this one from the supervised model.

Source: code/irm of the reference (RL_run.sh, main.py, ppo_trainer.py).
"""

_OPTIM = OptimConfig(
    learning_rate=2e-7, warmup_steps=100, final_fraction=0.0, b1=0.9, b2=0.95, weight_decay=0.0
)
_REWARD = RewardConfig(mode="reference", clip=5.0)


def tiny(run_dir: str) -> RunConfig:
    """Return a run that ends in seconds on a CPU and learns nothing, to try things out."""
    return RunConfig(
        run_dir=run_dir,
        model=ModelSourceConfig(
            path="scratch",
            scratch_vocab_size=300,
            scratch_embed_dim=32,
            scratch_num_layers=1,
            scratch_num_heads=2,
            scratch_num_kv_heads=1,
            scratch_mlp_dim=64,
        ),
        data=DataConfig(synthetic_trajectories=60, batch_size=8),
        train=TrainConfig(steps=2, eval_batches=0),
        optim=OptimConfig(warmup_steps=1),
        ppo=PpoConfig(steps=1, prompts_per_step=4, max_new_tokens=32, critic_warmup_steps=0),
        ppo_optim=OptimConfig(schedule="constant", warmup_steps=0, weight_decay=0.0),
        evaluate=EvaluateConfig(
            synthetic_trajectories=2, max_tasks=4, batch_size=8, max_new_tokens=8
        ),
    )


def with_irm(config: RunConfig, name: str) -> RunConfig:
    """Return a configuration with reward training of a name.

    The number of steps stays, as do limits of length below the published ones and a warm-up of a
    phase that is shorter than the published warm-up.

    Args:
      config: What is recommended.
      name: ``"recommended"`` leaves it as it is; else a key of ``PPO``.

    Raises:
      ConfigError: No such name.
    """
    if name == RECOMMENDED:
        return config
    if name not in PPO:
        known = ", ".join((RECOMMENDED, *PPO))
        raise ConfigError(f"unknown reward training {name!r} after the colon of --config; {known}")
    own = config.ppo
    ppo = dataclasses.replace(
        PPO[name],
        steps=own.steps,
        max_prompt_length=min(own.max_prompt_length, PPO[name].max_prompt_length),
        max_new_tokens=min(own.max_new_tokens, PPO[name].max_new_tokens),
    )
    optim = dataclasses.replace(_OPTIM, warmup_steps=min(_OPTIM.warmup_steps, own.steps // 2))
    # The published reward reads calls in the released form only.
    data = dataclasses.replace(config.data, template="released")
    return dataclasses.replace(config, data=data, ppo=ppo, ppo_optim=optim, reward=_REWARD)


def on_pod(
    name: str,
    model: str,
    mesh: MeshConfig,
    *,
    rows: int,
    length: int = 8192,
    remat: str = "full",
    moments: str = "float32",
    ce_chunk: int = 1024,
    prompts: int = 0,
    idle_memory: str = "device",
) -> RunConfig:
    """Return a run on a TPU pod in bfloat16, parameters in float32.

    Args:
      name: Of the run directory.
      model: Id of the model on the Hugging Face Hub.
      mesh: The pod and how it is used.
      rows: Of a batch.
      length: Tokens of a row.
      remat: What the backward pass keeps.
      moments: Type of Adam's moments.
      ce_chunk: Positions whose logits exist at once.
      prompts: Of a rollout, each sampled four times; 0 trains supervised only.
      idle_memory: Where reference and moments wait in reward training.
    """
    # In bfloat16 the programs that score and train round apart by more than in float32.
    ppo = PpoConfig(
        steps=100 if prompts else 0,
        prompts_per_step=prompts or 16,
        samples_per_prompt=4,
        max_prompt_length=7680,
        max_new_tokens=512,
        critic="separate",
        idle_memory=idle_memory,
        max_first_log_ratio=0.1,
    )
    return RunConfig(
        run_dir=f"runs/{name}",
        model=ModelSourceConfig(path=model, dtype="bfloat16", remat=remat, attention="splash"),
        mesh=mesh,
        data=DataConfig(path="trajectories.jsonl.gz", max_length=length, batch_size=rows),
        train=TrainConfig(steps=1000, ce_chunk=ce_chunk, eval_every=200),
        optim=OptimConfig(learning_rate=1e-5, warmup_steps=50, weight_decay=0.0, moments=moments),
        ppo=ppo,
        ppo_optim=OptimConfig(
            learning_rate=1e-6, warmup_steps=10, schedule="constant", weight_decay=0.0
        ),
        checkpoint=CheckpointConfig(every_steps=100),
        evaluate=EvaluateConfig(max_new_tokens=512, max_prompt_length=7680),
    )
