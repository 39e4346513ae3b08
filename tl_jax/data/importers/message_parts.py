"""Import messages whose parts are texts, calls, results and thoughts, as frameworks keep them.

Read are the messages of Bedrock's Converse and Strands (``toolUse``, ``toolResult``), of Vercel's
AI SDK (``tool-call``, ``tool-weather``), of OpenTelemetry (``tool_call_response``), of Haystack,
LlamaIndex and Pydantic AI. Parts stand under ``parts``, ``content`` or ``blocks``; what a part is,
its ``type`` says, or the only key it has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tl_jax.data.importers import openai, openai_form
from tl_jax.data.importers.openai_form import Entry
from tl_jax.data.importers.unread import changed, kept, read_keys
from tl_jax.data.trajectory import Trajectory
from tl_jax.errors import RowError

NAME = "parts"

_HOLDERS = ("parts", "content", "blocks", "_content")
"""Keys of a message under which its parts stand."""
_TYPES = ("type", "part_kind", "block_type")
_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_TOOL_PART = re.compile(r"(?:tool|dynamic)-[\w.-]+")
"""Types of a part that is a call of one tool with its result."""
_KINDS = {
    "text": ("text", "input_text", "output_text"),
    "thought": ("reasoning", "thinking", "reasoning_content"),
    "call": ("tool_call", "tool_use", "function_call", "builtin_tool_call"),
    "result": ("tool_result", "tool_response", "tool_call_response", "tool_return",
               "tool_call_result", "function_response", "builtin_tool_return", "retry_prompt"),
    "prompt": ("user_prompt", "system_prompt"),
    "nothing": ("step_start", "step_finish", "start_step", "cache_point"),
}  # fmt: skip
_KIND_OF = {name: kind for kind, names in _KINDS.items() for name in names}
_OWN = frozenset(("tool_return", "tool_call_response", "tool_call_result", "user_prompt",
                  "tool_call", "tool_result", "tool_use"))  # fmt: skip
"""Types in parts that tell these messages from OpenAI's, which have parts of text, too."""
_ALONE = ("toolUse", "toolResult", "tool_call", "tool_call_result", "reasoningContent",
          "cachePoint")  # fmt: skip
"""Keys that are the only one of a part, and say what it is."""
_NAMES = ("name", "toolName", "tool_name")
_IDS = ("id", "toolCallId", "tool_call_id", "toolUseId", "call_id")
_ARGUMENTS = ("arguments", "input", "args", "tool_kwargs", "rawInput")
_RESULTS = ("content", "output", "result", "response", "errorText")
_FAILURES = ("isError", "is_error", "error", "errorText")


def recognise(row: Any) -> str:
    """Return why ``row`` looks like this format, or an empty string."""
    entries = row.get("messages") if isinstance(row, Mapping) else None
    if not isinstance(entries, list) or not entries:
        return ""
    if not all(isinstance(entry, Mapping) for entry in entries):
        return ""
    for entry in entries:
        if not ({"role", "_role"} & entry.keys() or entry.get("kind") in ("request", "response")):
            return ""
    for entry in entries:
        for holder in ("parts", "blocks"):
            if holder in entry and "content" not in entry and _parts(entry.get(holder)):
                return f"messages of {holder}"
        if isinstance(entry.get("toolInvocations"), list):
            return "messages with toolInvocations"
        for part in _parts(entry.get("content")) or _parts(entry.get("_content")) or ():
            if any(key in part for key in _ALONE):
                return f"messages with parts of {next(key for key in _ALONE if key in part)}"
            kind = _kind(part)
            if "-" in str(part.get("type")) and kind in ("call", "result"):
                return f"messages with parts of type {part.get('type')}"
    return ""


def trajectory(row: Mapping[str, Any], *, source: str, line: int) -> Trajectory:
    """Convert one row.

    Raises:
      RowError: Messages or tools that cannot be read.
    """
    entries: list[Entry] = []
    for number, message in enumerate(openai_form.listed(row.get("messages"), "'messages'")):
        try:
            entries += _entries(openai_form.mapping(message, "a message"))
        except RowError as error:
            raise RowError(f"message {number}: {error}") from error
    more: Entry = {"messages": entries}
    system = row.get("system")
    if parts := _parts(system):
        more["system"] = openai_form.joined(part.get("text") for part in parts)
    config = row.get("toolConfig")
    if isinstance(config, Mapping) and "tools" not in row:
        more["tools"] = config.get("tools")
    return openai.trajectory(changed(row, **more), source=source, line=line)


def _parts(value: Any) -> list[Mapping[str, Any]] | None:
    if not isinstance(value, list) or not value:
        return None
    return value if all(isinstance(part, Mapping) for part in value) else None


def _kind(part: Mapping[str, Any]) -> str:
    """Return what a part is: a key of ``_KINDS``, ``both`` for a call with its result, or none."""
    said = next((part[key] for key in _TYPES if isinstance(part.get(key), str)), "")
    if not said:
        named = next((key for key in (*_ALONE, "text", "reasoning") if key in part), "")
        return _KIND_OF.get(_snake(named), "")
    if isinstance(part.get("toolInvocation"), Mapping):
        return "both"
    kind = _KIND_OF.get(_snake(said), "")
    if not kind and _TOOL_PART.fullmatch(said) and ("toolCallId" in part or "state" in part):
        return "both"
    return kind


def _snake(name: str) -> str:
    return _CAPITAL.sub("_", name).lower().replace("-", "_")


def _inner(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a part holds, where the only key of it says what it is."""
    for key in _ALONE:
        if isinstance(part.get(key), Mapping):
            return part[key]
    return part


def _entries(message: Mapping[str, Any]) -> list[Entry]:
    """Return a message as one or more of OpenAI's: its turns, and the results between them."""
    holder = next((key for key in _HOLDERS if _parts(message.get(key))), "")
    role = message.get("role") or message.get("_role")
    if role is None:
        role = "assistant" if message.get("kind") == "response" else "user"
    found = _Messages(message, str(role).lower())
    parts = _parts(message.get(holder)) or ()
    for part in parts:
        found.add(part)
    if holder:
        if any("toolInvocation" in part for part in parts):
            message.get("toolInvocations")  # which has them again
        return found.all()
    for call in openai_form.listed(message.get("toolInvocations"), "'toolInvocations'"):
        found.add_both(openai_form.mapping(call, "a call"))
    # What is said stands behind the results, without which nothing could be said of them.
    return [*found.all(), _flat(message, role=role)]


def _flat(message: Mapping[str, Any], **more: Any) -> Entry:
    """Return a message with what LlamaIndex keeps beside it as its own."""
    extra = message.get("additional_kwargs")
    if isinstance(extra, Mapping):
        for key in ("tool_calls", "tool_call_id", "name"):
            if key in extra and not message.get(key):
                more[key] = extra[key]
    return changed(message, **more)


class _Messages:
    """The messages that the parts of one become."""

    def __init__(self, message: Mapping[str, Any], role: str) -> None:
        self.message, self.role = message, role
        self.entries: list[Entry] = []
        self.results: list[Entry] = []
        self._clear()

    def _clear(self) -> None:
        self.texts: list[Entry] = []
        self.thoughts: list[Any] = []
        self.calls: list[Entry] = []

    def add(self, part: Mapping[str, Any]) -> None:
        """Take a part.

        Raises:
          RowError: It is of a type that is not known and holds no text.
        """
        kind = _kind(part)
        if kind == "call":
            self.calls.append(_call(_inner(part)))
        elif kind == "result":
            self.results.append(_result(_inner(part)))
        elif kind == "both":
            self.add_both(part)
        elif kind == "thought":
            self.thoughts.append(_thought(_inner(part)))
        elif kind == "prompt":
            system = "system" in str(part.get("part_kind"))
            self._close()
            content = _prompt(part.get("content"))
            self.entries.append({"role": "system" if system else "user", "content": content})
        elif kind == "text":
            self._close_results()
            text = next((part[key] for key in ("text", "content") if key in part), None)
            self.texts.append(openai_form.text(str(text or "")))
        elif kind != "nothing":
            self._close_results()
            self.texts.append(changed(part))

    def add_both(self, part: Mapping[str, Any]) -> None:
        """Take a call that has its result with it."""
        self._close_results()
        name = str(part.get("type") or "").partition("-")[2]
        if isinstance(inner := part.get("toolInvocation"), Mapping):
            part = inner
        call = _call(part)
        call["function"]["name"] = call["function"]["name"] or name
        self.calls.append(call)
        state = str(part.get("state") or "")
        if any(part.get(key) is not None for key in ("output", "result", "errorText")):
            self.results.append(_result(part, failed=True if "error" in state else None))

    def _close_results(self) -> None:
        if self.results:
            self._close()

    def _close(self) -> None:
        """End the turn, and put the results behind it."""
        if self.texts or self.thoughts or self.calls:
            role = "assistant" if self.role == "tool" and self.calls else self.role
            more: Entry = {"role": role, "content": openai_form.content(self.texts)}
            if self.thoughts:
                more["reasoning_content"] = openai_form.joined(self.thoughts)
            if self.calls:
                more["tool_calls"] = self.calls
            keys = dict.fromkeys(key for key in _HOLDERS if key in self.message)
            self.entries.append(_flat(self.message, **{**keys, **more}))
        self.entries += self.results
        self.results = []
        self._clear()

    def all(self) -> list[Entry]:
        """Return the messages."""
        self._close()
        return self.entries


def _first(part: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    return next((part[key] for key in keys if part.get(key) is not None), None)


def _call(part: Mapping[str, Any]) -> Entry:
    read_keys(part, (*_TYPES, "state"))
    return openai_form.call(_first(part, _NAMES), _first(part, _ARGUMENTS), _first(part, _IDS))


def _result(part: Mapping[str, Any], failed: bool | None = None) -> Entry:
    read_keys(part, _TYPES)
    content = _first(part, _RESULTS)
    call_id, name = _first(part, _IDS), _first(part, _NAMES)
    if isinstance(origin := part.get("origin"), Mapping):  # the call, again
        call_id, name = call_id or origin.get("id"), name or origin.get("tool_name")
        kept(origin.get("arguments"))
    if isinstance(content, Mapping) and content.keys() <= {"type", "value"} and "type" in content:
        failed = str(content["type"]).startswith("error") or failed
        content = content.get("value")
    if part.get("status") == "error" or any(part.get(key) for key in _FAILURES):
        failed = True
    if _snake(str(part.get("part_kind"))) == "retry_prompt":
        failed = True
    return openai_form.answer(content, call_id, name=name, failed=failed)


def _thought(part: Mapping[str, Any]) -> Any:
    if isinstance(inner := part.get("reasoningText"), Mapping):
        return inner.get("text")
    found = _first(part, ("text", "content", "reasoning", "reasoning_text", "thinking"))
    return found.get("reasoning_text") if isinstance(found, Mapping) else found


def _prompt(content: Any) -> Any:
    """Return the content of a prompt, whose parts may be bare texts."""
    if not isinstance(content, list):
        return content
    return [openai_form.text(part) if isinstance(part, str) else part for part in content]
