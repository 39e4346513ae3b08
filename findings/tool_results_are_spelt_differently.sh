#!/usr/bin/env bash
# What a tool returns reaches the model as JSON, as Python or not at all, by the library that runs it.
#
# Guess:  {"open": True, "left": None} of a tool written in Python is {"open": true, "left": null} in the
#         prompt, whichever library runs the tool, as results are in data sets; and no hits are [].
# Seen:   pydantic-ai-slim 2.68.0 and langchain-core 1.8.3 write JSON. openai-agents 0.24.0 writes
#         str(), so that the model reads {'open': True, 'left': None} (as TRL's GRPO does when it
#         trains with tools). An empty list is "[]" for openai-agents, an empty text for pydantic-ai, an
#         empty list of content for langchain, and for mcp 2.1.1 a result without any content: a
#         model cannot tell no hits from no answer. Tools that return a text of JSON reach it alike.
#
# Needs pip and a network. Exits 1 if the behaviour is another one.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf -- "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet openai-agents==0.24.0 pydantic-ai-slim==2.68.0 \
    langchain-core==1.8.3 mcp==2.1.1
"$folder/env/bin/python" - <<'PYTHON'
import asyncio
import importlib.metadata
import sys

from agents.items import ItemHelpers
from langchain_core.tools import tool
from mcp.server import MCPServer
from openai.types.responses import ResponseFunctionToolCall
from pydantic_ai.messages import ToolReturnPart

for name in ("openai-agents", "pydantic-ai-slim", "langchain-core", "mcp"):
    print(name, importlib.metadata.version(name))
call = ResponseFunctionToolCall(arguments="{}", call_id="1", name="find", type="function_call")
server = MCPServer("server")


def show(name, value):
    def find():
        return value

    run = tool(find.__name__, description="Finds.")(find)
    server.add_tool(find, name=name)
    content = asyncio.run(server.call_tool(name, {})).content
    written = {
        "openai-agents": ItemHelpers.tool_call_output_item(call, value)["output"],
        "pydantic-ai": ToolReturnPart("find", value, tool_call_id="1").model_response_str(),
        "langchain": run.invoke({"name": "find", "args": {}, "id": "1", "type": "tool_call"}).content,
        "mcp": [part.text for part in content],
    }
    for library, text in written.items():
        print(f"{name:6} {library:14} {text!r}")
    return list(written.values())


record = show("record", {"open": True, "left": None})
nothing = show("empty", [])
if record != [
    "{'open': True, 'left': None}",
    '{"open":true,"left":null}',
    '{"open": true, "left": null}',
    ['{\n  "open": true,\n  "left": null\n}'],
]:
    sys.exit("the behaviour has changed: how a tool's result is written")
if nothing != ["[]", "", [], []]:
    sys.exit("the behaviour has changed: how an empty result is written")
PYTHON
