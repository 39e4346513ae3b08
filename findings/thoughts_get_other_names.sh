#!/usr/bin/env bash
# apply_chat_template gives the thoughts of a message the names that other templates read.
#
# Guess:  a template sees the keys of a message as they are: one that reads message.thinking finds
#         nothing where the data say reasoning_content.
# Seen:   with transformers 5.23.0 a thought under reasoning_content, thinking or reasoning stands
#         under the first two names (thinking kept where it is there already), so a template that
#         reads either shows it, whatever the data call it. But one that reads reasoning finds it
#         only where the data say reasoning, and jinja2 alone, as engines use it, renames nothing:
#         the same messages give another prompt there.
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
NAMES = ("reasoning_content", "thinking", "reasoning")
template = "".join("{%% if messages[1].%s %%} %s{%% endif %%}" % (name, name) for name in NAMES)
seen, plain = {}, {}
for name in NAMES:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", name: "t"}]
    text = tokenizer.apply_chat_template(turns, chat_template=template, tokenize=False)
    seen[name] = text.split()
    plain[name] = jinja2.Template(template).render(messages=turns).split()
    print(f"data say {name}: templates see {seen[name]}, with jinja2 alone {plain[name]}")
as_seen = {
    "reasoning_content": ["reasoning_content", "thinking"],
    "thinking": ["reasoning_content", "thinking"],
    "reasoning": ["reasoning_content", "thinking", "reasoning"],
}
if seen != as_seen or plain != {name: [name] for name in NAMES}:
    sys.exit("the behaviour has changed: under which names a template finds a thought")
PYTHON
