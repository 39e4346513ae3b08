"""Find the messages in what a model's API returns, and whether it failed or was cut off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tl_jax.data.importers.unread import read_whole
from tl_jax.errors import RowError

_ENDS = (
    "finish_reason", "finishReason", "stop_reason", "stopReason", "done_reason", "status",
)  # fmt: skip
_BAD_ENDS = frozenset(
    ("length", "max_tokens", "max_output_tokens", "content_filter", "content_filtered", "safety",
     "recitation", "blocklist", "prohibited_content", "spii", "malformed_function_call",
     "unexpected_tool_call", "incomplete", "failed", "error", "errored", "error_toxic",
     "cancelled", "canceled", "expired", "guardrail_intervened", "model_context_window_exceeded")
)  # fmt: skip
_INSIDE = ("body", "outputBodyJson", "response", "result", "output", "json", "data", "message")
"""Keys under which the reply itself may stand."""
_NOTES = (
    "id", "object", "created", "created_at", "model", "usage", "system_fingerprint", "service_tier",
    "type", "stop_sequence", "modelVersion", "usageMetadata", "responseId", "metrics", "request_id",
    "status_code", "index", "avgLogprobs", "done", "total_duration", "load_duration",
    "prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration", "llm_output", "run",
)  # fmt: skip
"""Keys of a reply that say when and by whom it was made."""
_CHUNKS = ("chat.completion.chunk", "message_start", "content_block_delta", "response.created")
_DEEPEST = 5
_HTTP_ERRORS = 400


def failure(reply: Any, row: Mapping[str, Any]) -> str:
    """Return why there is no whole reply to train, or an empty text."""
    for holder in (row, reply):
        if isinstance(holder, Mapping):
            code = _peek(holder, "status_code")
            if isinstance(code, int) and code >= _HTTP_ERRORS:
                return f"the request failed (status {holder['status_code']}), it has no reply"
            if error := _peek(holder, "error"):
                return _failed(error)
    return _cut(reply, 0)


def _failed(error: Any) -> str:
    while isinstance(error, Mapping):
        error = error.get("message") or error.get("error") or "no reason is given"
    return f"the request failed ({str(error)[:100]}), it has no reply"


def _cut(value: Any, depth: int) -> str:
    if isinstance(value, list):
        return next(filter(None, (_cut(inner, depth) for inner in value[:1])), "")
    if not isinstance(value, Mapping) or depth > _DEEPEST:
        return ""
    if error := _peek(value, "error"):
        return _failed(error)
    ends = [value[key] for key in _ENDS if key in value]
    if _peek(value, "type") in _BAD_ENDS:
        ends.append(value["type"])
    for end in ends:
        if isinstance(end, str) and end.lower() in _BAD_ENDS:
            return (
                f"the reply is not whole ({end}), and would be trained as if it were; leave it out"
            )
    inside = [_peek(value, key) for key in (*_INSIDE, "choices", "candidates", "generations")]
    return next(filter(None, (_cut(inner, depth + 1) for inner in inside)), "")


def reply_messages(value: Any, depth: int = 0) -> list[Any]:
    """Return the messages of a reply, in the form that its API gives them.

    Of several choices the first is taken; the others stay unread.

    Args:
      value: What the API returned, or a tracer noted of it.
      depth: How many objects it stands in.

    Raises:
      RowError: It holds no message, or the pieces of one that was streamed.
    """
    if isinstance(value, str) and value.strip():
        return [{"role": "assistant", "content": value}]
    if isinstance(value, list) and value:
        if any(_is_chunk(entry) for entry in value):
            raise RowError("a reply in the pieces of a stream; join them into one message")
        if isinstance(value[0], list):
            return reply_messages(value[0], depth + 1)
        if all(isinstance(entry, Mapping) and _is_message(entry) for entry in value):
            return value
        return reply_messages(value[0], depth + 1)
    if not isinstance(value, Mapping) or depth > _DEEPEST:
        raise RowError("a reply without a message in it")
    read_whole(value, (*_NOTES, *_ENDS))
    if isinstance(value.get("messages"), list) and value["messages"]:
        return value["messages"]
    for key in ("choices", "candidates", "generations"):
        if isinstance(_peek(value, key), list) and value[key]:
            return reply_messages(value[key], depth + 1)
    if isinstance(inner := _peek(value, "content"), Mapping) and "parts" in inner:
        return [value["content"]]
    if isinstance(_peek(value, "output"), list):
        return value["output"]
    if _is_message(value):
        return [value]
    for key in (*_INSIDE, "text"):
        if _peek(value, key):
            return reply_messages(value[key], depth + 1)
    raise RowError("a reply without a message in it")


def _is_message(value: Mapping[str, Any]) -> bool:
    keys = value.keys()
    if "role" in keys and keys & {"content", "parts", "tool_calls", "blocks", "function_call"}:
        return True
    return "lc" in keys or (value.get("type") in ("ai", "AIMessage") and "content" in keys)


def _is_chunk(value: Any) -> bool:
    return isinstance(value, Mapping) and (
        value.get("object") in _CHUNKS or value.get("type") in _CHUNKS or "delta" in value
    )


def _peek(holder: Any, key: str) -> Any:
    return dict.get(holder, key) if isinstance(holder, dict) else None
