#!/usr/bin/env bash
# parse_response turns the text "01234" of a call into the number 1234 where either is allowed.
#
# Guess:  tools=... of parse_response is there for forms that write all values alike (as Qwen3-Coder's
#         XML); a value of a call in JSON has its type, so a text that the schema allows stays a text.
# Seen:   with transformers 5.24.0 every text of a parameter that is not declared as nothing but a string
#         is tried as each of the other types, JSON or not: for `int | str` "01234" becomes 1234, for
#         `str | None` the text "None" becomes null, for `list | str` "[1]" becomes a list; and a
#         wrong "7" or "1_000" for an integer becomes right. So right calls fail against their gold
#         calls, and wrong ones pass; calls that TRL's GRPO executes go through this.
#
# Needs pip and a network. Exits 1 if the behaviour is another one.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf -- "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet transformers==5.24.0 tokenizers==0.23.3 \
    jinja2==3.1.6 numpy==2.4.6 jsonschema==4.26.0
HF_HUB_OFFLINE=1 "$folder/env/bin/python" - <<'PYTHON'
import importlib.metadata
import json
import sys

import jsonschema
import tokenizers
from tokenizers import models
from transformers import PreTrainedTokenizerFast
from transformers.utils import get_json_schema

print("transformers", importlib.metadata.version("transformers"))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer(models.BPE()))
CALLS = {
    "open": "<tool_call>",
    "close": "</tool_call>",
    "repeats": True,
    "content": "json",
    "transform": {"type": "function", "function": "{content}"},
}
TEMPLATE = {"start_anchor": "<|im_start|>assistant\n", "fields": {"tool_calls": CALLS}}


def find(code: int | str, name: str | None, filters: list | str, count: int, text: str):
    """
    Finds an address.

    Args:
        code: Postal code.
        name: Name.
        filters: Filters.
        count: Most results.
        text: Text.
    """


written = {"code": "01234", "name": "None", "filters": "[1]", "count": "1_000", "text": "007"}
call = json.dumps({"name": "find", "arguments": written})
message = tokenizer.parse_response(
    f"<tool_call>{call}</tool_call>", TEMPLATE, prefix="<|im_start|>assistant\n", tools=[find]
)
read = message["tool_calls"][0]["function"]["arguments"]
declared = get_json_schema(find)["function"]["parameters"]["properties"]
for name, value in written.items():
    valid = jsonschema.Draft202012Validator(declared[name]).is_valid(value)
    print(f"{name}: {value!r} is {'valid' if valid else 'invalid'} and is parsed as {read[name]!r}")
if read != {"code": 1234, "name": None, "filters": [1], "count": 1000, "text": "007"}:
    sys.exit("the behaviour has changed: which texts of a call in JSON stay texts")
PYTHON
