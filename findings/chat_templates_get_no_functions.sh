#!/usr/bin/env bash
# A function given to apply_chat_template as a variable of the template arrives there as a text.
#
# Guess:  further keyword arguments of apply_chat_template are the template's variables as they are,
#         so strftime_now=... gives a template that asks for the date a day of one's choice, and any
#         other function can be called by name.
# Seen:   with transformers 5.23.0 numbers, texts and lists arrive as they are, but in place of a
#         function stands a text such as "<function>"; a template that calls strftime_now then fails
#         with a TypeError ('str' object is not callable), although without the argument it works. A
#         date can be fixed in the template's own text only.
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

import tokenizers
from tokenizers import models
from transformers import PreTrainedTokenizerFast

for name in ("transformers", "jinja2"):
    print(name, importlib.metadata.version(name))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer(models.BPE()))


def write(template, **variables):
    turns = [{"role": "user", "content": "What day is it?"}]
    return tokenizer.apply_chat_template(
        turns, chat_template=template, tokenize=False, **variables
    )


print("own function:", own := write("{{ strftime_now('%Y') }}"))
print("a number and a list:", plain := write("{{ a + 1 }} {{ b[1] }}", a=1, b=["x", "y"]))
print("a function:", shown := write("{{ day is string }} {{ day }}", day=lambda: "Monday"))
try:
    called = write("{{ strftime_now('%Y') }}", strftime_now=lambda form: "1999")
except TypeError as error:
    called = f"TypeError: {error}"
print("a function in place of the own one:", called)
as_seen = shown.startswith("True ") and called == "TypeError: 'str' object is not callable"
if not (own.isdigit() and plain == "2 y" and as_seen):
    sys.exit("the behaviour has changed: how functions reach a chat template")
PYTHON
