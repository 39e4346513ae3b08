#!/usr/bin/env bash
# Of two chat templates of one model, transformers takes one and the gguf package the other.
#
# Guess:  chat_template.jinja is the template of a directory for all that read it, since transformers
#         lets it go before the "chat_template" of an older tokenizer_config.json beside it.
# Seen:   gguf 0.19.0, with which GGUF files are made, reads the .jinja file only where the config has
#         no "chat_template"; with both, transformers 5.23.0 writes prompts by the file and a GGUF file
#         made of the same directory carries the other one. A model whose template was replaced by
#         adding chat_template.jinja is served in llama.cpp with the prompts it was not trained on.
#
# Needs pip and a network. Exits 1 if the behaviour is another one.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf -- "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet gguf==0.19.0 transformers==5.23.0 \
    tokenizers==0.23.3 jinja2==3.1.6 numpy==2.4.6
"$folder/env/bin/python" - "$folder" <<'PYTHON'
import importlib.metadata
import json
import pathlib
import sys

import gguf
import tokenizers
import transformers
from tokenizers import models

for name in ("gguf", "transformers"):
    print(name, importlib.metadata.version(name))
seen = {}
for name in ("config", "jinja", "both"):
    directory = pathlib.Path(sys.argv[1]) / name
    directory.mkdir()
    tokenizers.Tokenizer(models.BPE({"a": 0}, [])).save(str(directory / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast"}
    if name != "jinja":
        config["chat_template"] = "of the config"
    if name != "config":
        (directory / "chat_template.jinja").write_text("of the file")
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    theirs = transformers.AutoTokenizer.from_pretrained(directory).chat_template
    seen[name] = theirs, gguf.SpecialVocab(directory).chat_template
    print(f"{name}: transformers {seen[name][0]!r}, gguf {seen[name][1]!r}")
if seen != {
    "config": ("of the config", "of the config"),
    "jinja": ("of the file", "of the file"),
    "both": ("of the file", "of the config"),
}:
    sys.exit("the behaviour has changed: which of two templates gguf takes")
PYTHON
