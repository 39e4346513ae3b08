#!/usr/bin/env bash
# What a TPU VM does for itself, as root; tpu_vm.sh and startup.sh call it on every host.
#
# usage: host.sh setup BUCKET        mount the bucket, install the program
#        host.sh start NAME CHIP RESTARTS TL_JAX_ARGUMENT...
#                                    begin or resume the training as a service, which ends when it
#                                    has failed more than RESTARTS times in a row
#        host.sh record              after the service: note in the bucket how it ended
#
# The code lies in /opt/tl_jax/code. A setup that failed can be repeated.
# See `journalctl -u tl-jax` for what the training prints.
# DESTDIR is put before system paths (for tests).
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

PLACE="$(dirname -- "$ROOT")"
MOUNT="${DESTDIR:-}$MOUNT"
UV_VERSION=0.13.9

setup() {
    local bucket="$1" hugepages="${DESTDIR:-}/sys/kernel/mm/transparent_hugepage/enabled"
    # JAX asks for this on v5e and newer: the TPU runtime starts and stops faster.
    [ ! -w "$hugepages" ] || echo always >"$hugepages"
    if ! command -v gcsfuse >/dev/null; then
        local key="${DESTDIR:-}/usr/share/keyrings/cloud.google.asc" codename
        codename="$(. /etc/os-release && echo "$VERSION_CODENAME")"
        curl -fsSL https://packages.cloud.google.com/apt/doc/apt-key.gpg -o "$key"
        echo "deb [signed-by=$key] https://packages.cloud.google.com/apt gcsfuse-$codename main" \
            >"${DESTDIR:-}/etc/apt/sources.list.d/gcsfuse.list"
        apt-get -o DPkg::Lock::Timeout=300 update -q
        apt-get -o DPkg::Lock::Timeout=300 install -qy gcsfuse
    fi
    mkdir -p "$MOUNT"
    mountpoint -q "$MOUNT" || gcsfuse --config-file "$LAUNCH_DIR/gcsfuse.yaml" "$bucket" "$MOUNT"
    # An environment that was left half made has a Python, but no pip.
    if ! "$PLACE/venv/bin/python" -m pip --version >/dev/null 2>&1; then
        # The VM images bring Python 3.10; uv fetches 3.11.
        python3 -m pip install --quiet --target "$PLACE/uv" "uv==$UV_VERSION"
        UV_PYTHON_INSTALL_DIR="$PLACE/python" "$PLACE/uv/bin/uv" venv --quiet --clear --seed \
            --python 3.11 "$PLACE/venv"
    fi
    "$PLACE/venv/bin/python" -m pip install --quiet \
        --constraint "$ROOT/tools/constraints.txt" --editable "${ROOT}[tpu]"
}

start() {
    local name="$1" chip="$2" restarts="$3"
    shift 3
    if systemctl is-active --quiet tl-jax; then
        fail "a training is running here; stop it first (systemctl stop tl-jax)"
    fi
    printf '%s\n' "$name" >"$PLACE/name"
    printf '%s\n' "$restarts" >"$PLACE/restarts"
    rm -f -- "$PLACE/failures"
    {
        echo '#!/usr/bin/env bash'
        echo 'set -euo pipefail'
        printf 'cd %q\n' "$ROOT"
        # Every worker asks the metadata server who the others are.
        printf "export HOME=/root TL_JAX_DISTRIBUTED=1 CHIP=%q PATH=%q:\"\$PATH\"\n" \
            "$chip" "$PLACE/venv/bin"
        printf 'exec '
        show bash launch/run_stages.sh "$@"
    } >"$PLACE/run.sh"
    cp "$LAUNCH_DIR/tl-jax.service" "${DESTDIR:-}/etc/systemd/system/tl-jax.service"
    systemctl daemon-reload
    systemctl start tl-jax
}

record() {
    local finished restarts failures=0 status="${EXIT_STATUS:-unknown}"
    # 0 and 2 are final, 3 was a stop in good order; anything else is started again for a while.
    case "$status" in
        0 | 2) ;;
        3)
            rm -f -- "$PLACE/failures"
            return
            ;;
        *)
            restarts="$(cat "$PLACE/restarts")"
            failures=$(($(cat "$PLACE/failures" 2>/dev/null || echo 0) + 1))
            printf '%s\n' "$failures" >"$PLACE/failures"
            [ "$failures" -gt "$restarts" ] || return 0
            echo "failed $failures times in a row (MAX_RESTARTS=$restarts); not started again"
            ;;
    esac
    finished="$MOUNT/finished/$(cat "$PLACE/name")"
    mkdir -p "$MOUNT/finished"
    # The log first: whoever sees the status may delete this host.
    journalctl --unit=tl-jax --lines=2000 >"$finished.$(hostname).log"
    printf '%s\n' "$status" >"$finished"
    # A stop by hand is what keeps systemd from the restart; it waits for this script.
    [ "$failures" -eq 0 ] || systemctl stop --no-block tl-jax
}

case "${1:-}" in
    setup) [ "$#" -eq 2 ] || fail "usage: host.sh setup BUCKET" ;;
    start) [ "$#" -ge 5 ] || fail "usage: host.sh start NAME CHIP RESTARTS TL_JAX_ARGUMENT..." ;;
    record) ;;
    *)
        usage >&2
        exit 2
        ;;
esac
"$@"
