#!/usr/bin/env bash
# TRL's response templates do not read back the calls that the chat templates beside them write.
#
# Guess:  a call that a chat template shipped with TRL writes is parsed by the response template that
#         add_response_schema sets for it, as GRPO with tools needs; what cannot be read is an error.
# Seen:   with trl 1.16.0 and transformers 5.24.0 a bracket within a text ends the call for LFM2.5: of
#         'Oslo (Norway)' the tool gets "'Oslo (Norway", and an apostrophe cuts like that, too; a tool
#         named get-weather is no call at all for it, and for Gemma 4 an error of the parser, after
#         which GRPO takes the turn for plain text. Qwen3.5, GLM-4 and Nemotron lose spaces and line
#         ends round a text, so code loses its first indentation. Qwen3 and Llama 3.1 read all of them.
#         The reward then falls on another call than the one that was sampled.
#
# Needs pip and a network. Exits 1 if the behaviour is another one.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf -- "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet transformers==5.24.0 tokenizers==0.23.3 \
    datasets==5.2.0 pyarrow==26.0.1 jinja2==3.1.6 numpy==2.4.6
"$folder/env/bin/python" -m pip install --quiet --no-deps trl==1.16.0
HF_HUB_OFFLINE=1 "$folder/env/bin/python" - <<'PYTHON'
import importlib.metadata
import json
import sys

import tokenizers
from tokenizers import models
from transformers import PreTrainedTokenizerFast
from trl import chat_template_utils as trl

for name in ("trl", "transformers"):
    print(name, importlib.metadata.version(name))
TEMPLATES = {
    "Qwen3": trl.qwen3_chat_template,
    "Llama 3.1": trl.llama3_1_chat_template,
    "LFM2.5": trl.lfm2_2_5_chat_template,
    "Gemma 4": trl.gemma4_chat_template,
    "Qwen3.5": trl.qwen3_5_nothink_chat_template,
    "GLM-4": trl.glm4moe_chat_template,
}
TEXTS = {"type": "object", "properties": {"text": {"type": "string", "description": "A text."}}}


def read_back(family, name, text):
    """Return the calls that are read in what the template of a family writes for one call."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer(models.BPE()))
    tokenizer.chat_template = TEMPLATES[family]
    trl.add_response_schema(tokenizer)
    tools = [
        {"type": "function", "function": {"name": name, "description": "A.", "parameters": TEXTS}}
    ]
    asked = [{"role": "user", "content": "Do it."}]
    call = {"type": "function", "function": {"name": name, "arguments": {"text": text}}}
    answer = {"role": "assistant", "content": "", "tool_calls": [call]}
    write = lambda turns, prompt: tokenizer.apply_chat_template(  # noqa: E731
        turns, tools=tools, tokenize=False, add_generation_prompt=prompt
    )
    prompt, whole = write(asked, True), write([*asked, answer], False)
    if not whole.startswith(prompt):
        prompt = write(asked, False)
    try:
        message = tokenizer.parse_response(whole[len(prompt) :], prefix=prompt, tools=tools)
        found = [call["function"] for call in message.get("tool_calls", ())]
    except ValueError:
        found = "error"
    right = found == [call["function"]]
    shown = "right" if right else json.dumps(found)
    print(f"{family:10} {name:12} {text!r:16} {shown}")
    return "right" if right else found


def cut(name, text):
    return [{"name": name, "arguments": {"text": text}}]


seen = {
    (family, name, text): read_back(family, name, text)
    for name, text in (
        ("find", "Oslo"),
        ("find", "Oslo (Norway)"),
        ("find", "it's"),
        ("get-weather", "Oslo"),
        ("find", "  return 1\n"),
    )
    for family in TEMPLATES
}
wrong = {place: found for place, found in seen.items() if found != "right"}
expected = {
    ("LFM2.5", "find", "Oslo (Norway)"): cut("find", "'Oslo (Norway"),
    ("LFM2.5", "find", "it's"): cut("find", "it"),
    ("LFM2.5", "get-weather", "Oslo"): [],
    ("Gemma 4", "get-weather", "Oslo"): "error",
    ("Qwen3.5", "find", "  return 1\n"): cut("find", "return 1"),
    ("GLM-4", "find", "  return 1\n"): cut("find", "return 1"),
}
if wrong != expected:
    sys.exit("the behaviour has changed: which calls of its own templates TRL reads back")
PYTHON
