#!/usr/bin/env bash
# Ask for TPU slices and let them train by themselves, also after a preemption.
#
# usage: queued_resource.sh [--dry-run] create -- --config=configs/NAME.py \
#            --config.run_dir=/mnt/tl_jax/DIR [--config.section.field=value ...]
#        queued_resource.sh [--dry-run] watch -- (the same)
#        queued_resource.sh [--dry-run] status | logs | delete
#
# create  upload the committed code and ask for SLICES slices; they train as soon as they boot
# watch   wait until the training has ended, then delete the slices. A request that was preempted
#         (SUSPENDED) or FAILED is deleted and made again; the run resumes from its checkpoint. A
#         command of the cloud that fails is tried again.
#         Leave it running on a machine that stays up.
# status  the state of the request
# logs    follow what the first host of the first slice prints
# delete  delete the request and its slices
#
# Reads PROJECT ZONE NAME BUCKET ACCELERATOR RUNTIME_VERSION SLICES SPOT RESERVED VALID_UNTIL
# POLL_SECONDS MAX_RESTARTS (launch/env.example).
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
parse_arguments "$@"
require PROJECT ZONE
require_label NAME
cd "$ROOT"

place=(--project="$PROJECT" --zone="$ZONE")
slices="${SLICES:-1}"
[[ "$slices" =~ ^[1-9][0-9]*$ ]] || fail "SLICES=$slices must be a positive number"
delete=(gcloud compute tpus queued-resources delete "$NAME" "${place[@]}" --force --quiet)
first_node="$NAME"
[ "$slices" -eq 1 ] || first_node="$NAME-0"

# Set REQUEST to the command that asks for the slices.
make_request() {
    local chip restarts metadata
    require BUCKET ACCELERATOR RUNTIME_VERSION
    require_arguments "$MOUNT"
    require_committed
    chip="$(chip_of "$ACCELERATOR")"
    restarts="$(max_restarts)"
    upload_code
    # gcloud splits metadata at commas; the arguments come from a file.
    echo "build/launch/$NAME.arguments:"
    printf '    %s\n' "${ARGUMENTS[@]}"
    [ "$DRY_RUN" = 1 ] || printf '%s\n' "${ARGUMENTS[@]}" >"build/launch/$NAME.arguments"
    REQUEST=(gcloud compute tpus queued-resources create "$NAME" "${place[@]}"
        --accelerator-type="$ACCELERATOR" --runtime-version="$RUNTIME_VERSION")
    if [ "$slices" -eq 1 ]; then
        REQUEST+=(--node-id="$NAME")
    else
        REQUEST+=(--node-count="$slices" --node-prefix="$NAME")
    fi
    metadata="tl-jax-name=$NAME,tl-jax-bucket=$BUCKET,tl-jax-code=$CODE,tl-jax-chip=$chip"
    REQUEST+=(
        --metadata="$metadata,tl-jax-restarts=$restarts"
        --metadata-from-file="startup-script=launch/startup.sh,tl-jax-arguments=build/launch/$NAME.arguments"
    )
    [ -z "${SPOT:-}" ] || REQUEST+=(--spot)
    [ -z "${RESERVED:-}" ] || REQUEST+=(--reserved)
    [ -z "${VALID_UNTIL:-}" ] || REQUEST+=(--valid-until-duration="$VALID_UNTIL")
}

# Run a command of the cloud that is tried again at the next look if it fails.
attempt() {
    run "$@" || {
        echo "that failed with status $?; trying again" >&2
        return 1
    }
}

# Wait for the end of the training, asking again for what was taken away. A command that fails,
# such as when the network is down, is no reason to stop watching.
watch() {
    local state ended="" lost="" tries=0
    while true; do
        [ -n "$ended" ] || ended="$(gcloud storage cat "gs://$BUCKET/finished/$NAME" \
            --project="$PROJECT" 2>/dev/null)" || ended=""
        if [ -n "$ended" ]; then
            if attempt "${delete[@]}"; then
                [ "$ended" = 0 ] ||
                    fail "the training ended with status $ended; see gs://$BUCKET/finished/$NAME.*.log"
                echo "the training is done"
                return
            fi
            tries=$((tries + 1))
            [ "$tries" -lt 10 ] ||
                fail "the training ended with status $ended, but the slices are not deleted and cost money"
        else
            state="$(gcloud compute tpus queued-resources describe "$NAME" "${place[@]}" \
                --format='value(state.state)')" || state=unreachable
            printf '%s %s\n' "$(date -u +%FT%TZ)" "$state"
            case "$state" in
                SUSPENDED | FAILED)
                    lost=1
                    attempt "${delete[@]}" && state=deleted
                    ;;
                unreachable) ;;
                *) lost="" ;;
            esac
            # Unreachable after a loss: the request may be deleted already. If it is not, asking
            # for it again fails without harm.
            case "$lost $state" in
                "1 deleted" | "1 unreachable") ! attempt "${REQUEST[@]}" || lost="" ;;
            esac
        fi
        sleep "${POLL_SECONDS:-60}"
    done
}

case "$ACTION" in
    create)
        make_request
        # What an earlier run of this name has left would end `watch` at once.
        run gcloud storage rm "gs://$BUCKET/finished/$NAME" --project="$PROJECT" || true
        run "${REQUEST[@]}"
        ;;
    watch)
        make_request
        if [ "$DRY_RUN" = 1 ]; then
            echo "every ${POLL_SECONDS:-60} s; after a preemption:"
            run "${delete[@]}"
            run "${REQUEST[@]}"
        else
            watch
        fi
        ;;
    status)
        run gcloud compute tpus queued-resources describe "$NAME" "${place[@]}" \
            --format='value(state.state)'
        ;;
    logs)
        run gcloud compute tpus tpu-vm ssh "$first_node" "${place[@]}" --worker=0 \
            --command='sudo journalctl --unit=tl-jax --unit=google-startup-scripts --lines=100 --follow'
        ;;
    delete) run "${delete[@]}" ;;
    *) fail "unknown action $ACTION; see --help" ;;
esac
clean_up "${delete[@]}"
