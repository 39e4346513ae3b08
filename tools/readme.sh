#!/usr/bin/env bash
# Run the commands of README.md, block by block, in a scratch copy of the tracked files.
#
# What is replaced or left out is printed. MODEL is a small model with random weights and a chat
# template of its own, FILE a file of 60 generated trajectories, tools.json the tool that they use.
# Left out are the blocks marked `cloud` (a project on Google Cloud) and `sets` (evaluation sets), and
# tools/test.sh,
# which would run this again.
# QUICK=1 checks what README asks for with --dry_run and then trains for a few steps only.
# VENV=DIR takes an environment that has the requirements and leaves out what installs.
# The scratch copy is deleted in the end; runs of the copy go with it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scratch="$(mktemp -d)"
trap 'rm -rf -- "$scratch"' EXIT
git ls-files -z | tar --create --null --files-from=- | tar --extract --directory="$scratch"
cd "$scratch"

if [ -n "${VENV:-}" ]; then
    export VIRTUAL_ENV="$VENV" PATH="$VENV/bin:$PATH" PYTHONPATH="$scratch"
fi

tool='{"name": "get_weather", "description": "Weather of a city", "parameters": {"type": "object",
    "properties": {"city": {"type": "string"}}, "required": ["city"]}}'
tool="${tool//$'\n'/}"
echo "[$tool]" >tools.json
for number in {1..60}; do
    printf '{"messages": [{"role": "user", "content": "What is the weather in city %s?"},' "$number"
    printf ' {"role": "assistant", "content": null, "tool_calls": [{"id": "a", "type": "function",'
    printf ' "function": {"name": "get_weather", "arguments": "{\\"city\\": \\"city %s\\"}"}}]},' \
        "$number"
    printf ' {"role": "tool", "tool_call_id": "a", "content": "{\\"sky\\": \\"clear\\"}"},'
    printf ' {"role": "assistant", "content": "The sky over city %s is clear."}],' "$number"
    printf ' "tools": [{"type": "function", "function": %s}]}\n' "$tool"
done >trajectories.jsonl

model="python tools/small_model.py --texts=trajectories.jsonl --target=MODEL"

# What the blocks see: the commands of README with the names that they have there.
cat >prelude.sh <<'PRELUDE'
set -euo pipefail
note() { printf '\nreadme: %s\n' "$*"; }

short=()
if [ -n "${QUICK:-}" ]; then
    short=(--config.data.synthetic_trajectories=60 --config.data.validation_fraction=0.1
        --config.data.batch_size=2 --config.data.max_length=768
        --config.train.steps=4 --config.train.eval_every=2 --config.train.eval_batches=1
        --config.train.ce_chunk=256
        --config.ppo.steps=3 --config.ppo.prompts_per_step=2 --config.ppo.max_new_tokens=64
        --config.evaluate.max_tasks=4 --config.evaluate.batch_size=4
        --config.evaluate.max_new_tokens=8)
fi

# With QUICK=1, hold the settings among some words against what a run checks before it begins.
check() {
    local settings=() word
    [ -n "${QUICK:-}" ] || return 0
    for word in "$@"; do
        [[ "$word" != --config* ]] || settings+=("$word")
    done
    note "checking the settings that README gives"
    command tl-jax train "${settings[@]}" --dry_run
    note "shortened by ${short[*]}"
}

# Run what begins a run, shortened with QUICK=1.
begin() {
    check "$@"
    "$@" ${short[@]+"${short[@]}"}
}

tl-jax() {
    if [[ " $* " == *" --config="* ]]; then
        begin command tl-jax "$@"
    else
        command tl-jax "$@"
    fi
}

bash() {
    case "$1" in
        tools/test.sh) note "left out: bash $*" ;;
        tools/quickstart.sh)
            check --config=configs/quickstart.py
            if [ -n "${VENV:-}" ]; then
                note "left out: the installation by $1 (VENV is set)"
                command tl-jax run --config=configs/quickstart.py ${short[@]+"${short[@]}"}
            else
                command bash "$@" ${short[@]+"${short[@]}"}
            fi
            ;;
        launch/local_multiprocess.sh) begin command bash "$@" ;;
        *) command bash "$@" ;;
    esac
}
PRELUDE

awk -v venv="${VENV:-}" '
    /^```bash/ {
        inside = 1
        skip = ""
        if ($2 == "cloud") skip = "needs Google Cloud"
        if ($2 == "sets") skip = "needs the evaluation sets"
        if ($2 == "install" && venv != "") skip = "VENV is set"
        if (skip != "") printf "note \"left out: README.md:%d (%s)\"\n", NR, skip
        else printf "note \"README.md:%d\"\n", NR
        next
    }
    /^```/ { inside = 0 }
    inside && skip == "" { print }
' README.md | sed "s/=FILE\b/=trajectories.jsonl/
    0,/=MODEL/{/=MODEL/i $model
}" >commands.sh

cat commands.sh
bash -c '. ./prelude.sh; . ./commands.sh'
printf '\nreadme: every command of README.md ran, but for those left out above\n'
