#!/usr/bin/env bash
# A pattern in a tool's schema holds other texts in each library that constrains decoding by it.
#
# Guess:  "pattern" is searched for, as JSON Schema has it: {"pattern": "^https://"} holds any text that
#         begins so, for jsonschema as for grammars made of the schema.
# Seen:   jsonschema 4.26.0 and llguidance 1.9.1 search. xgrammar 0.2.9 takes the pattern for the whole
#         text: of "^https://" the model can write "https://" and nothing else, so a call with a real
#         address is impossible. outlines_core 0.2.14 keeps ^ and $ within the quotes, where neither
#         holds unless both are there: no text at all matches a pattern that has one of them.
#         With ^ and $ and a pattern of the whole text all four agree.
#
# Needs pip and a network; on Linux torch from PyTorch's index of CPU wheels is the small build:
# PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu. Exits 1 if the behaviour is another one.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf -- "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet torch==2.13.0 numpy==2.4.6 pydantic==2.14.4 \
    transformers==5.23.0 tokenizers==0.23.3 apache-tvm-ffi==0.1.15.post2 jsonschema==4.26.0 llguidance==1.9.1 \
    outlines_core==0.2.14
"$folder/env/bin/python" -m pip install --quiet --no-deps xgrammar==0.2.9
"$folder/env/bin/python" - <<'PYTHON'
import importlib.metadata
import json
import re
import sys

import jsonschema
import llguidance
import tokenizers
import xgrammar
from outlines_core.json_schema import build_regex_from_schema
from tokenizers import decoders, models, pre_tokenizers
from xgrammar.testing import _is_grammar_accept_string

for name in ("jsonschema", "llguidance", "xgrammar", "outlines_core"):
    print(name, importlib.metadata.version(name))
letters = sorted(pre_tokenizers.ByteLevel.alphabet())
core = tokenizers.Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
core.add_special_tokens(["<end>"])
core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
core.decoder = decoders.ByteLevel()
tokens = llguidance.LLTokenizer(core.to_str(), eos_token=len(letters))


def llguidance_takes(schema, text):
    grammar = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema))
    matcher, ids = llguidance.LLMatcher(tokens, grammar), tokens.tokenize_str(text)
    return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()


def who(pattern, text):
    schema, written = {"type": "string", "pattern": pattern}, json.dumps(text)
    grammar = xgrammar.Grammar.from_json_schema(json.dumps(schema))
    takes = {
        "jsonschema": jsonschema.Draft202012Validator(schema).is_valid(text),
        "llguidance": llguidance_takes(schema, written),
        "xgrammar": _is_grammar_accept_string(grammar, written),
        "outlines_core": bool(re.fullmatch(build_regex_from_schema(json.dumps(schema)), written)),
    }
    names = [name for name, taken in takes.items() if taken]
    print(f"{pattern:18} {text:20} is taken by {names}")
    return names


search = ["jsonschema", "llguidance"]
seen = [
    who("^https://", "https://example.org"),
    who("^https://", "https://"),
    who("[0-9]+$", "room 12"),
    who("[0-9]", "room 12"),
    who("^[0-9]{4}-[0-9]{2}$", "2026-05"),
]
if seen != [search, [*search, "xgrammar"], search, search, [*search, "xgrammar", "outlines_core"]]:
    sys.exit("the behaviour has changed: which texts a pattern holds")
PYTHON
