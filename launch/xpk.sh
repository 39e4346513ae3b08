#!/usr/bin/env bash
# Train on a GKE cluster that was made with XPK (github.com/AI-Hypercomputer/xpk).
#
# usage: xpk.sh [--dry-run] create -- --config=configs/NAME.py \
#            --config.run_dir=/mnt/tl_jax/DIR [--config.section.field=value ...]
#        xpk.sh [--dry-run] status | logs | delete
#
# create  submit the workload
# status  its state in the queue
# logs    follow what the first host prints
# delete  stop the training (it saves its state) and delete the workload; the cluster stays
#
# Reads PROJECT ZONE NAME CLUSTER ACCELERATOR IMAGE STORAGE SLICES MAX_RESTARTS SPOT
# (launch/env.example). STORAGE is what `xpk storage attach` called the bucket, mounted at
# /mnt/tl_jax.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
parse_arguments "$@"
require PROJECT ZONE CLUSTER
require_label NAME
# XPK and Kueue add to the name, and the whole must stay a DNS label.
[ "${#NAME}" -le 28 ] || fail "NAME=$NAME is longer than the 28 characters that XPK leaves"

place=(--project="$PROJECT" --zone="$ZONE")
delete=(xpk workload delete --workload="$NAME" --cluster="$CLUSTER" "${place[@]}")

case "$ACTION" in
    create)
        require ACCELERATOR IMAGE STORAGE
        require_arguments "$MOUNT"
        chip="$(chip_of "$ACCELERATOR")"
        # 1: a host failed, 3: stopped with the state saved; XPK adds 42 and 127 to 255 itself.
        command=(xpk workload create --workload="$NAME" --cluster="$CLUSTER" "${place[@]}"
            --tpu-type="$ACCELERATOR" --num-slices="${SLICES:-1}" --docker-image="$IMAGE"
            --storage="$STORAGE" --env="CHIP=$chip" --max-restarts="${MAX_RESTARTS:-100}"
            "--restart-on-exit-codes=1,3" --termination-grace-period-seconds=300
            --command="$(show exec bash launch/run_stages.sh "${ARGUMENTS[@]}")")
        [ -z "${SPOT:-}" ] || command+=(--spot)
        run "${command[@]}"
        ;;
    status) run xpk workload list --cluster="$CLUSTER" "${place[@]}" --filter-by-job="^$NAME\$" ;;
    logs)
        run kubectl logs --follow --container=jax-tpu \
            --selector="jobset.sigs.k8s.io/jobset-name=$NAME,jobset.sigs.k8s.io/job-index=0,batch.kubernetes.io/job-completion-index=0"
        ;;
    delete) run "${delete[@]}" ;;
    *) fail "unknown action $ACTION; see --help" ;;
esac
clean_up "${delete[@]}"
