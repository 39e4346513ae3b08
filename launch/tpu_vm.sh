#!/usr/bin/env bash
# One TPU slice, step by step, by hand: for trying things out and for finding faults.
#
# usage: tpu_vm.sh [--dry-run] create | setup | status | logs | stop | delete
#        tpu_vm.sh [--dry-run] run -- --config=configs/NAME.py --config.run_dir=/mnt/tl_jax/DIR ...
#
# create  make the slice                  (it costs money from here on)
# setup   bring the committed code and install it on every host; again after a change, when no
#         training runs
# run     begin or resume the training as a service on every host
# status  is the slice there, does the service run on each host
# logs    follow what the first host prints
# stop    save the state and stop the training; the slice stays
# delete  delete the slice
#
# Reads PROJECT ZONE NAME BUCKET ACCELERATOR RUNTIME_VERSION SPOT MAX_RESTARTS (launch/env.example).
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
parse_arguments "$@"
require PROJECT ZONE
require_label NAME
cd "$ROOT"

place=(--project="$PROJECT" --zone="$ZONE")

# Run one command line on every host, or on the given one.
on_hosts() {
    run gcloud compute tpus tpu-vm ssh "$NAME" "${place[@]}" --worker="${2:-all}" --command="$1"
}

case "$ACTION" in
    create)
        require ACCELERATOR RUNTIME_VERSION
        command=(gcloud compute tpus tpu-vm create "$NAME" "${place[@]}"
            --accelerator-type="$ACCELERATOR" --version="$RUNTIME_VERSION")
        [ -z "${SPOT:-}" ] || command+=(--spot)
        run "${command[@]}"
        ;;
    setup)
        require BUCKET
        upload_code
        # Also between two starts of the service, which needs the code again.
        on_hosts "set -e; case \"\$(systemctl is-active tl-jax)\" in active | *ing) \
echo 'a training is running here; stop it first (tpu_vm.sh stop)' >&2; exit 2 ;; esac; \
sudo rm -rf /opt/tl_jax/code; sudo mkdir -p /opt/tl_jax/code; \
gcloud storage cp $(show "$CODE") /tmp/tl_jax.tar.gz; \
sudo tar -xzf /tmp/tl_jax.tar.gz -C /opt/tl_jax/code; \
sudo bash /opt/tl_jax/code/launch/host.sh setup $(show "$BUCKET")"
        ;;
    run)
        require ACCELERATOR
        require_arguments "$MOUNT"
        chip="$(chip_of "$ACCELERATOR")"
        restarts="$(max_restarts)"
        on_hosts "$(show sudo bash /opt/tl_jax/code/launch/host.sh start "$NAME" "$chip" \
            "$restarts" "${ARGUMENTS[@]}")"
        ;;
    status)
        run gcloud compute tpus tpu-vm describe "$NAME" "${place[@]}" --format='value(state)'
        on_hosts 'systemctl is-active tl-jax || true'
        ;;
    logs) on_hosts 'sudo journalctl --unit=tl-jax --lines=100 --follow' 0 ;;
    stop) on_hosts 'sudo systemctl stop tl-jax' ;;
    delete) run gcloud compute tpus tpu-vm delete "$NAME" "${place[@]}" ;;
    *) fail "unknown action $ACTION; see --help" ;;
esac
clean_up gcloud compute tpus tpu-vm delete "$NAME" "${place[@]}"
