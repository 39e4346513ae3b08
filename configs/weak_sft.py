"""Reward training from a weak supervised model: a third of the quick start's steps, a row each.

tl-jax run --config=configs/weak_sft.py --config.seed=1 --config.run_dir=runs/weak_sft_1
"""

import ml_collections

from tl_jax import config as c
from tl_jax.config import presets
from tl_jax.config.fields import to_dict


def get_config(irm: str = presets.RECOMMENDED) -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        to_dict(
            presets.with_irm(
                c.RunConfig(
                    run_dir="runs/weak_sft",
                    data=c.DataConfig(max_length=768, batch_size=1, synthetic_trajectories=2000),
                    model=c.ModelSourceConfig(remat="none"),
                    train=c.TrainConfig(steps=87, ce_chunk=64, eval_every=87),
                    optim=c.OptimConfig(learning_rate=7e-4, warmup_steps=20),
                    ppo=c.PpoConfig(
                        steps=50,
                        prompts_per_step=24,
                        samples_per_prompt=4,
                        missed_share=0.5,
                        minibatches=2,
                        max_prompt_length=512,
                        max_new_tokens=48,
                        top_p=0.95,
                        kl_coef=0.05,
                        advantage="rloo",
                        value_coef=0.0,
                        ce_coef=1.0,
                    ),
                    ppo_optim=c.OptimConfig(learning_rate=3e-4, warmup_steps=5, weight_decay=0.0),
                    evaluate=c.EvaluateConfig(
                        batch_size=64, max_new_tokens=96, synthetic_trajectories=128
                    ),
                ),
                irm,
            )
        )
    )
