#!/usr/bin/env bash
# Compile every configuration for a TPU pod and write tools/bench/results/aot.json: memory, FLOPs
# and collectives of each program. Takes hours on two cores, one configuration at a time; with names
# as arguments, only those are made anew. SEARCH=1 also finds the largest batch of each.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python="${PYTHON:-.venv/bin/python}"
if [ "$#" -eq 0 ]; then
    mapfile -t files < <(grep -l 'topology=' configs/*.py)
    set -- "${files[@]##*/}"
fi
for name in "$@"; do
    name="${name%.py}"
    echo "compiling $name" >&2
    "$python" tools/aot_compile.py --config="configs/$name.py" \
        --json=tools/bench/results/aot.json ${SEARCH:+--search}
done
