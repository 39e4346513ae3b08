#!/usr/bin/env bash
# Startup script of the hosts of a queued resource: runs as root at every boot, so a host that was
# taken away and comes back resumes the training without anybody's help.
#
# launch/queued_resource.sh gives it to the VMs together with the metadata that it reads:
# tl-jax-name, tl-jax-bucket, tl-jax-code (gs://... archive), tl-jax-chip, tl-jax-restarts and
# tl-jax-arguments (one argument of tl-jax per line).
set -euo pipefail

PLACE="${DESTDIR:-}/opt/tl_jax"

attribute() {
    curl -fsS --retry 5 -H 'Metadata-Flavor: Google' \
        "http://metadata.google.internal/computeMetadata/v1/instance/attributes/$1"
}

name="$(attribute tl-jax-name)"
bucket="$(attribute tl-jax-bucket)"
code="$(attribute tl-jax-code)"
chip="$(attribute tl-jax-chip)"
restarts="$(attribute tl-jax-restarts)"
lines="$(attribute tl-jax-arguments)"
mapfile -t arguments <<<"$lines"

install() {
    rm -rf -- "$PLACE/code" &&
        mkdir -p -- "$PLACE/code" &&
        gcloud storage cp "$code" "$PLACE/code.tar.gz" &&
        tar -xzf "$PLACE/code.tar.gz" -C "$PLACE/code" &&
        bash "$PLACE/code/launch/host.sh" setup "$bucket"
}

# The slice waits for every host, and nobody else tries again before the next boot: a lock that apt
# holds or a download that fails must not keep this host out. But chips that wait cost money: what
# fails for half an hour will not mend itself, and `queued_resource.sh watch` then deletes them.
tries=0
until install; do
    status=$?
    tries=$((tries + 1))
    if [ "$tries" -ge 60 ]; then
        echo "startup.sh: the installation failed $tries times, at last with status $status" >&2
        report="finished/$name"
        journalctl --unit=google-startup-scripts --lines=2000 >"$PLACE/installation.log" || true
        gcloud storage cp "$PLACE/installation.log" "gs://$bucket/$report.$(hostname).log" || true
        echo "$status" >"$PLACE/installation.status"
        gcloud storage cp "$PLACE/installation.status" "gs://$bucket/$report"
        exit "$status"
    fi
    echo "startup.sh: the installation failed with status $status; trying again in 30 s" >&2
    sleep 30
done
exec bash "$PLACE/code/launch/host.sh" start "$name" "$chip" "$restarts" "${arguments[@]}"
