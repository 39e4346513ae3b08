#!/usr/bin/env bash
# continue_final_message leaves the calls of the message to continue out of the prompt.
#
# Guess:  with continue_final_message a prompt ends within the last message, after all that was given
#         of it; a message with content and tool_calls ends after its calls, or is refused.
# Seen:   with transformers 5.23.0 the prompt ends after the content, and the calls that the template
#         writes behind it are cut off without a warning, also where the content is the empty text
#         of a message that only calls. So the model goes on from a turn that has called nothing yet.
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
CALLS = "{% for call in turn.tool_calls or [] %}<call>{{ call.function | tojson }}</call>{% endfor %}"
TEMPLATE = (
    "{% for turn in messages %}[{{ turn.role }}]{{ turn.content }}" + CALLS + "{% endfor %}"
)
START = "[user]Is there room?[assistant]"
call = {"type": "function", "function": {"name": "look", "arguments": {"day": 1}}}


def write(content, **how):
    turns = [
        {"role": "user", "content": "Is there room?"},
        {"role": "assistant", "content": content, "tool_calls": [call]},
    ]
    return tokenizer.apply_chat_template(turns, chat_template=TEMPLATE, tokenize=False, **how)


seen = {}
for content in ("I look.", ""):
    whole, seen[content] = write(content), write(content, continue_final_message=True)
    print(f"content {content!r}: whole ends {whole[len(START) :]!r}, continued {seen[content][len(START) :]!r}")
    if '"name": "look"' not in whole:
        sys.exit("the behaviour has changed: the template does not write the call")
if seen != {"I look.": START + "I look.", "": START}:
    sys.exit("the behaviour has changed: what of a message is continued")
PYTHON
