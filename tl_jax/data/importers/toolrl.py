"""Import the warm-up rows of ToolRL: one decision each, with the dialogue before it.

A row is ``{"instruction", "input", "output"}``, all text. The instruction lists the tools, the
input is a dialogue of ``<user>``, ``<think>``, ``<tool_call>``, ``<obs>`` and ``<response>``, the
output is the decision: a thought and then calls, one JSON object a line, or a reply. The rest of
the instruction is left out, because it asks for another call form.

The turns of the dialogue have stand-ins for thoughts, so only the last turn is the target of a row:
the tag ``target`` says ``last``. The thought before a call is kept with it; that before a reply is
left out, since a reply is what the user reads. ``<obs>`` holds a list with one result for each call
of the turn before. An empty ``default`` means that there is none.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from tl_jax.calls.call import ToolSpec
from tl_jax.data.importers.assistant import assistant_calls, unparsable_turn
from tl_jax.data.importers.json_text import load_json
from tl_jax.data.importers.schemas import normalised_tools, repair_tags
from tl_jax.data.trajectory import Message, Trajectory
from tl_jax.errors import RowError

NAME = "toolrl"

_TOOLS = "**Available Tools**"
_HISTORY = "**Dialogue Records History**"
_TOOL = re.compile(r"^[0-9]{1,6}+\. Name: (.*)$", re.MULTILINE)
_DESCRIPTION, _PARAMETERS = "\nDescription:", "\nParameters: "
_BLOCK = re.compile(r"^<(user|think|tool_call|obs|response)>", re.MULTILINE)


def recognise(row: Any) -> str:
    """Return why ``row`` looks like this format, or an empty string."""
    if isinstance(row, Mapping) and {"instruction", "input", "output"} <= row.keys():
        if _TOOLS in str(row["instruction"]) and _HISTORY in str(row["input"]):
            return "instruction with Available Tools, input with Dialogue Records History"
    return ""


def trajectory(row: Mapping[str, Any], *, source: str, line: int) -> Trajectory:
    """Convert one row.

    Raises:
      RowError: A text is missing, or not made of the known blocks.
    """
    texts = [row.get(key) for key in ("instruction", "input", "output")]
    known = [text for text in texts if isinstance(text, str)]
    if len(known) < len(texts):
        raise RowError("'instruction', 'input' and 'output' must be texts")
    instruction, history, output = known
    repairs: Counter[str] = Counter()
    before, after = tuple(_messages(history.partition(_HISTORY)[2])), tuple(_messages(output))
    if not before or len(after) != 1 or after[0].role != "assistant":
        raise RowError("expected a dialogue in 'input' and one turn of the assistant in 'output'")
    return Trajectory(
        id=f"{source}:{line}",
        tools=_tools(instruction, repairs),
        messages=(*before, *after),
        source=source,
        line=line,
        tags={"target": "last", **repair_tags(repairs)},
    )


def _messages(text: str) -> Iterator[Message]:
    thoughts, calls = "", 0
    turn: list[Message] = []
    for kind, body in _blocks(text):
        if kind == "think":
            yield from turn
            turn, thoughts = [], body
        elif kind == "tool_call":
            turn = [dataclasses.replace(_called(body), thoughts=thoughts)]
            calls, thoughts = len(turn[0].calls), ""
        elif kind == "response" and turn:
            # Both a call and a reply: what is said with a call stands before it.
            said = "\n".join(part for part in (turn[0].content, body) if part)
            turn = [dataclasses.replace(turn[0], content=said)]
        elif kind == "response":
            turn = [Message("assistant", body, thoughts=thoughts)]
            thoughts = ""
        else:
            yield from turn
            turn = []
            if kind == "obs":
                yield from (Message("tool", result) for result in _results(body, calls))
            else:
                yield Message("user", body)
    yield from turn


def _blocks(text: str) -> Iterator[tuple[str, str]]:
    found = list(_BLOCK.finditer(text))
    starts = [*(block.start() for block in found), len(text)]
    if text[: starts[0]].strip():
        raise RowError("a text that does not begin with a block such as <user> or <think>")
    for block, end in zip(found, starts[1:], strict=True):
        kind, body = block[1], text[block.end() : end].strip()
        if not body.endswith(f"</{kind}>"):
            raise RowError(f"a <{kind}> block that is not closed")
        yield kind, body.removesuffix(f"</{kind}>").strip()


def _called(body: str) -> Message:
    try:
        calls = [load_json(line, "a call") for line in body.split("\n") if line.strip()]
        pairs = [(call["name"], call["parameters"]) for call in calls]
    except (RowError, KeyError, TypeError):
        return unparsable_turn(body)
    return assistant_calls("", pairs) if pairs else unparsable_turn(body)


def _results(body: str, calls: int) -> list[str]:
    try:
        results = load_json(body, "results")
    except RowError:
        return [body]
    if not isinstance(results, list) or len(results) != calls:
        return [body]
    return [json.dumps(result, ensure_ascii=False) for result in results]


def _tools(instruction: str, repairs: Counter[str]) -> tuple[ToolSpec, ...]:
    functions = []
    _, *pieces = _TOOL.split(instruction.partition(_TOOLS)[2])
    for name, text in zip(pieces[::2], pieces[1::2], strict=True):
        description, found, rest = text.partition(_PARAMETERS)
        if not found or not description.startswith(_DESCRIPTION):
            raise RowError(f"the tool {name} has no description or no parameters")
        schema = load_json(rest.partition("\n")[0], f"the parameters of {name}")
        if not isinstance(schema, Mapping):
            raise RowError(f"the parameters of {name} are no object")
        properties = {name: _without_default(value) for name, value in schema.items()}
        functions.append(
            {
                "name": name,
                "description": description.removeprefix(_DESCRIPTION).strip(),
                "parameters": {"type": "object", "properties": properties},
            }
        )
    if not functions:
        raise RowError("no tools in the instruction")
    return normalised_tools(functions, repairs)


def _without_default(schema: Any) -> Any:
    if not isinstance(schema, Mapping) or schema.get("default") != "":
        return schema
    return {key: value for key, value in schema.items() if key != "default"}
