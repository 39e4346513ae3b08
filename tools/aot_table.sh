#!/usr/bin/env bash
# Compile every configuration for a TPU pod and write tools/bench/results/aot.json: memory, FLOPs
# and collectives of each program. Takes about an hour and a half on two cores, one configuration at
# a time; with names as arguments, only those are made anew, with PROGRAMS=NAME,... some programs of
# them. SEARCH=1 also finds the largest batch of each.
#
# RANK=VARIANT,... compares variants of the supervised step instead (tools/aot_compile.py --rank) and
# writes tools/bench/results/rank.json, whose other variants stay:
#     RANK=full,attention,qkv,minimal,offload,full-async bash tools/aot_table.sh codellama_7b_v6e16
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python="${PYTHON:-.venv/bin/python}"
table=aot
[ -z "${RANK:-}" ] || table=rank
if [ "$#" -eq 0 ]; then
    mapfile -t files < <(grep -l 'topology=' configs/*.py)
    set -- "${files[@]##*/}"
fi
for name in "$@"; do
    name="${name%.py}"
    echo "compiling $name" >&2
    "$python" tools/aot_compile.py --config="configs/$name.py" \
        --json="tools/bench/results/$table.json" ${SEARCH:+--search} \
        ${PROGRAMS:+--programs="$PROGRAMS"} ${RANK:+--rank="$RANK"}
done
