#!/usr/bin/env bash
# What reward training adds to a weak supervised model: three seeds, then gain.{html,png,json} in OUT.
# OUT is the folder of the runs (default runs/weak_sft), SEEDS the seeds; TL_JAX the command.
# Arguments go to tl-jax, such as --config.ppo.steps=40. What is done already is not done again.
# The same gold calls without reward, two small samples a rollout because nothing is learnt from them:
#   OUT=runs/weak_sft_gold bash tools/weak_sft.sh --config.ppo.reward_coef=0 \
#       --config.ppo.missed_share=0 --config.ppo.prompts_per_step=4 --config.ppo.samples_per_prompt=2
# Reward without gold calls:
#   OUT=runs/weak_sft_alone bash tools/weak_sft.sh --config.ppo.ce_coef=0 \
#       --config.ppo.prompts_per_step=32 --config.ppo.minibatches=4
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

out=${OUT:-runs/weak_sft}
tl_jax=${TL_JAX:-$PWD/.venv/bin/tl-jax}
runs=()
for seed in ${SEEDS:-0 1 2}; do
    run=$out/seed$seed
    options=(--config=configs/weak_sft.py --config.seed="$seed" --config.run_dir="$run" "$@")
    # The command may be several words.
    $tl_jax prepare "${options[@]}"
    $tl_jax train "${options[@]}"
    for phase in supervised reward; do
        $tl_jax evaluate --phase=$phase "${options[@]}"
    done
    $tl_jax report "${options[@]}"
    runs+=("seed$seed")
done
cd "$out"
$tl_jax report gain --runs="$(IFS=,; echo "${runs[*]}")"
