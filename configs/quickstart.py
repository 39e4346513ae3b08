"""The whole pipeline on the embedded tool world and the small base model of the package.

    tl-jax run --config=configs/quickstart.py

Where: any laptop, CPU. Time: about 6 minutes on 2 cores. Memory: 2 GiB. Result: the table in the
README. The numbers are chosen for this world and model; they come from runs of this file.
"""

import ml_collections

from tl_jax import config as c


def get_config() -> ml_collections.ConfigDict:
    return ml_collections.ConfigDict(
        c.to_dict(
            c.RunConfig(
                run_dir="runs/quickstart",
                data=c.DataConfig(max_length=768, batch_size=6, synthetic_trajectories=1200),
                train=c.TrainConfig(steps=240, ce_chunk=256, eval_every=80),
                optim=c.OptimConfig(learning_rate=2e-3, warmup_steps=20),
                ppo=c.PpoConfig(
                    steps=16,
                    prompts_per_step=16,
                    samples_per_prompt=2,
                    max_prompt_length=704,
                    max_new_tokens=48,
                ),
                evaluate=c.EvaluateConfig(
                    batch_size=32, max_new_tokens=64, synthetic_trajectories=60
                ),
            )
        )
    )
