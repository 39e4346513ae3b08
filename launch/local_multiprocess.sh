#!/usr/bin/env bash
# A pod in miniature: N processes on this machine train one model together, over gloo on the CPU.
#
# usage: local_multiprocess.sh [--dry-run] [--processes=2] [--devices=1] [--logs=DIR] \
#            -- [--stages=prepare,train] --config=configs/NAME.py --config.run_dir=DIR \
#            [--config.section.field=value ...]
#
# Each process is what a host is on a pod: it runs launch/run_stages.sh and finds
# the others through JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID. --devices is
# the number of CPU devices of each. The first process writes here, the others to
# DIR/process_I.log (runs/local_multiprocess). PORT is the coordinator's port (a free one).
# Ctrl-C or SIGTERM to this script, or to one process alone, saves on all at one step; the same
# command goes on. The exit status is the first that is not 0.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

processes=2 devices=1 logs=runs/local_multiprocess
words=(local)
while [ "$#" -gt 0 ]; do
    case "$1" in
        --processes=*) processes="${1#*=}" ;;
        --devices=*) devices="${1#*=}" ;;
        --logs=*) logs="${1#*=}" ;;
        --)
            words+=("$@")
            break
            ;;
        *) words+=("$1") ;;
    esac
    shift
done
parse_arguments "${words[@]}"
[[ "$processes" =~ ^[1-9][0-9]*$ ]] || fail "--processes=$processes must be a positive number"
[[ "$devices" =~ ^[1-9][0-9]*$ ]] || fail "--devices=$devices must be a positive number"
[ "${#ARGUMENTS[@]}" -gt 0 ] || fail "give the configuration: -- --config=configs/NAME.py ..."
# The package of this checkout, unless the caller has activated another environment.
[ -n "${VIRTUAL_ENV:-}" ] || PATH="$ROOT/.venv/bin:$PATH"
command -v tl-jax >/dev/null || fail "no tl-jax; run tools/quickstart.sh once or activate its environment"

# Print a port that is free together with the next seven, one for each stage.
free_port() {
    python3 - <<'PYTHON'
import contextlib
import random
import socket

while True:
    first = random.randrange(20000, 30000)
    with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
        for port in range(first, first + 8):
            stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
        print(first)
        break
PYTHON
}

port="${PORT:-$(free_port)}"
pids=() reaped=()

# Signal every process that is left; a signal goes to a process, never to a group.
signal_all() {
    local index
    for index in ${pids[@]+"${!pids[@]}"}; do
        [ -n "${reaped[$index]:-}" ] || kill "-$1" "${pids[$index]}" 2>/dev/null || true
    done
}

if [ "$DRY_RUN" = 0 ]; then
    mkdir -p "$logs"
    trap 'signal_all TERM' TERM INT
fi
# Each process in a group of its own, so that Ctrl-C reaches this script alone.
set -m
for ((index = 0; index < processes; index++)); do
    command=(env JAX_PLATFORMS=cpu "JAX_NUM_CPU_DEVICES=$devices"
        "JAX_COORDINATOR_ADDRESS=127.0.0.1:$port" "JAX_NUM_PROCESSES=$processes"
        "JAX_PROCESS_ID=$index" bash "$LAUNCH_DIR/run_stages.sh" "${ARGUMENTS[@]}")
    printf '+ '
    show "${command[@]}"
    [ "$DRY_RUN" = 0 ] || continue
    if [ "$index" -eq 0 ]; then
        "${command[@]}" &
    else
        "${command[@]}" >"$logs/process_$index.log" 2>&1 &
    fi
    pids+=("$!")
done
if [ "$DRY_RUN" = 0 ]; then
    echo "processes: ${pids[*]}; logs of all but the first in $logs"
    echo "stop:     kill -TERM $$"
fi
written=()
for ((index = 1; index < processes; index++)); do
    written+=("$logs/process_$index.log")
done
[ "$processes" -eq 1 ] || clean_up rm -- "${written[@]}"
[ "$DRY_RUN" = 0 ] || exit 0

status=0 deadline=""
left="$processes"
while [ "$left" -gt 0 ]; do
    sleep 0.2 || true
    for index in "${!pids[@]}"; do
        [ -z "${reaped[$index]:-}" ] || continue
        kill -0 "${pids[$index]}" 2>/dev/null && continue
        code=0
        wait "${pids[$index]}" || code=$?
        reaped[index]=1
        left=$((left - 1))
        if [ "$code" -ne 0 ] && [ "$status" -eq 0 ]; then
            status="$code"
            echo "process $index ended with status $code" >&2
            # Peers of a process that saved are saving too; peers of one that failed would wait.
            if [ "$code" -ne 3 ]; then
                signal_all TERM
                deadline=$((SECONDS + 20))
            fi
        fi
    done
    if [ -n "$deadline" ] && [ "$SECONDS" -ge "$deadline" ]; then
        signal_all KILL
    fi
done
exit "$status"
