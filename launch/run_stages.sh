#!/usr/bin/env bash
# Run the stages of a training on this host; every launcher starts this on every host.
#
# usage: run_stages.sh [--stages=prepare,train] --config=configs/NAME.py \
#            [--config.section.field=value ...]
#
# --stages are stages of tl-jax in order.
# CHIP    v5e, v5p, v6e or tpu7x: adds the flags of launch/xla_flags/CHIP.txt
# The exit status is that of tl-jax: 0 done, 2 a setting is wrong, 3 stopped with the state saved;
# after anything but 0 and 2 the same command goes on from the newest checkpoint.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

names=prepare,train words=()
for word in "$@"; do
    case "$word" in
        --stages=*) names="${word#*=}" ;;
        *) words+=("$word") ;;
    esac
done
check_stages "$names"
IFS=, read -r -a stages <<<"$names"
set -- ${words[@]+"${words[@]}"}
if [ -n "${CHIP:-}" ]; then
    # Flags that are set already come later and win.
    LIBTPU_INIT_ARGS="$(read_flags "$LAUNCH_DIR/xla_flags/$CHIP.txt")${LIBTPU_INIT_ARGS:+ $LIBTPU_INIT_ARGS}"
    export LIBTPU_INIT_ARGS
fi
address="${JAX_COORDINATOR_ADDRESS:-}"
[[ -z "$address" || "$address" =~ ^.+:[0-9]{1,5}$ ]] ||
    fail "JAX_COORDINATOR_ADDRESS=$address must be HOST:PORT"
port="${JAX_COORDINATOR_PORT:-8482}"
[[ "$port" =~ ^[0-9]{1,5}$ ]] || fail "JAX_COORDINATOR_PORT=$port must be a number"
last=$((${#stages[@]} - 1))
stopped=""
# A stage before the last one is repeated as a whole, so a stop only has to keep the next one from
# starting. The last one takes the place of this shell and gets the signal itself.
trap 'stopped=1' TERM INT
for index in "${!stages[@]}"; do
    # A port of its own for each stage: hosts do not leave the one before at the same moment.
    if [ -n "$address" ]; then
        export JAX_COORDINATOR_ADDRESS="${address%:*}:$((${address##*:} + index))"
    else
        export JAX_COORDINATOR_PORT="$((port + index))"
    fi
    [ "$index" -lt "$last" ] || exec tl-jax "${stages[$index]}" "$@"
    tl-jax "${stages[$index]}" "$@"
    [ -z "$stopped" ] || exit 3
done
