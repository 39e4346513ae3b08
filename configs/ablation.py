"""Every combination of MAE, PKT and IRM on the embedded tool world, three seeds.

    tl-jax run --config=configs/ablation.py

Where: any laptop, CPU. Time: about 75 minutes on 2 cores; a stopped one goes on with the same
command. Result: runs/ablation/ablation.html, and the picture in the README. Another model and
other data: `--config.model.path` and `--config.data.path`, with the settings that a run of them
needs.
"""

import ml_collections

from tl_jax import config as c
from tl_jax.config import presets
from tl_jax.config.fields import to_dict


def get_config(irm: str = presets.RECOMMENDED) -> ml_collections.ConfigDict:
    base = c.RunConfig(
        run_dir="runs/ablation",
        data=c.DataConfig(max_length=768, batch_size=6, synthetic_trajectories=2000),
        train=c.TrainConfig(steps=160, ce_chunk=256, eval_every=160),
        optim=c.OptimConfig(learning_rate=7e-4, warmup_steps=0.125),
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
        evaluate=c.EvaluateConfig(batch_size=64, max_new_tokens=96, synthetic_trajectories=64),
        ablation=c.AblationConfig(seeds=(0, 1, 2)),
    )
    return ml_collections.ConfigDict(to_dict(presets.with_irm(base, irm)))
