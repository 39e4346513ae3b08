#!/usr/bin/env bash
# The mask of assistant tokens lies on other text where a template writes its turns by a macro.
#
# Guess:  return_assistant_tokens_mask marks the tokens of what stands between {% generation %} and
#         {% endgeneration %}, wherever in the template that is; what cannot be tracked is an error.
# Seen:   with transformers 5.23.0 the place of such a block is counted from the text that was put out
#         before it. Inside a macro, a {% set %} block or a {% filter %} block nothing of the text that
#         the macro or block itself wrote before counts, so the mask keeps its length and begins where
#         the macro or block began: on the role, or on the prompt of the first turn. No warning; the
#         number of marked tokens is right, so a count does not show it.
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
from tokenizers import decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

for name in ("transformers", "jinja2"):
    print(name, importlib.metadata.version(name))
# One token for each byte, so that the marked tokens are read as text.
letters = sorted(pre_tokenizers.ByteLevel.alphabet())
core = tokenizers.Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
core.decoder = decoders.ByteLevel()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=core)

TURN = (
    "[{{ turn.role }}]{% if turn.role == 'assistant' %}"
    "{% generation %}{{ turn.content }}{% endgeneration %}{% else %}{{ turn.content }}{% endif %}"
)
TEMPLATES = {
    "a loop": "{% for turn in messages %}" + TURN + "{% endfor %}",
    "a macro": "{% macro write(turn) %}" + TURN + "{% endmacro %}"
    "{% for turn in messages %}{{ write(turn) }}{% endfor %}",
    "a set block": "{% for turn in messages %}{% set text %}" + TURN + "{% endset %}"
    "{{ text }}{% endfor %}",
    "a filter": "{% filter trim %}{% for turn in messages %}" + TURN + "{% endfor %}{% endfilter %}",
}
turns = [{"role": "user", "content": "Is it so?"}, {"role": "assistant", "content": "It is."}]
texts, seen = set(), {}
for name, template in TEMPLATES.items():
    read = tokenizer.apply_chat_template(
        turns, chat_template=template, return_dict=True, return_assistant_tokens_mask=True
    )
    marked = [i for i, one in zip(read["input_ids"], read["assistant_masks"], strict=True) if one]
    texts.add(tokenizer.decode(read["input_ids"]))
    seen[name] = tokenizer.decode(marked)
    print(f"{name}: marked {seen[name]!r}")
print("all write:", *texts)
moved = {"a loop": "It is.", "a macro": "[assis", "a set block": "[assis", "a filter": "[user]"}
if texts != {"[user]Is it so?[assistant]It is."} or seen != moved:
    sys.exit("the behaviour has changed: where the mask of a generation block lies")
PYTHON
