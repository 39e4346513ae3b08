# What the launchers share; sourced, not run.
# shellcheck shell=bash

LAUNCH_DIR="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
ROOT="$(dirname -- "$LAUNCH_DIR")"
# Where the bucket is mounted on every host, on TPU VMs and in pods.
# shellcheck disable=SC2034  # read by the launchers
MOUNT=/mnt/tl_jax

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 2
}

# Print a command so that a shell reads back the same words.
show() {
    printf '%q' "$1"
    shift
    [ "$#" -eq 0 ] || printf ' %q' "$@"
    printf '\n'
}

# Print a command and, without --dry-run, run it.
run() {
    printf '+ '
    show "$@"
    [ "$DRY_RUN" = 1 ] || "$@"
}

clean_up() {
    printf 'clean up: '
    show "$@"
}

# The comment at the head of the script is its help.
usage() {
    sed -n '2,/^set -euo/{/^set -euo/d;s/^# \{0,1\}//;p;}' "$0"
}

# Set ACTION, DRY_RUN and ARGUMENTS from: [--dry-run] ACTION [-- TL_JAX_ARGUMENT...]
parse_arguments() {
    ACTION="" DRY_RUN=0 ARGUMENTS=()
    while [ "$#" -gt 0 ]; do
        case "$1" in
            --dry-run) DRY_RUN=1 ;;
            -h | --help)
                usage
                exit 0
                ;;
            --)
                shift
                ARGUMENTS=("$@")
                break
                ;;
            -*) fail "unknown option $1; arguments of tl-jax come after --" ;;
            *)
                [ -z "$ACTION" ] || fail "one action at a time, got $ACTION and $1"
                ACTION="$1"
                ;;
        esac
        shift
    done
    if [ -z "$ACTION" ]; then
        usage >&2
        exit 2
    fi
}

# Stop unless every named variable has a value.
require() {
    local variable missing=()
    for variable in "$@"; do
        [ -n "${!variable:-}" ] || missing+=("$variable")
    done
    [ "${#missing[@]}" -eq 0 ] || fail "set ${missing[*]}; launch/env.example explains each"
}

# Stop unless the value of the named variable can name a cloud resource (a DNS label).
require_label() {
    require "$1"
    [[ "${!1}" =~ ^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$ ]] ||
        fail "$1=${!1} must be lower-case letters, digits and inner dashes, at most 63"
}

# Stop unless every word of A,B,... is a stage of tl-jax: a misspelt one would be found out hours
# later, behind those before it.
check_stages() {
    local stage stages
    IFS=, read -r -a stages <<<"$1"
    [ "${#stages[@]}" -gt 0 ] || fail "--stages names no stage"
    for stage in "${stages[@]}"; do
        case "$stage" in
            prepare | inspect | train | evaluate | convert | report | run) ;;
            *) fail "--stages=$1: no stage ${stage:-without a name}; there are prepare, inspect, train," \
                "evaluate, convert, report, run" ;;
        esac
    done
}

# Stop unless ARGUMENTS begin a run in a directory that all hosts see.
require_arguments() {
    local argument config="" run_dir=""
    for argument in ${ARGUMENTS[@]+"${ARGUMENTS[@]}"}; do
        case "$argument" in
            *$'\n'*) fail "an argument of tl-jax has a line break: $argument" ;;
            --config=*) config=1 ;;
            --config.run_dir="$1"/*) run_dir=1 ;;
            --stages=*) check_stages "${argument#*=}" ;;
        esac
    done
    [ -n "$config" ] || fail "give the configuration: -- --config=configs/NAME.py ..."
    [ -n "$run_dir" ] || fail "give a directory that all hosts see: --config.run_dir=$1/..."
}

# Stop unless the configuration that ARGUMENTS name is in the commit that the hosts get.
require_committed() {
    local argument file=""
    for argument in "${ARGUMENTS[@]}"; do
        case "$argument" in --config=*) file="${argument#*=}" ;; esac
    done
    file="${file%%:*}"
    case "$file" in
        "$MOUNT"/*) return ;;
        *.py | *.yaml | *.yml | *.json) ;;
        *) file="configs/$file.py" ;;
    esac
    git -C "$ROOT" cat-file -e "HEAD:$file" 2>/dev/null ||
        fail "--config: $file is not in the last commit, which is what the hosts get; commit it, or correct the name"
}

# Print the chip's name (of its flag file) for an accelerator type or a GKE accelerator label.
chip_of() {
    case "$1" in
        v5litepod-* | tpu-v5-lite*) echo v5e ;;
        v5p-* | tpu-v5p-*) echo v5p ;;
        v6e-* | tpu-v6e-*) echo v6e ;;
        tpu7x*) echo tpu7x ;;
        *) fail "no TPU known as $1; known: v5litepod-N, v5p-N, v6e-N, tpu7x-N" ;;
    esac
}

# Print how often a training that fails is started again.
max_restarts() {
    [[ "${MAX_RESTARTS:-100}" =~ ^[0-9]+$ ]] ||
        fail "MAX_RESTARTS=$MAX_RESTARTS must be a whole number"
    echo "${MAX_RESTARTS:-100}"
}

# Print the flags of a file as one line for LIBTPU_INIT_ARGS.
read_flags() {
    [ -f "$1" ] || fail "no flag file $1"
    sed -e 's/#.*//' -e 's/[[:space:]]*$//' -e '/^$/d' "$1" | paste -sd ' ' -
}

# Set CODE to where the committed code lies in the bucket, and put it there.
upload_code() {
    local revision archive
    revision="$(git -C "$ROOT" rev-parse --short=12 HEAD)"
    [ -z "$(git -C "$ROOT" status --porcelain --untracked-files=no)" ] ||
        echo "note: changes that are not committed are not uploaded" >&2
    archive="build/launch/$revision.tar.gz"
    CODE="gs://$BUCKET/code/$revision.tar.gz"
    run mkdir -p build/launch
    run git archive --format=tar.gz --output="$archive" HEAD
    run gcloud storage cp "$archive" "$CODE" --project="$PROJECT"
}
