#!/usr/bin/env bash
# A whole float in an enum is one token sequence for one grammar engine and another one for the next.
#
# Guess:  of {"enum": [0.5, 1.0]} a constrained model can write 1.0, as Python's json writes the value
#         in the prompt's schema and in the calls that the model was trained on.
# Seen:   llguidance 1.9.1 takes "1" and no "1.0", although a parameter of type number may be either;
#         outlines_core 0.2.14 takes "1.0" and no "1". const goes the same way. So where a value is
#         given by enum or const, the text that training data hold is out of reach with one of the two.
#
# Needs pip and a network. Exits 1 if the behaviour is another one.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf -- "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet llguidance==1.9.1 outlines_core==0.2.14 \
    tokenizers==0.23.3
"$folder/env/bin/python" - <<'PYTHON'
import importlib.metadata
import json
import re
import sys

import llguidance
import tokenizers
from outlines_core.json_schema import build_regex_from_schema
from tokenizers import decoders, models, pre_tokenizers

for name in ("llguidance", "outlines_core"):
    print(name, importlib.metadata.version(name))
letters = sorted(pre_tokenizers.ByteLevel.alphabet())
core = tokenizers.Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
core.add_special_tokens(["<end>"])
core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
core.decoder = decoders.ByteLevel()
tokens = llguidance.LLTokenizer(core.to_str(), eos_token=len(letters))


def taken(schema, text):
    grammar = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema))
    matcher, ids = llguidance.LLMatcher(tokens, grammar), tokens.tokenize_str(text)
    theirs = matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()
    return theirs, bool(re.fullmatch(build_regex_from_schema(json.dumps(schema)), text))


seen = {}
for name, schema in {
    "enum": {"enum": [0.5, 1.0]},
    "const": {"const": 1.0},
    "number": {"type": "number"},
}.items():
    seen[name] = [taken(schema, text) for text in ("1.0", "1")]
    for text, (one, other) in zip(("1.0", "1"), seen[name], strict=True):
        print(f"{json.dumps(schema)} takes {text}: llguidance {one}, outlines_core {other}")
whole = [(False, True), (True, False)]
if seen != {"enum": whole, "const": whole, "number": [(True, True), (True, True)]}:
    sys.exit("the behaviour has changed: how grammars write a whole float")
PYTHON
