#!/usr/bin/env bash
# An MCP server refuses a text for a parameter of type text or null if the text is JSON.
#
# Guess:  a call that is valid by the schema a server lists is carried out: a text for `str | None`
#         arrives as it is, as it does for `str`.
# Seen:   with mcp 2.3.0 a text for a parameter that is not exactly `str` is read as JSON first. For
#         `str | None` the text '{"level": 1}' becomes a dict and is refused as no string, and the text
#         'null' arrives as None; with `str` both arrive. So a tool's feedback says that a right call was
#         wrong, and which calls it hits depends on the values: '12' arrives, '[12]' does not.
#
# Needs pip and a network. Exits 1 if the behaviour is another one.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf -- "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet mcp==2.3.0 pydantic==2.14.4 jsonschema==4.26.0
"$folder/env/bin/python" - <<'PYTHON'
import asyncio
import importlib.metadata
import logging
import sys

import jsonschema
from mcp.server.mcpserver import MCPServer

logging.disable(logging.CRITICAL)
print("mcp", importlib.metadata.version("mcp"))
server, arrived = MCPServer("notes"), []


@server.tool()
def plain(note: str) -> str:
    """Keeps a note."""
    arrived.append(note)
    return "kept"


@server.tool()
def optional(note: str | None = None) -> str:
    """Keeps a note, if there is one."""
    arrived.append(note)
    return "kept"


async def call(tool, text):
    arrived.clear()
    listed = {entry.name: entry.input_schema for entry in await server.list_tools()}
    jsonschema.validate({"note": text}, listed[tool])
    try:
        await server.call_tool(tool, {"note": text})
    except Exception as error:
        return "refused: " + str(error).splitlines()[2].strip()[:30]
    return arrived[0]


seen = {}
for text in ('{"level": 1}', "[12]", "12", "null", "a note"):
    seen[text] = asyncio.run(call("plain", text)), asyncio.run(call("optional", text))
    print(f"{text!r}: for str {seen[text][0]!r}, for str | None {seen[text][1]!r}")
refused = "refused: Input should be a valid string"
if seen != {
    '{"level": 1}': ('{"level": 1}', refused),
    "[12]": ("[12]", refused),
    "12": ("12", "12"),
    "null": ("null", None),
    "a note": ("a note", "a note"),
}:
    sys.exit("the behaviour has changed: which texts reach a tool of an MCP server")
PYTHON
