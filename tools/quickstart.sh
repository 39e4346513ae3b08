#!/usr/bin/env bash
# Install into .venv (pinned versions, JAX for the CPU) and run the whole pipeline on the embedded default.
# Arguments go to tl-jax, such as --config.run_dir=runs/second. PYTHON picks the interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# shellcheck source=tools/venv.sh
. tools/venv.sh
echo "installing tl_jax into .venv"
.venv/bin/python -m pip install --quiet --constraint tools/constraints.txt --editable .
exec .venv/bin/tl-jax run --config=configs/quickstart.py "$@"
