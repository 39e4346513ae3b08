"""The whole pipeline on the embedded tool world and the small base model of the package.

    tl-jax run --config=configs/quickstart.py

Where: any laptop, CPU. Time: 7 to 8 minutes on 2 cores. Result: the table in the README, which
comes from a run of this file.
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
                    run_dir="runs/quickstart",
                    data=c.DataConfig(max_length=768, batch_size=6, synthetic_trajectories=2000),
                    train=c.TrainConfig(steps=260, ce_chunk=256, eval_every=130),
                    optim=c.OptimConfig(learning_rate=7e-4, warmup_steps=0.08),
                    ppo=c.PpoConfig(
                        steps=12,
                        prompts_per_step=16,
                        samples_per_prompt=2,
                        max_prompt_length=512,
                        max_new_tokens=64,
                        kl_coef=0.05,
                    ),
                    ppo_optim=c.OptimConfig(
                        learning_rate=3e-5, warmup_steps=2, schedule="constant", weight_decay=0.0
                    ),
                    evaluate=c.EvaluateConfig(
                        batch_size=64, max_new_tokens=96, synthetic_trajectories=64
                    ),
                ),
                irm,
            )
        )
    )
