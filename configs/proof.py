"""Every combination of MAE, PKT and IRM on SmolLM2-135M-Instruct and real GPT-4 trajectories.

    tl-jax run --config=configs/proof.py \\
        --config.model.path=SmolLM2-135M-Instruct.Q4_1.gguf \\
        --config.data.path=trajectories.jsonl.gz \\
        --config.evaluate.rotbench_path=first_turn.jsonl.gz

Where: a CPU, with patience: a supervised step of 4096 places, about five trajectories, takes 40 to
50 seconds on 2 cores. A stopped run goes on with the same command; each part is a run of its own in
runs/proof/parts, and the cells that are done are compared at any time. One seed by default:
intervals are over items.
"""

import ml_collections

from tl_jax import config as c
from tl_jax.config import presets
from tl_jax.config.fields import to_dict


def get_config(irm: str = presets.RECOMMENDED) -> ml_collections.ConfigDict:
    base = c.RunConfig(
        run_dir="runs/proof",
        model=c.ModelSourceConfig(path="SmolLM2-135M-Instruct.Q4_1.gguf"),
        data=c.DataConfig(
            path="trajectories.jsonl.gz",
            template="released",
            max_length=2048,
            row_length=4096,
            batch_size=1,
            packing_bins=32,
        ),
        train=c.TrainConfig(steps=60, ce_chunk=512, log_every=1, eval_every=60, eval_batches=4),
        optim=c.OptimConfig(learning_rate=2e-4, warmup_steps=0.1),
        ppo=c.PpoConfig(
            steps=10,
            prompts_per_step=4,
            samples_per_prompt=4,
            max_prompt_length=1024,
            max_new_tokens=48,
            kl_coef=0.05,
        ),
        ppo_optim=c.OptimConfig(
            learning_rate=5e-6, warmup_steps=2, schedule="constant", weight_decay=0.0
        ),
        checkpoint=c.CheckpointConfig(every_steps=10),
        evaluate=c.EvaluateConfig(
            batch_size=8,
            max_new_tokens=64,
            max_prompt_length=2048,
            synthetic_trajectories=0,
            held_out_tasks=64,
        ),
        ablation=c.AblationConfig(seeds=(0,)),
    )
    return ml_collections.ConfigDict(to_dict(presets.with_irm(base, irm)))
