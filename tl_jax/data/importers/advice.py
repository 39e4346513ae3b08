"""Say what to do with rows of forms that are known and cannot be read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_TOKENS = ("input_ids", "token_ids", "prompt_ids")
_REJECTED = ("rejected", "non_preferred_output", "rejected_response", "rejected_messages")
_EVENTS = ("uuid", "sessionId", "parentUuid", "payload")


def advice(rows: Iterable[Any]) -> str:
    """Return a sentence on rows that no importer knows, or an empty text."""
    return next(filter(None, map(_advice, rows)), "")


def _advice(row: Any) -> str:
    if not isinstance(row, Mapping):
        return ""
    if any(key in row for key in _REJECTED):
        return (
            "pairs of a preferred and a rejected reply; to train the preferred ones, write rows of "
            "'prompt' and 'completion'"
        )
    if any(key in row for key in _TOKENS):
        return "rows of tokens; give the dialogues they were made of, as 'messages'"
    if _is_message(row) or (_is_message(row.get("message")) and set(_EVENTS) & row.keys()):
        return (
            "each row is one message; gather those of a dialogue in one row, as a list under "
            "'messages'"
        )
    if _asks(row.get("body")) or _asks(row.get("params")) or _asks(row.get("request")):
        return (
            "requests without replies; write each with its reply (the same custom_id in the output "
            "file), as {'request': ..., 'response': ...}"
        )
    if isinstance(row.get("response") or row.get("result"), Mapping) and "custom_id" in row:
        return (
            "replies without requests; write each with its request (the same custom_id in the "
            "input file), as {'request': ..., 'response': ...}"
        )
    if isinstance(row.get("prompt"), str | list) and not {"completion", "response"} & row.keys():
        return "prompts without replies, of which nothing can be learned; add 'completion'"
    if isinstance(history := row.get("history") or row.get("events"), list) and any(
        isinstance(entry, Mapping) and {"action", "observation"} & entry.keys() for entry in history
    ):
        return "events of an agent; write its dialogue as 'messages' of role and content"
    if isinstance(steps := row.get("steps"), list) and any(
        isinstance(step, Mapping) and "model_input_messages" in step for step in steps
    ):
        return (
            "steps of an agent's memory; write its dialogue as 'messages', which "
            "agent.write_memory_to_messages() returns"
        )
    texts = [key for key in ("text", "content") if isinstance(row.get(key), str)]
    if texts:
        return (
            f"{texts[0]!r} is one text; give the dialogue that is written in it as 'messages' of "
            "role and content"
        )
    return ""


def _is_message(value: Any) -> bool:
    return isinstance(value, Mapping) and {"role", "content"} <= value.keys()


def _asks(value: Any) -> bool:
    return isinstance(value, Mapping) and bool({"messages", "contents", "input"} & value.keys())
