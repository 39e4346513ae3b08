#!/usr/bin/env bash
# parse_response keeps of an answer only what stands behind the last call.
#
# Guess:  a reply that speaks, calls and speaks again has both texts in its parsed "content", joined,
#         or is refused; the field "repeats" of a response template is there for lists of calls.
# Seen:   with transformers 5.24.0 every new piece of a field that does not repeat takes the place of
#         the piece before, without a word: of "Let me look. <call> One moment." there is "One moment.",
#         and of two thoughts the second. A reward that reads the content, and the next prompt that is
#         written from the message, do not have what the model wrote first. "repeats" with "join" in
#         the response template keeps both, but the templates that TRL 1.16.0 gives Qwen, Gemma, Llama
#         and GLM models have neither.
#
# Needs pip and a network. Exits 1 if the behaviour is another one.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf -- "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet transformers==5.24.0 tokenizers==0.23.3 \
    jinja2==3.1.6 numpy==2.4.6
HF_HUB_OFFLINE=1 "$folder/env/bin/python" - <<'PYTHON'
import importlib.metadata
import sys

import tokenizers
from tokenizers import models
from transformers import PreTrainedTokenizerFast

print("transformers", importlib.metadata.version("transformers"))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer(models.BPE()))
THOUGHT = {"open": "<think>", "close_pattern": r"</think>\s*", "content": "text"}
CALLS = {
    "open": "<tool_call>",
    "close_pattern": r"</tool_call>\s*",
    "repeats": True,
    "content": "json",
    "transform": {"type": "function", "function": "{content}"},
}
CONTENT = {"close_pattern": r"<\|im_end\|>\s*", "content": "text"}
REPLY = """<think>First thought.</think>
Let me look.
<tool_call>
{"name": "get_weather", "arguments": {"city": "Oslo"}}
</tool_call>
<think>Second thought.</think>
One moment.<|im_end|>"""


def parsed(content):
    fields = {"reasoning_content": THOUGHT, "tool_calls": CALLS, "content": content}
    template = {
        "defaults": {"role": "assistant"},
        "start_anchor": "<|im_start|>assistant\n",
        "fields": fields,
    }
    return tokenizer.parse_response(REPLY, template, prefix="<|im_start|>assistant\n")


plain = parsed(CONTENT)
joined = parsed({**CONTENT, "repeats": True, "join": " "})
print("plain: ", plain["content"], "|", plain["reasoning_content"], "|", len(plain["tool_calls"]))
print("joined:", joined["content"])
if (plain["content"], plain["reasoning_content"]) != ("One moment.", "Second thought."):
    sys.exit("the behaviour has changed: what parse_response keeps of an answer in pieces")
if joined["content"] != "Let me look. One moment.":
    sys.exit("the behaviour has changed: what join does")
PYTHON
