#!/usr/bin/env bash
# AutoTokenizer rewrites tokenizer.json where config.json says qwen2, whatever class is declared.
#
# Guess:  a directory with a tokenizer.json, and "tokenizer_class": "PreTrainedTokenizerFast" in its
#         tokenizer_config.json, is tokenized as that file says, whatever model lies beside it.
# Seen:   with transformers 5.23.0 it is for model_type llama, mistral and qwen3, but for qwen2
#         AutoTokenizer takes Qwen2Tokenizer, which keeps the vocabulary and puts its own normalizer and
#         pre-tokenizer in place of those of the file: other ids, without a warning. So a qwen2 model
#         with a tokenizer of its own cannot be served by what AutoTokenizer returns.
#         PreTrainedTokenizerFast.from_pretrained reads the file as it is.
#
# Needs pip and a network. Exits 1 if the behaviour is another one.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf -- "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet transformers==5.23.0 tokenizers==0.23.3 numpy==2.4.6
"$folder/env/bin/python" - "$folder" <<'PYTHON'
import importlib.metadata
import json
import pathlib
import sys

import tokenizers
import transformers
from tokenizers import decoders, models, pre_tokenizers

for name in ("transformers", "tokenizers"):
    print(name, importlib.metadata.version(name))

pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "12", "<|end|>"]
core = tokenizers.Tokenizer(models.BPE({p: i for i, p in enumerate(pieces)}, [("1", "2")]))
# Numbers stay whole here; Qwen2Tokenizer takes digits one by one.
core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
core.decoder = decoders.ByteLevel()
meant = core.encode("12").ids
seen = {}
for kind in ("llama", "mistral", "qwen3", "qwen2"):
    directory = pathlib.Path(sys.argv[1]) / kind
    directory.mkdir()
    core.save(str(directory / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>"}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    (directory / "config.json").write_text(json.dumps({"model_type": kind}))
    automatic = transformers.AutoTokenizer.from_pretrained(directory)
    generic = transformers.PreTrainedTokenizerFast.from_pretrained(directory)
    seen[kind] = automatic("12")["input_ids"] == meant
    print(f"{kind}: AutoTokenizer gives {type(automatic).__name__}, the ids meant: {seen[kind]}")
    if generic("12")["input_ids"] != meant:
        sys.exit("the behaviour has changed: the generic class no longer reads the file as it is")
if seen != {"llama": True, "mistral": True, "qwen3": True, "qwen2": False}:
    sys.exit("the behaviour has changed: which types of model rewrite tokenizer.json")
PYTHON
