"""The three call formats that carry JSON: their marks, and the parsers that read them.

    hermes      <tool_call>
                {"name": "f", "arguments": {"a": 1}}
                </tool_call>                            one pair of tags per call
    llama_json  {"name": "f", "parameters": {"a": 1}}   several separated by ;
    mistral     [TOOL_CALLS][{"name": "f", "arguments": {"a": 1}}, ...]

Also read: a list of calls between one pair of Hermes tags (SmolLM2), ``<|python_tag|>`` before a
Llama call, and Mistral's newer form, ``[TOOL_CALLS]f[ARGS]{"a": 1}`` once per call. A call
has exactly a name, which is a string, and arguments, which are an object; ``optional`` fields may
be there and are ignored. Everything else is an error: nothing is repaired, guessed or skipped.

Source: the chat templates of Qwen2.5, Llama 3.1 and Mistral; the ``;``, which the Llama template
does not have, is the separator that serving engines read.
"""

from __future__ import annotations

import dataclasses
import re

from tl_jax.calls.call import ToolCall
from tl_jax.calls.json_values import close, scan_object, skip
from tl_jax.calls.python_style import NAME_PATTERN
from tl_jax.calls.syntax import CallSyntaxError, check_room


@dataclasses.dataclass(frozen=True)
class JsonStyle:
    """How a format writes calls.

    Attributes:
      arguments: Key of the arguments.
      optional: Fields that may stand beside name and arguments; their values are strings.
      mark: What the first call of a reply always begins with, if there is such a thing.
      before, after: Text around each call.
      opening, closing: Text around all calls together.
      separator: Text between two calls.
    """

    arguments: str = "arguments"
    optional: frozenset[str] = frozenset()
    mark: str = ""
    before: str = ""
    after: str = ""
    opening: str = ""
    closing: str = ""
    separator: str = ", "


HERMES = JsonStyle(
    mark="<tool_call>", before="<tool_call>\n", after="\n</tool_call>", separator="\n"
)
LLAMA = JsonStyle("parameters", optional=frozenset({"type"}), separator="; ")
MISTRAL = JsonStyle(
    optional=frozenset({"id"}), mark="[TOOL_CALLS]", opening="[TOOL_CALLS][", closing="]"
)

_NAME = re.compile(NAME_PATTERN)
_CALL_ID = re.compile(r"\[CALL_ID\][ \t\r\n]*+\w++[ \t\r\n]*+")


def parse_hermes(text: str, most: int) -> tuple[ToolCall, ...]:
    """Parse calls between ``<tool_call>`` tags; see ``parse.parse_calls``.

    ``most`` is the number of calls that there may be.
    """
    calls: list[ToolCall] = []
    at = skip(text, 0)
    while at < len(text) or not calls:
        check_room(len(calls), most, at)
        at = _mark(text, at, "<tool_call>", "trailing_text" if calls else "no_call")
        at = _calls(text, at, HERMES, calls, most)
        at = _mark(text, at, "</tool_call>", "trailing_text")
    return tuple(calls)


def parse_llama_json(text: str, most: int) -> tuple[ToolCall, ...]:
    """Parse bare JSON calls separated by ``;``; see ``parse_hermes`` for ``most``."""
    at = skip(text, 0)
    if text.startswith("<", at):
        at = _mark(text, at, "<|python_tag|>", "no_call")
    call, at = _call(text, at, LLAMA)
    calls = [call]
    while at < len(text):
        check_room(len(calls), most, at)
        call, at = _call(text, _mark(text, at, ";", "trailing_text"), LLAMA)
        calls.append(call)
    return tuple(calls)


def parse_mistral(text: str, most: int) -> tuple[ToolCall, ...]:
    """Parse calls after ``[TOOL_CALLS]``, in either form; see ``parse_hermes`` for ``most``."""
    calls: list[ToolCall] = []
    at = _mark(text, skip(text, 0), "[TOOL_CALLS]", "no_call")
    if text.startswith("[", at):
        end = _calls(text, at, MISTRAL, calls, most)
        if end < len(text):
            raise CallSyntaxError("trailing_text", end)
        return tuple(calls)
    while True:
        call, at = _named_call(text, at)
        calls.append(call)
        if at == len(text):
            return tuple(calls)
        check_room(len(calls), most, at)
        at = _mark(text, at, "[TOOL_CALLS]", "trailing_text")


def _mark(text: str, at: int, mark: str, otherwise: str) -> int:
    """Step over ``mark`` and the blanks after it; else raise ``otherwise``."""
    if text.startswith(mark, at):
        return skip(text, at + len(mark))
    if not text.strip(" \t\r\n"):
        raise CallSyntaxError("empty", at)
    cut = len(text) - at < len(mark) and mark.startswith(text[at:])
    raise CallSyntaxError("truncated" if cut else otherwise, at)


def _calls(text: str, at: int, style: JsonStyle, calls: list[ToolCall], most: int) -> int:
    """Append one call, or those of a list, and return the position after blanks."""
    if not text.startswith("[", at):
        call, at = _call(text, at, style)
        calls.append(call)
        return at
    at = skip(text, at + 1)
    while True:
        call, at = _call(text, at, style)
        calls.append(call)
        if text[at : at + 1] != ",":
            return skip(text, close(text, at, "]"))
        check_room(len(calls), most, at)
        at = skip(text, at + 1)


def _call(text: str, at: int, style: JsonStyle) -> tuple[ToolCall, int]:
    """Read one object as a call; the position returned is after blanks."""
    if text[at : at + 1] != "{":
        missing = "truncated" if text.strip(" \t\r\n") else "empty"
        raise CallSyntaxError("no_call" if at < len(text) else missing, at)
    # The object's own bracket and that of the arguments are not counted as nesting.
    fields, end = scan_object(text, at, -1)
    for field, value in fields.items():
        known = field in style.optional and isinstance(value, str)
        if not known and field not in ("name", style.arguments):
            raise CallSyntaxError("unknown_field", at)
    if "name" not in fields or style.arguments not in fields:
        raise CallSyntaxError("missing_field", at)
    name, arguments = fields["name"], fields[style.arguments]
    if not isinstance(name, str) or not name:
        raise CallSyntaxError("bad_name", at)
    if not isinstance(arguments, dict):
        raise CallSyntaxError("bad_arguments", at)
    return ToolCall(name, arguments), skip(text, end)


def _named_call(text: str, at: int) -> tuple[ToolCall, int]:
    """Read ``name[ARGS]{...}``; the position returned is after blanks."""
    name = _NAME.match(text, at)
    if name is None:
        raise CallSyntaxError("no_call" if at < len(text) else "truncated", at)
    at = skip(text, name.end())
    call_id = _CALL_ID.match(text, at)
    at = _mark(text, call_id.end() if call_id is not None else at, "[ARGS]", "no_call")
    if text[at : at + 1] != "{":
        raise CallSyntaxError("bad_arguments" if at < len(text) else "truncated", at)
    arguments, at = scan_object(text, at, 0)
    return ToolCall(name[0], arguments), skip(text, at)
