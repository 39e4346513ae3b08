#!/usr/bin/env bash
# Hold converted GGUF vocabularies against the ids that llama.cpp gives (the tests' golden ones).
# The files come in the source of a package that vendors llama.cpp, and stay in a scratch folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
.venv/bin/python -m pip download --quiet --no-deps --no-binary :all: --dest "$folder" \
    llama-cpp-python==0.3.36
tar -xzf "$folder"/llama_cpp_python-*.tar.gz -C "$folder" --wildcards '*/models/ggml-vocab-*'
TL_JAX_GGUF_VOCABULARIES=$(dirname "$(find "$folder" -name ggml-vocab-llama-spm.gguf)")
export TL_JAX_GGUF_VOCABULARIES
.venv/bin/python -m pytest -m slow tests/convert/test_gguf_tokenizer.py "$@"
