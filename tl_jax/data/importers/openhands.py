"""Import the events of OpenHands, of its SDK (``kind``) or of earlier versions (``action``).

They stand in a file of their own, gathered by ``sessions``, or under ``history``. Of an action the
message is read that the model wrote; where an earlier version has none, the row is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tl_jax.data.importers import openai, openai_form
from tl_jax.data.importers.openai_form import Entry
from tl_jax.data.importers.sessions import KEY
from tl_jax.data.importers.unread import changed, kept, read_keys, read_whole
from tl_jax.data.trajectory import Trajectory
from tl_jax.errors import RowError

NAME = "openhands"

_HOLDERS = (KEY, "history", "events", "trajectory")
_KINDS = ("MessageEvent", "ActionEvent", "SystemPromptEvent")
_RESULTS = ("ObservationEvent", "AgentErrorEvent", "UserRejectObservation")
_NOTES = (
    "id", "timestamp", "source", "kind", "message", "cause", "llm_metrics", "action_id", "success",
    "security_risk", "summary", "critic_result", "activated_skills", "activated_microagents",
    "sender", "timeout", "tool_call_metadata", "llm_response_id",
)  # fmt: skip
_ASIDE = (
    "ConversationStateUpdateEvent", "PauseEvent", "TokenEvent", "Condensation",
    "CondensationRequest", "agent_state_changed", "change_agent_state", "null",
)  # fmt: skip
"""Kinds of events that are not said to the model."""


def recognise(row: Any) -> str:
    """Return why ``row`` looks like this format, or an empty string."""
    key, events = _events(row)
    kinds = {_peek(event, "kind") for event in events}
    if kinds & {"ActionEvent", "MessageEvent"}:
        return f"{key} of {len(events)} events with a kind"
    known = [event for event in events if {"source", "timestamp"} <= event.keys()]
    if any({"action", "observation"} & event.keys() for event in known):
        return f"{key} of {len(events)} events with an action or an observation"
    return ""


def trajectory(row: Mapping[str, Any], *, source: str, line: int) -> Trajectory:
    """Convert one row.

    Raises:
      RowError: Events that cannot be read, or actions without what the model wrote.
    """
    key, events = _events(row)
    row.get(key)
    read_keys(row, ("metrics", "instance_id"))
    entries: list[Entry] = []
    replies: dict[str, Entry] = {}
    tools: Any = None
    for number, event in enumerate(events):
        kind = str(event.get("kind") or event.get("action") or event.get("observation"))
        read_keys(event, ("kind", "action", "observation"))
        if kind in _ASIDE:
            kept(event)
            continue
        if kind in ("SystemPromptEvent", "system"):
            held = (
                event if kind == "SystemPromptEvent" else openai_form.mapping(event["args"], kind)
            )
            tools = held.get("tools")
        read_whole(event, _NOTES) if kind in (*_KINDS, *_RESULTS) else read_keys(event, _NOTES)
        try:
            found = _sdk(event, kind) if "kind" in event else _earlier(event, kind)
        except RowError as error:
            raise RowError(f"event {number}: {error}") from error
        for name, entry in found:
            if name in replies:  # another call of one reply
                replies[name]["tool_calls"] = [*replies[name]["tool_calls"], *entry["tool_calls"]]
                continue
            entries.append(entry)
            if name:
                replies[name] = entry
    more: Entry = {"messages": entries, key: None}
    if tools and "tools" not in row:
        more["tools"] = tools
    if "id" not in row and (name := _peek(row, "instance_id")):
        more["id"] = name
    return openai.trajectory(changed(row, **more), source=source, line=line)


def _sdk(event: Mapping[str, Any], kind: str) -> list[tuple[str, Entry]]:
    """Return what an event of the SDK says, each with the name of the reply that it is part of."""
    if kind == "SystemPromptEvent":
        prompt = event.get("system_prompt")
        text = prompt.get("text") if isinstance(prompt, Mapping) else prompt
        read_keys(prompt, ("type",))
        return [("", {"role": "system", "content": text})]
    if kind == "MessageEvent":
        return [("", changed(openai_form.mapping(event.get("llm_message"), "'llm_message'")))]
    if kind == "ActionEvent":
        read_whole(event, ("action", "tool_name"))  # the call again
        call = openai_form.mapping(event.get("tool_call"), "'tool_call'")
        read_keys(call, ("origin", "id"))
        entry = {
            "role": "assistant",
            "content": event.get("thought"),
            "reasoning_content": event.get("reasoning_content") or event.get("thinking_blocks"),
            "tool_calls": [_call(call, event)],
        }
        read_whole(event, ("thinking_blocks", "responses_reasoning_item"))
        return [(str(event.get("llm_response_id") or ""), entry)]
    if kind not in _RESULTS:
        return []  # counted as unread
    failed, content = None, event.get("error") or event.get("rejection_reason")
    if kind == "ObservationEvent":
        held = openai_form.mapping(event.get("observation"), "'observation'")
        content = held["content"] if "content" in held else held.get("output")
        read_keys(held, ("kind", "command", "path", "cmd"))
        failed = True if held.get("is_error") or held.get("exit_code") else None
    else:
        failed = True
    result = openai_form.answer(
        content, event.get("tool_call_id"), name=event.get("tool_name"), failed=failed
    )
    return [("", result)]


def _call(call: Mapping[str, Any], event: Mapping[str, Any]) -> Entry:
    """Return a call, flat or as OpenAI's."""
    inner = call.get("function")
    held = inner if isinstance(inner, Mapping) else call
    read_keys(call, ("type",))
    name, call_id = held.get("name") or event.get("tool_name"), event.get("tool_call_id")
    return openai_form.call(name, held.get("arguments"), call_id or call.get("id"))


def _earlier(event: Mapping[str, Any], kind: str) -> list[tuple[str, Entry]]:
    """Return what an event of an earlier version says, each with the name of its reply."""
    read_whole(event, ("tool_call_metadata",))  # in which every event has the whole reply again
    meta = event.get("tool_call_metadata")
    if "action" in event:
        arguments = event.get("args")
        arguments = arguments if isinstance(arguments, Mapping) else {}
        if isinstance(meta, Mapping):
            read_whole(event, ("args",))
            reply = openai_form.mapping(meta.get("model_response"), "'model_response'")
            first = openai_form.listed(reply.get("choices"), "'choices'")[:1]
            if not first:
                raise RowError("a reply of the model without a choice")
            name, message = str(reply.get("id") or ""), openai_form.mapping(first[0], "")["message"]
            # Every call of a reply has the whole of it with it.
            return [(name, {**changed(message), "tool_calls": _calls(message, meta)})]
        if kind == "system":
            read_keys(arguments, ("openhands_version", "agent_class"))
            return [("", {"role": "system", "content": arguments.get("content")})]
        if kind == "message":
            role = "user" if event.get("source") == "user" else "assistant"
            read_keys(arguments, ("image_urls", "wait_for_response", "file_urls"))
            return [("", {"role": role, "content": arguments.get("content")})]
        if event.get("source") == "agent" and kind not in ("recall", "condensation"):
            raise RowError(f"an action {kind!r} without the message that the model wrote")
        return []
    if not isinstance(meta, Mapping):
        return []
    extras = event.get("extras")
    read_whole(event, ("extras",))
    inner = extras.get("metadata") if isinstance(extras, Mapping) else None
    code = inner.get("exit_code") if isinstance(inner, Mapping) else None
    failed = True if kind == "error" or code or event.get("success") is False else None
    answered, name = meta.get("tool_call_id"), meta.get("function_name")
    return [("", openai_form.answer(event.get("content"), answered, name=name, failed=failed))]


def _calls(message: Mapping[str, Any], meta: Mapping[str, Any]) -> list[Any]:
    """Return the one call of a reply that an event is about."""
    calls = openai_form.listed(message.get("tool_calls"), "'tool_calls'")
    asked = meta.get("tool_call_id")
    return [call for call in calls if _peek(call, "id") == asked] or list(calls)


def _events(row: Any) -> tuple[str, list[Mapping[str, Any]]]:
    for key in _HOLDERS:
        value = _peek(row, key)
        if isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
            return key, value
    return "", []


def _peek(holder: Any, key: str) -> Any:
    return dict.get(holder, key) if isinstance(holder, dict) else None
