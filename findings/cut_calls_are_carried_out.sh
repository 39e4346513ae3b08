#!/usr/bin/env bash
# A call that was cut off at the limit of tokens is a valid call in a stream of langchain.
#
# Guess:  a reply that ends within a call's arguments has it in invalid_tool_calls, streamed or not, as
#         langchain does with broken JSON: there is no object to call the tool with.
# Seen:   with langchain-core 1.8.3 the arguments of streamed chunks are completed: '{"city": "San Fr'
#         becomes {"city": "San Fr"}, '{"ids": [10, 20, 3' becomes {"ids": [10, 20, 3]}, in tool_calls
#         of the sum of all chunks, and of the message made of it at the end, too. Only finish_reason
#         tells. The same reply in one piece is an invalid call. So an agent that streams carries out
#         what was never said, and logs of it hold right calls where the model made none.
#
# Needs pip and a network. Exits 1 if the behaviour is another one.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf -- "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet langchain-core==1.8.3 pydantic==2.14.4
"$folder/env/bin/python" - <<'PYTHON'
import importlib.metadata
import sys

from langchain_core.messages import AIMessageChunk, message_chunk_to_message
from langchain_core.output_parsers.openai_tools import make_invalid_tool_call, parse_tool_call

print("langchain-core", importlib.metadata.version("langchain-core"))


def streamed(arguments):
    """Return the calls of a stream of one character a chunk that ends by length."""
    total = AIMessageChunk(
        content="", tool_call_chunks=[{"name": "find", "args": "", "id": "1", "index": 0}]
    )
    for character in arguments:
        part = {"name": None, "args": character, "id": None, "index": 0}
        total += AIMessageChunk(content="", tool_call_chunks=[part])
    total += AIMessageChunk(content="", response_metadata={"finish_reason": "length"})
    message = message_chunk_to_message(total)
    print(f"streamed  {arguments!r}: {[call['args'] for call in message.tool_calls]}")
    return [call["args"] for call in message.tool_calls], message.invalid_tool_calls


def whole(arguments):
    """Return whether the same call in one piece is read, as chat models do."""
    raw = {"id": "1", "function": {"name": "find", "arguments": arguments}}
    try:
        parse_tool_call(raw)
    except Exception as error:
        invalid = make_invalid_tool_call(raw, str(error))
        print(f"one piece {arguments!r}: invalid, {invalid['args']!r}")
        return False
    return True


TEXT, LIST = '{"city": "San Fr', '{"ids": [10, 20, 3'
seen = [streamed(TEXT), streamed(LIST)]
if seen != [([{"city": "San Fr"}], []), ([{"ids": [10, 20, 3]}], [])]:
    sys.exit("the behaviour has changed: what becomes of a streamed call that was cut off")
if whole(TEXT) or whole(LIST):
    sys.exit("the behaviour has changed: what becomes of a cut call in one piece")
PYTHON
