#!/usr/bin/env bash
# A date in a call's arguments, read by datasets and written by a chat template, is "<datetime>".
#
# Guess:  load_dataset("json") keeps a text of the file a text, and a template writes it again as it
#         stood; a value that JSON has no form for is a TypeError of the template's tojson.
# Seen:   with datasets 5.2.0 texts that all look like dates are read as pyarrow documents: as timestamps,
#         at any depth, so the arguments of a call hold a datetime. apply_chat_template of transformers
#         5.23.0 puts the name of the type in the place of any value that is not plain JSON, without a
#         warning: the model is trained to call with "<datetime>". One value among them that is no
#         date keeps all of them texts. "2026-05-01" and a time with a zone lose their spelling, too.
#
# Needs pip and a network. Exits 1 if the behaviour is another one.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf -- "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet datasets==5.2.0 pyarrow==26.0.1 \
    transformers==5.23.0 tokenizers==0.23.3 jinja2==3.1.6 numpy==2.4.6
HF_HOME="$folder/home" HF_HUB_OFFLINE=1 "$folder/env/bin/python" - "$folder" <<'PYTHON'
import importlib.metadata
import json
import pathlib
import sys

import datasets
import tokenizers
from tokenizers import models
from transformers import PreTrainedTokenizerFast

for name in ("datasets", "pyarrow", "transformers"):
    print(name, importlib.metadata.version(name))
datasets.disable_progress_bars()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer(models.BPE()))
TEMPLATE = "{% for turn in messages %}{{ turn.tool_calls[0].function | tojson }}{% endfor %}"


def write(name, days):
    file = pathlib.Path(sys.argv[1]) / f"{name}.jsonl"
    with file.open("w") as lines:
        for day in days:
            call = {"type": "function", "function": {"name": "book", "arguments": {"day": day}}}
            turns = [{"role": "assistant", "tool_calls": [call]}]
            lines.write(json.dumps({"messages": turns}) + "\n")
    read = datasets.load_dataset("json", data_files=str(file), split="train")
    texts = [
        tokenizer.apply_chat_template(row["messages"], chat_template=TEMPLATE, tokenize=False)
        for row in read
    ]
    values = [json.loads(text)["arguments"]["day"] for text in texts]
    print(f"{name}: the file says {days}, the prompts {values}")
    return values


dates = write("dates", ["2026-05-01", "2026-05-02"])
times = write("times", ["2026-05-01T10:00:00Z", "2026-05-02 11:00"])
mixed = write("mixed", ["2026-05-01", "tomorrow"])
if dates != ["<datetime>"] * 2 or times != ["<datetime>"] * 2 or mixed != ["2026-05-01", "tomorrow"]:
    sys.exit("the behaviour has changed: how dates of a JSON file reach a chat template")
PYTHON
