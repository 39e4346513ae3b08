#!/usr/bin/env bash
# Train on a GKE cluster with JobSet and Kueue, without XPK. Uses the current kubectl context.
#
# usage: gke.sh [--dry-run] apply -- --config=configs/NAME.py \
#            --config.run_dir=/mnt/tl_jax/DIR [--config.section.field=value ...]
#        gke.sh [--dry-run] queue | status | logs | delete
#
# queue   once for a cluster: tell Kueue how many chips it may hand out
# apply   submit the training
# status  the JobSet and its pods
# logs    follow what the first host prints
# delete  stop the training (it saves its state) and delete it; the nodes stay
#
# Reads NAME NAMESPACE IMAGE BUCKET GKE_ACCELERATOR TOPOLOGY CHIPS_PER_HOST SLICES SERVICE_ACCOUNT
# QUEUE QUOTA_CHIPS MAX_RESTARTS (launch/env.example). What is applied is left in build/launch/.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
parse_arguments "$@"
require_label NAME
cd "$ROOT"

export NAMESPACE="${NAMESPACE:-default}" QUEUE="${QUEUE:-tl-jax}"
export CHIPS_PER_HOST="${CHIPS_PER_HOST:-4}" SLICES="${SLICES:-1}"
export MAX_RESTARTS="${MAX_RESTARTS:-100}" MOUNT NAME
place=(--namespace="$NAMESPACE")
delete=(kubectl delete jobset "$NAME" "${place[@]}" --ignore-not-found)
selector="jobset.sigs.k8s.io/jobset-name=$NAME"

# Render a template to build/launch/ and apply it.
apply() {
    local template="launch/gke/$1.yaml.tmpl" file="build/launch/$NAME.$1.yaml"
    shift
    if [ "$DRY_RUN" = 1 ]; then
        python3 launch/gke/render.py "$template" "$@"
    else
        mkdir -p build/launch
        python3 launch/gke/render.py "$template" "$@" >"$file"
    fi
    run kubectl apply --filename="$file"
}

case "$ACTION" in
    queue)
        apply kueue
        delete=(kubectl delete --filename="build/launch/$NAME.kueue.yaml")
        ;;
    apply)
        require_arguments "$MOUNT"
        require GKE_ACCELERATOR
        CHIP="$(chip_of "$GKE_ACCELERATOR")"
        export CHIP
        apply jobset "${ARGUMENTS[@]}"
        ;;
    status)
        run kubectl get jobset "$NAME" "${place[@]}"
        run kubectl get pods "${place[@]}" --selector="$selector"
        ;;
    logs)
        run kubectl logs "${place[@]}" --follow --container=tl-jax \
            --selector="$selector,jobset.sigs.k8s.io/job-index=0,batch.kubernetes.io/job-completion-index=0"
        ;;
    delete) run "${delete[@]}" ;;
    *) fail "unknown action $ACTION; see --help" ;;
esac
clean_up "${delete[@]}"
