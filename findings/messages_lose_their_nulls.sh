#!/usr/bin/env bash
# apply_chat_template takes the keys that are null out of messages before a template sees them.
#
# Guess:  "content": null of a message that only calls stays: a template's `is none` is true, and
#         `is not none` false, as with jinja2 alone, by which engines without transformers write.
# Seen:   with transformers 5.23.0 the key is gone, and an undefined name is no none: a template that
#         asks `is not none` takes the branch of a message with content, one that asks `is none` no
#         longer finds the calls. jinja2 alone takes the other branch, so the same messages give
#         another prompt there. Nulls within a call's arguments and within tools stay nulls.
#
# Needs pip and a network. Exits 1 if the behaviour is another one.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf -- "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet transformers==5.23.0 tokenizers==0.23.3 \
    jinja2==3.1.6 numpy==2.4.6
"$folder/env/bin/python" - <<'PYTHON'
import importlib.metadata
import sys

import jinja2
import tokenizers
from tokenizers import models
from transformers import PreTrainedTokenizerFast

for name in ("transformers", "jinja2"):
    print(name, importlib.metadata.version(name))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer(models.BPE()))
call = {"type": "function", "function": {"name": "look", "arguments": {"day": None}}}
turns = [{"role": "assistant", "content": None, "tool_calls": [call]}]
TEMPLATES = {
    "is none": "{% if messages[0].content is none %}calls{% else %}answers{% endif %}",
    "is not none": "{% if messages[0].content is not none %}answers{% else %}calls{% endif %}",
    "arguments": "{{ messages[0].tool_calls[0].function.arguments }}",
}
seen = {}
for name, template in TEMPLATES.items():
    text = tokenizer.apply_chat_template(turns, chat_template=template, tokenize=False)
    seen[name] = text, jinja2.Template(template).render(messages=turns)
    print(f"{name}: transformers {seen[name][0]!r}, jinja2 alone {seen[name][1]!r}")
if seen != {
    "is none": ("answers", "calls"),
    "is not none": ("answers", "calls"),
    "arguments": ("{'day': None}", "{'day': None}"),
}:
    sys.exit("the behaviour has changed: what of nulls a chat template sees")
PYTHON
