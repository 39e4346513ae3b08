"""Import logs of requests to a model, each with its reply: of providers, proxies and tracers.

A row has the request under ``request``, ``body``, ``params`` or ``input`` (or is it, with
``messages``), and the reply under ``response``, ``result`` or ``output``, both as the API of
OpenAI, Anthropic, Google, Amazon or another in their manner has them; or it is a span of a tracer.
Only the reply is trained: those before it are replies of rows of their own.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

from tl_jax.data.importers import responses
from tl_jax.data.importers.declarations import declared_tools
from tl_jax.data.importers.general import importer_of
from tl_jax.data.importers.json_text import load_json
from tl_jax.data.importers.log_replies import failure, reply_messages
from tl_jax.data.importers.openai_form import Entry
from tl_jax.data.importers.spans import is_span, span
from tl_jax.data.importers.unread import changed, decoded, read_whole
from tl_jax.data.trajectory import Trajectory
from tl_jax.errors import RowError

NAME = "logs"
REPAIRS: Mapping[str, str] = {
    "earlier_reply": "a reply in the request of a log, context only: it has a row of its own",
}
"""Every kind of repair that is counted here."""

_REQUESTS = (
    "request", "request_body", "requestBody", "body", "params", "input", "inputs", "req", "kwargs",
    "request_json", "request_data", "llm_input", "prompt_messages",
)  # fmt: skip
_REPLIES = (
    "response", "response_body", "responseBody", "result", "output", "outputs", "resp", "reply",
    "res", "response_json", "response_data", "llm_output", "completion_message", "choices",
)  # fmt: skip
_TEXTS = ("response", "reply")
"""Keys of a reply beside messages that may be a plain text."""
_INSIDE = ("body", "params", "json", "inputBodyJson", "payload", "kwargs", "input", "data")
"""Keys of a request under which the request itself may stand."""
_DIALOGUES = ("messages", "contents", "input")
_DEEPEST = 4
_NOTES = (
    "custom_id", "method", "url", "key", "status", "processed_time", "schemaType", "schemaVersion",
    "timestamp", "requestId", "region", "accountId", "identity", "operation", "modelId", "model",
    "name", "type", "startTime", "endTime", "start_time", "end_time", "latency", "cost", "spend",
    "usage", "call_type", "created", "created_at", "provider", "object", "traceId", "environment",
    "run_type", "status_code", "duration",
)  # fmt: skip
"""Keys of a row that say when and by whom something was asked."""
_SETTINGS = (
    "model", "temperature", "top_p", "top_k", "max_tokens", "max_completion_tokens", "seed", "n",
    "max_output_tokens", "stream", "stream_options", "stop", "stop_sequences", "user", "store",
    "frequency_penalty", "presence_penalty", "logprobs", "top_logprobs", "service_tier", "thinking",
    "reasoning", "reasoning_effort", "generationConfig", "generation_config", "safetySettings",
    "inferenceConfig", "modelId", "prompt_cache_key", "safety_identifier", "anthropic_version",
)  # fmt: skip
"""Keys of a request that say how it is answered, and not to what."""


def recognise(row: Any) -> str:
    """Return why ``row`` looks like this format, or an empty string."""
    if not isinstance(row, Mapping):
        return ""
    if is_span(row):
        return "a span with the messages of a request"
    outer, row = row, _inside(row)
    if row is outer and responses.recognise(row):
        return ""
    try:
        found = _pair(row)
    except RowError:
        return ""
    if found is None:
        return ""
    request_key, reply_key, request, reply = found
    if failure(reply, row):
        return f"{request_key or 'messages'} and a {reply_key} that failed"
    return f"a request under {request_key or 'messages'} and its reply under {reply_key}"


def trajectory(row: Mapping[str, Any], *, source: str, line: int) -> Trajectory:
    """Convert one row.

    Raises:
      RowError: No request or no reply, one that failed or was cut off, or messages or tools that
        cannot be read.
    """
    outer, row = row, _inside(row)
    if row is not outer:
        read_whole(outer, _NOTES)
    if is_span(row):
        found = span(row)
        if found is None:
            raise RowError("a span without the reply to its messages")
        request, reply = found
    else:
        pair = _pair(row)
        if pair is None:
            if importer := importer_of(row):  # a dialogue among them that is whole
                return importer.trajectory(row, source=source, line=line)
            raise RowError("no request with messages and a reply to it")
        _, _, request, reply = pair
    if said := failure(reply, row):
        raise RowError(said)
    read_whole(row, _NOTES)
    read_whole(request, _SETTINGS)
    for key in _REQUESTS:
        read_whole(_peek(row, key), ("custom_id", "method", "url"))
    asked = _asked(row, request)
    key = next(key for key in _DIALOGUES if key in asked)
    answered = changed(asked, **{key: _together(key, asked[key], reply)})
    importer = importer_of(answered)
    if importer is None:
        raise RowError("a request whose messages are of no form that is known")
    whole = importer.trajectory(answered, source=source, line=line)
    before = len(importer.trajectory(asked, source=source, line=line).messages)
    if before and whole.messages[before - 1].role == "assistant":
        raise RowError(
            "the request ends with a turn of the model, which the reply goes on; join the two"
        )
    return _only_reply(whole, before, str(row.get("id") or row.get("custom_id") or ""))


def _only_reply(whole: Trajectory, before: int, name: str) -> Trajectory:
    """Return a dialogue of which nothing is trained but what comes after its first messages."""
    messages = tuple(
        dataclasses.replace(message, weight=0.0) if message.role == "assistant" else message
        for message in whole.messages[:before]
    )
    earlier = sum(message.role == "assistant" for message in messages)
    asked = next((m.content for m in whole.messages if m.role == "user"), "")
    task = hashlib.sha256(asked.encode()).hexdigest()[:16]
    repairs = {**whole.repairs, **({"earlier_reply": earlier} if earlier else {})}
    return dataclasses.replace(
        whole,
        id=name or whole.id,
        messages=(*messages, *whole.messages[before:]),
        tags={**whole.tags, "task": f"log/{task}"},
        repairs=repairs,
    )


def _inside(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the Agents SDK holds in a span of its traces, or the row itself."""
    held = _peek(row, "span_data")
    return row["span_data"] if isinstance(held, Mapping) else row


def _pair(row: Mapping[str, Any]) -> tuple[str, str, Any, Any] | None:
    """Return the keys of the request and the reply, and both as they are there; or None."""
    reply_key = next((key for key in _REPLIES if _says_something(row, key)), "")
    if reply_key == "choices" and not _peek(_peek(row, reply_key)[0], "message"):
        return None
    if not reply_key:
        return None
    for key in _REQUESTS:
        request = _request(_value(row, key)) if key in row else None
        if request is not None:
            return key, reply_key, request, _value(row, reply_key)
    entries = _value(row, "messages") if "messages" in row else None
    reply = _value(row, reply_key)
    if not _is_prompt(entries) or (isinstance(reply, str) and reply_key not in _TEXTS):
        return None
    return "", reply_key, changed(row, messages=entries), reply


def _says_something(row: Mapping[str, Any], key: str) -> bool:
    return key in row and bool(_peek(row, key))


def _value(row: Mapping[str, Any], key: str) -> Any:
    """Return a value of a row, read where it is the text of an object or a list."""
    value = _peek(row, key)
    if isinstance(value, str) and not value.lstrip().startswith(("{", "[")):
        return row[key]
    return decoded(row, key, lambda text: load_json(text, repr(key)))


def _request(value: Any, depth: int = 0) -> Any:
    """Return what of a value is a request: an object with messages, or messages; else None."""
    if isinstance(value, list):
        return {"messages": value} if _is_prompt(value) else None
    if not isinstance(value, Mapping) or depth > _DEEPEST:
        return None
    for key in _DIALOGUES[:2]:
        if key in value:
            entries = _value(value, key)
            if key == "messages" and _is_batch(entries):
                entries = entries[0]
            if isinstance(entries, list) and entries and isinstance(entries[0], Mapping):
                return changed(value, **{key: entries})
    if isinstance(_peek(value, "input"), str | list) and {"instructions", "model"} & value.keys():
        items = _value(value, "input")
        if isinstance(items, str):
            items = [{"role": "user", "content": items}]
        return changed(value, input=items)
    for key in _INSIDE:
        if key in value and (found := _request(_value(value, key), depth + 1)) is not None:
            return found
    return None


def _is_batch(entries: Any) -> bool:
    """Whether a list holds a list of messages, as tracers record calls of several prompts."""
    return isinstance(entries, list) and len(entries) == 1 and isinstance(entries[0], list)


def _is_prompt(entries: Any) -> bool:
    """Whether a value is messages that wait for a reply."""
    if not isinstance(entries, list) or not entries:
        return False
    if not all(isinstance(entry, Mapping) for entry in entries):
        return False
    roles = [_peek(entry, "role") or _peek(entry, "type") for entry in entries]
    return all(isinstance(role, str) for role in roles) and roles[-1] not in ("assistant", "ai")


def _asked(row: Mapping[str, Any], request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a request with the tools that its row keeps elsewhere."""
    if request is row or any(_peek(request, key) for key in ("tools", "functions", "toolConfig")):
        return request
    extra = row.get("extra")
    holders = [row, extra.get("invocation_params") if isinstance(extra, Mapping) else None]
    for holder in holders:
        if isinstance(holder, Mapping) and (tools := declared_tools(holder, None)):
            return changed(request, tools=tools)
    return request


def _together(key: str, asked: Any, reply: Any) -> list[Entry]:
    """Return the messages of a request and of its reply."""
    found = reply_messages(reply)
    if len(found) > len(asked) and found[: len(asked)] == list(asked):
        return found  # the whole state, with what was there before
    return [*asked, *found]


def _peek(holder: Any, key: str) -> Any:
    return dict.get(holder, key) if isinstance(holder, dict) else None
