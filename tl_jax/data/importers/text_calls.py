"""Find tools, calls and answers that a source writes into the texts of its messages.

Hermes, ``<tools>``, ``<tool_call>{json}</tool_call>`` and ``<tool_response>``; ToolACE, a JSON tool
list in the system text and ``[name(a=1), other(b='x')]`` as a whole turn; the call styles of
models; and what ``written_calls`` reads. The system text that holds the tools is left out: it asks
for the form of calls it shows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tl_jax.calls.call import ToolSpec
from tl_jax.calls.parse import CallSyntaxError, parse_call, parse_calls
from tl_jax.calls.styles import STYLES
from tl_jax.data.importers.answers import Turn, said_name
from tl_jax.data.importers.assistant import assistant_calls, unparsable_turn
from tl_jax.data.importers.json_text import load_json_at, load_loose_json
from tl_jax.data.importers.names import writable_name
from tl_jax.data.importers.reading import TextReader
from tl_jax.data.importers.written_calls import declares, shaped_call, written_calls
from tl_jax.data.trajectory import Message
from tl_jax.errors import RowError

_END_OF_CALL = "</tool_call>"
_ANSWER, _END_OF_ANSWER = "<tool_response>", "</tool_response>"
_NAME = re.compile(r"\s*+([^\[\](){}=,\"']{1,200})\(")
# A quote that is not closed goes on to the end.
_TOKEN = re.compile(
    r"'(?:[^'\\]|\\.)*+(?:'|\\?\Z)|\"(?:[^\"\\]|\\.)*+(?:\"|\\?\Z)|[()\[\]{}]", re.DOTALL
)
# Prose may name the mark; before a call stands nothing but blanks.
_OPENED = re.compile(r"<tool_call>(?=\s*+[{\[])")
_ALONE = re.compile(r"^[ \t]*+<tool_call>", re.MULTILINE)
_GLAIVE = "<functioncall>"
_BARE = ("llama_json", "json")
"""Styles whose calls are JSON and nothing else."""
_WITH_MARKS = tuple(name for name, style in STYLES.items() if style.mark and name not in _BARE)
_MARKED = re.compile("|".join(sorted({re.escape(STYLES[name].mark) for name in _WITH_MARKS})))
_LAST_TOKEN = re.compile(
    r"(?:<\|(?:im_end|eot_id|eom_id|endoftext|end_of_text|eot|call|return|end)\|>|</s>|<end_of_turn>"
    r"|<｜end▁of▁sentence｜>)\s*\Z"
)
_CODE = re.compile(r"^[ \t]*```", re.MULTILINE)
_OF_TOOLS = frozenset(("description", "parameters", "input_schema", "inputSchema"))
_BLOCKS = (
    "tools", "functions", "available_tools", "AVAILABLE_TOOLS", "available_functions", "tool_list",
    "function_list", "tool_definitions",
)  # fmt: skip
# What Kimi's template writes of tools, and nothing else.
_WHOLE = re.compile(
    r"\s*+<\|im_system\|>tool_declare<\|im_middle\|>.*+(?<=<\|im_end\|>)\s*+", re.DOTALL
)
_INNER = re.compile(r"</?(?:tool|function)>")
_LIST = re.compile(r"\[\s*+\{")
_OBJECT, _NEXT = re.compile(r"^[ \t]*+(?=\{)", re.MULTILINE), re.compile(r"\s*+,?\s*+(?=\{)")
_BETWEEN = re.compile(r"\s*(,|\])")


def tools_in_text(entries: Any, declared: Any = None) -> tuple[Any, Any]:
    """Return the tool declarations of the system text, and the messages without that text.

    Args:
      entries: The messages of a row.
      declared: The tools that the row declares itself. A text is then left out only if it has a
        ``<tools>`` block; other lists in it are examples, not tools.

    Returns:
      A list of declarations, or None if the text holds none (and the messages as they were).

    Raises:
      RowError: A ``<tools>`` block that cannot be read.
    """
    first = entries[0] if isinstance(entries, list) and entries else None
    if not isinstance(first, Mapping) or first.get("role") != "system":
        return None, entries
    text = first.get("content")
    if not isinstance(text, str):
        return None, entries
    block = _block(text, closed=bool(declared))
    if declared:
        return None, entries[1:] if block is not None or _WHOLE.fullmatch(text) else entries
    if block is not None:
        return _declarations(block), entries[1:]
    found = _listed(text)
    return (found, entries[1:]) if found else (None, entries)


def _block(text: str, *, closed: bool) -> str | None:
    """Return the last block of tools in a text, without its tags; None if there is none.

    Args:
      text: The text.
      closed: Leave out a block that is not closed.
    """
    for tag in _BLOCKS:
        before, opening, block = text.rpartition(f"<{tag}>")
        block, closing, _ = block.partition(f"</{tag}>")
        own = tag == _BLOCKS[0]
        if opening and (closing or (own and not closed)):
            block = _INNER.sub("", block).strip()
            # A block that cannot be read is refused; a sentence may speak of such tags.
            alone = closing or before.endswith("\n") or not before.strip()
            if block.startswith(("[", "{")) or (own and alone):
                return block
    return None


def _listed(text: str) -> list[Any] | None:
    """Return the list of tools in a text, or those that stand in it one after the other."""
    if match := _LIST.search(text):
        try:
            found, _ = load_json_at(text, match.start(), "the tool list")
        except RowError:
            found = _literal(text, match.start())
        return found if found and all(map(_is_declaration, found)) else None
    found = []
    match = _OBJECT.search(text)
    while match:
        try:
            value, end = load_json_at(text, match.end(), "a tool")
        except RowError:
            return None
        if not _is_schema(value):
            return None
        found.append(value)
        match = _NEXT.match(text, end)
    return found or None


def _literal(text: str, start: int) -> Any:
    """Return the list at a place of a text that is the text form of a Python list."""
    try:
        end = _closing(text, start)
        return load_loose_json(text[start:end], "the tool list")
    except (RowError, CallSyntaxError):
        return None


def _is_schema(entry: Any) -> bool:
    """Whether an object is the declaration of a tool with its parameters."""
    if isinstance(entry, Mapping) and isinstance(entry.get("function"), Mapping):
        entry = entry["function"]
    return (
        isinstance(entry, Mapping)
        and isinstance(entry.get("name"), str)
        and (isinstance(entry.get("parameters"), Mapping) and "description" in entry)
    )


def _is_declaration(entry: Any) -> bool:
    """Whether a list entry declares a tool; one with a bare name may be a user, or anything."""
    if not isinstance(entry, Mapping):
        return False
    return "function" in entry or ("name" in entry and bool(entry.keys() & _OF_TOOLS))


def reader(tools: Sequence[ToolSpec]) -> TextReader:
    """Return a function that finds the calls and answers in a text, or None if it is plain text."""
    names = {writable_name(tool.name): tool.name for tool in tools}
    known = frozenset(tool.name for tool in tools)

    def read(role: str, text: str) -> Sequence[Turn] | None:
        if role == "assistant":
            text = _LAST_TOKEN.sub("", text) if text.rstrip().endswith(">") else text
            if _is_said(text, _OPENED):
                turn = _tagged_calls(text)
            elif turn := _styled_calls(text, tools):
                pass
            elif message := written_calls(text.strip(), known):
                turn = Turn(message, ("",) * len(message.calls))
            elif _END_OF_CALL in text and _is_said(text, _ALONE):
                turn = Turn(unparsable_turn(text), ("",))
            else:
                turn = _bracketed_calls(text, names)
            return turn and (turn,)
        if _ANSWER in text and (role == "tool" or text.lstrip().startswith(_ANSWER)):
            return _answers(text, role)
        return None

    return read


def _styled_calls(text: str, tools: Sequence[ToolSpec]) -> Turn | None:
    """Read a turn that ends with calls in the form of some family of models, or return None.

    Any text may speak of such a form; here it is one only if declared tools are called.
    """
    whole = text.strip()
    head, mark, call = whole.partition(_GLAIVE)
    if mark:
        head, whole = head.strip(), call.strip()
    bare = whole.startswith(("{", "[{"))
    if not tools or not (bare or _MARKED.search(whole)):
        return None
    known = {tool.name for tool in tools}
    for name in _BARE if bare else _WITH_MARKS:
        start = 0 if bare else whole.find(STYLES[name].mark)
        if start < 0:
            continue
        try:
            calls = parse_calls(whole[start:], name, tools)
        except ValueError:
            continue
        if {call.name for call in calls} <= known and not any(map(declares, calls)):
            message = Message("assistant", head if mark else whole[:start].strip(), calls)
            return Turn(message, ("",) * len(calls))
    return None


def _declarations(block: str) -> list[Any]:
    """Read a list, or declarations one after the other as the Qwen templates write them."""
    if not block:
        return []
    try:
        found = load_loose_json(block, "the <tools> block")
        return found if isinstance(found, list) else [found]
    except RowError:
        lines = [line for line in block.split("\n") if line.strip()]
        if len(lines) < 2:
            raise
        return [load_loose_json(line.strip(), "a line of the <tools> block") for line in lines]


def _is_said(text: str, opened: re.Pattern[str]) -> bool:
    """Whether a call in tags stands in a text, and not only as an example in code."""
    mark = opened.search(text)
    if mark is None:
        return False
    before = text[: mark.start()]
    return not before.endswith("`") and len(_CODE.findall(before)) % 2 == 0


def _tagged_calls(text: str) -> Turn:
    thought, *pieces = _OPENED.split(text)
    texts, found = [thought.strip()], []
    for piece in pieces:
        body, _, after = piece.partition(_END_OF_CALL)
        texts.append(after.strip())
        try:
            call = load_loose_json(body.strip(), "a call")
        except RowError:
            call = None
        calls = call if isinstance(call, list) else [call]
        named = [one for one in calls if isinstance(one, Mapping)]
        if not named or len(named) < len(calls):
            return Turn(unparsable_turn(text), ("",) * len(pieces))
        found += (shaped_call(one) or _bare(one) for one in named)
    message = assistant_calls("\n".join(filter(None, texts)), found, keep_names=True)
    if not message.calls:
        message = unparsable_turn(text)
    return Turn(message, ("",) * len(found))


def _bare(call: Mapping[str, Any]) -> tuple[Any, Any]:
    return call.get("name"), call.get("arguments", call.get("parameters"))


def _bracketed_calls(text: str, names: Mapping[str, str]) -> Turn | None:
    """Read a turn that is nothing but a list of calls; None if it looks like no such list.

    A list that cannot be read stands for a failed call only if it begins with a known tool.
    """
    inner = text.strip()
    head = _NAME.match(inner, 1) if inner.startswith("[") and inner.endswith("]") else None
    if head is None:
        return None
    try:
        found = _call_list(inner)
        known = [(names.get(writable_name(name), name), values) for name, values in found]
        message = assistant_calls("", known, keep_names=True)
        if message.calls:
            return Turn(message, ("",) * len(found))
    except ValueError:
        pass
    if writable_name(head[1]) not in names:
        return None
    return Turn(unparsable_turn(text), ("",))


def _call_list(text: str) -> list[tuple[str, Any]]:
    """Parse ``[name(a=1), ...]``; unlike the call parser it takes names with blanks.

    Raises:
      ValueError: No such list to the very end.
    """
    found: list[tuple[str, Any]] = []
    position = 1
    while match := _NAME.match(text, position):
        end = _closing(text, match.end() - 1)
        call = parse_call(f"{writable_name(match[1])}{text[match.end() - 1 : end]}")
        found.append((match[1].strip(), call.arguments))
        between = _BETWEEN.match(text, end)
        if between is None:
            break
        position = between.end()
        if between[1] == "]":
            if position == len(text):
                return found
            break
    raise ValueError("not a list of calls")


def _closing(text: str, start: int) -> int:
    """Return the position after the bracket that closes the one at ``start``."""
    depth = 0
    for token in _TOKEN.finditer(text, start):
        if token[0] in "([{":
            depth += 1
        elif token[0] in ")]}":
            depth -= 1
            if not depth:
                return token.end()
    raise CallSyntaxError("truncated", len(text))


def _answers(text: str, role: str) -> list[Turn] | None:
    """Return the answers in a text and, where a user says something behind them, that as a turn.

    None where there is other text of which nothing says whose it is.
    """
    before, *pieces = text.split(_ANSWER)
    found, after = [], ""
    for piece in pieces:
        answer, closing, after = piece.partition(_END_OF_ANSWER)
        answer = answer.strip()
        found.append(Turn(Message("tool", answer), ("",), said_name=said_name(answer)))
        if role != "tool" and not closing or (piece is not pieces[-1] and after.strip()):
            return None
    if role == "tool" and (before.strip() or after.strip()):
        return None
    return [*found, Turn(Message(role, after.strip()))] if after.strip() else found
