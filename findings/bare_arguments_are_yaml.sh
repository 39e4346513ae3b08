#!/usr/bin/env bash
# inspect reads arguments that are no JSON object as YAML: the time 12:30 becomes the number 750.
#
# Guess:  arguments of a call that are no JSON object are an error that the model is told; where a bare
#         value is taken for the tool's one required parameter, it is the text that the model wrote.
# Seen:   with inspect-ai 0.3.285 the text is read as YAML 1.1 and taken for the first parameter,
#         without a parse error: of a parameter of type string "12:30" becomes 750, "yes" becomes True,
#         "07" 7, "2026-05-01" a date, and no arguments at all become null. Text that begins with { is
#         read as JSON and refused if it is none. So a model is scored on values it never wrote, by a
#         call that other harnesses count as malformed.
#
# Needs pip and a network. Exits 1 if the behaviour is another one.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf -- "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet inspect-ai==0.3.285
"$folder/env/bin/python" - <<'PYTHON'
import importlib.metadata
import sys

from inspect_ai.model._call_tools import parse_tool_call
from inspect_ai.tool import ToolInfo, ToolParam, ToolParams

print("inspect-ai", importlib.metadata.version("inspect-ai"))
PARAMETERS = ToolParams(properties={"when": ToolParam(type="string")}, required=["when"])
TOOL = ToolInfo(name="remind", description="Reminds.", parameters=PARAMETERS)


def read(arguments):
    call = parse_tool_call("1", "remind", arguments, [TOOL])
    print(f"{arguments!r}: {call.arguments} {'refused' if call.parse_error else 'taken'}")
    return call.arguments.get("when"), bool(call.parse_error)


seen = [read(text) for text in ("12:30", "yes", "07", "", "noon")]
if seen != [(750, False), (True, False), (7, False), (None, False), ("noon", False)]:
    sys.exit("the behaviour has changed: how arguments that are no JSON are read")
if read("2026-05-01")[0] == "2026-05-01" or read('{"when": "12:30"')[1] is False:
    sys.exit("the behaviour has changed: what is a date, or what is refused")
PYTHON
