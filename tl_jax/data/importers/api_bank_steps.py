"""Import the level-3 training rows of API-Bank: one step each, with the steps before it.

A row is ``{"instruction", "input", "output"}``, all text. The input has the declaration of
``ToolSearcher``, the request, and a line ``API-Request: [Name(key='value')]->result`` for every
earlier call; the output is the next ``API-Request`` or ``AI: reply``. The tools are those declared,
and those that ``ToolSearcher`` found before; the fixed instruction is left out, because it asks for
another call form.

In one call of ten the values have no quotes; there a value is the text up to the next ``, name=``.

The earlier steps are the targets of rows of their own, so only the last turn is the target of a
row: the tag ``target`` says ``last``. All rows of one request have one ``task``.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tl_jax.calls.call import ToolSpec
from tl_jax.calls.parse import CallSyntaxError, parse_calls
from tl_jax.data.importers.assistant import assistant_calls, unparsable_turn
from tl_jax.data.importers.json_text import load_json, load_loose_json
from tl_jax.data.importers.schemas import normalised_tools, repair_tags
from tl_jax.data.trajectory import Message, Trajectory
from tl_jax.errors import RowError

NAME = "api_bank_lv3"

_STEP = "API-Request: "
_PART = re.compile(r"^(User: |API-Request: |AI: |Generate |\{)", re.MULTILINE)
_BARE = re.compile(r"\[?(\w+)\(([^'\"]*)\)\]?")
_NAME = re.compile(r"(?:^|, *)(\w+)=")
_DECLARES = {"input_parameters", "output_parameters"}
_TYPE = re.compile(r"'type': (\w+)\b")
_OUTLINE = re.compile(
    r"\[?\{'name': '([\w.-]+)'.*?'input_parameters': (.*?)(?:'output_parameters'|$)", re.DOTALL
)
_FIELD = re.compile(r"'(\w+)': \{'type': '([^']*)'")
_ANSWERED = re.compile(r"(.*?\)\]?)->(.*)", re.DOTALL)


def recognise(row: Any) -> str:
    """Return why ``row`` looks like this format, or an empty string."""
    if isinstance(row, Mapping) and {"instruction", "input", "output"} <= row.keys():
        if str(row["input"]).startswith('{"apiCode"') and _STEP.strip() in str(row["instruction"]):
            return "instruction, input with apiCode, and output"
    return ""


def trajectory(row: Mapping[str, Any], *, source: str, line: int) -> Trajectory:
    """Convert one row.

    Raises:
      RowError: A text is missing, there is no request, or a declaration cannot be read.
    """
    text, output = row.get("input"), row.get("output")
    if not isinstance(text, str) or not isinstance(output, str) or not output.strip():
        raise RowError("'input' and 'output' must be texts")
    declared: list[Mapping[str, Any]] = []
    messages: list[Message] = []
    for part in _parts(text):
        if part.startswith("{"):
            declared.append(load_json(part, "a tool"))
        elif part.startswith("User: "):
            messages.append(Message("user", part.removeprefix("User: ").strip()))
        elif not part.startswith("Generate "):
            messages += _step(part)
    if not messages or messages[0].role != "user":
        raise RowError("no line of the user before the steps")
    declared += [tool for message in messages if message.role == "tool" for tool in _found(message)]
    repairs: Counter[str] = Counter()
    request = hashlib.sha256(messages[0].content.encode()).hexdigest()[:16]
    return Trajectory(
        id=f"{source}:{line}",
        tools=_tools(declared, repairs),
        messages=(*messages, *_step(output)),
        source=source,
        line=line,
        tags={"task": f"api_bank_lv3/{request}", "target": "last", **repair_tags(repairs)},
    )


def _parts(text: str) -> list[str]:
    """Split at the lines that begin with a known mark; other lines belong to the part before."""
    starts = [match.start() for match in _PART.finditer(text)]
    if not starts or starts[0] != 0:
        raise RowError("the input does not begin with a tool or the user's request")
    return [text[a:b].strip() for a, b in zip(starts, [*starts[1:], len(text)], strict=True)]


def _step(text: str) -> list[Message]:
    """Return the turn of one line, and the result after the arrow, if there is one."""
    text = text.strip()
    if not text.startswith(_STEP):
        return [Message("assistant", text.removeprefix("AI:").strip())]
    written = text.removeprefix(_STEP)
    answered = _ANSWERED.fullmatch(written)
    call, results = (answered[1], [answered[2]]) if answered else (written, [])
    return [_turn(call), *(Message("tool", result) for result in results)]


def _turn(text: str) -> Message:
    try:
        return Message("assistant", "", parse_calls(text))
    except CallSyntaxError:
        bare = _BARE.fullmatch(text.strip())
    if bare is None:
        return unparsable_turn(text)
    starts = list(_NAME.finditer(bare[2]))
    if not starts or starts[0].start() > 0:
        return unparsable_turn(text)
    ends = [*(match.start() for match in starts[1:]), len(bare[2])]
    values = {m[1]: bare[2][m.end() : end].strip() for m, end in zip(starts, ends, strict=True)}
    if len(values) != len(starts) or not all(values.values()):
        return unparsable_turn(text)
    return assistant_calls("", [(bare[1], {name: _value(v) for name, v in values.items()})])


def _value(text: str) -> Any:
    try:
        return load_loose_json(text, "a value")
    except RowError:
        return text


def _found(message: Message) -> Sequence[Mapping[str, Any]]:
    """Return the declarations in the result of a search."""
    text = _TYPE.sub(r"'type': '\1'", message.content)
    try:
        value = load_loose_json(text, "a result")
    except RowError:
        return _outlined(text)
    entries = value if isinstance(value, list) else [value]
    return [e for e in entries if isinstance(e, Mapping) and _DECLARES & e.keys()]


def _outlined(text: str) -> Sequence[Mapping[str, Any]]:
    """Return the names of a declaration that is no literal: with an apostrophe, or cut off."""
    outline = _OUTLINE.match(text)
    if outline is None:
        return []
    fields = {name: {"type": kind} for name, kind in _FIELD.findall(outline[2])}
    return [{"name": outline[1], "input_parameters": fields}]


def _tools(declared: Sequence[Mapping[str, Any]], repairs: Counter[str]) -> tuple[ToolSpec, ...]:
    functions = []
    for tool in declared:
        properties = tool.get("parameters", tool.get("input_parameters")) or {}
        functions.append(
            {
                "name": tool.get("apiCode", tool.get("name")),
                "description": tool.get("description"),
                "parameters": {"properties": properties, "required": list(properties)},
            }
        )
    return normalised_tools(functions, repairs)
