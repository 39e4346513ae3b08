#!/usr/bin/env bash
# convert_to_openai_messages leaves out the calls whose arguments are no JSON.
#
# Guess:  a dialogue of langchain in OpenAI's form has every call of the model: one with broken
#         arguments, too, as it was written, since "arguments" is a text there, and the tool's answer
#         names its id.
# Seen:   with langchain-core 1.8.3 calls in invalid_tool_calls are gone, without a warning, and the
#         tool's answer to them stays, with an id that no call has: APIs refuse such a dialogue, and as
#         training data it is an answer out of nothing behind a turn that says nothing. What langchain
#         sends to OpenAI itself has the call.
#
# Needs pip and a network. Exits 1 if the behaviour is another one.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf -- "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet langchain-core==1.8.3 pydantic==2.14.4
"$folder/env/bin/python" - <<'PYTHON'
import importlib.metadata
import json
import sys

from langchain_core.messages import (
    AIMessage,
    HumanMessage,
    ToolMessage,
    convert_to_openai_messages,
)

print("langchain-core", importlib.metadata.version("langchain-core"))
wrong = {"name": "find", "args": '{"city": "Oslo"', "id": "1", "error": "no JSON"}
dialogue = [
    HumanMessage("Find Oslo."),
    AIMessage("", invalid_tool_calls=[{**wrong, "type": "invalid_tool_call"}]),
    ToolMessage("error: the arguments are no JSON", tool_call_id="1", status="error"),
    AIMessage("", tool_calls=[{"name": "find", "args": {"city": "Oslo"}, "id": "2"}]),
    ToolMessage("found", tool_call_id="2"),
]
messages = convert_to_openai_messages(dialogue)
for message in messages:
    print(json.dumps(message))
calls = [call["id"] for message in messages for call in message.get("tool_calls", ())]
answers = [message["tool_call_id"] for message in messages if message["role"] == "tool"]
if (calls, answers) != (["2"], ["1", "2"]) or messages[1] != {"role": "assistant", "content": ""}:
    sys.exit("the behaviour has changed: what becomes of invalid_tool_calls")
PYTHON
