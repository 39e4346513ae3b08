"""JSON-lines files of prompts, written and read one row at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tl_jax.calls.call import ToolCall, ToolSpec, tool_from_json, tool_to_json
from tl_jax.data.examples.build import Prompt

_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

_WRITTEN: list[str] = []
"""Every id met so far as text; looking it up is twice as fast as writing it."""


def prompt_lines(prompts: Iterable[Prompt]) -> Iterator[str]:
    """Yield rows that ``prompt_from_json`` reads, as lines of compact JSON."""
    last: tuple[list[int], str] = [], ""
    tools: tuple[ToolSpec, ...] | None = None
    written = ""
    for prompt in prompts:
        if prompt.tools is not tools:  # prompts of one trajectory share them
            tools, written = prompt.tools, _json([tool_to_json(tool) for tool in prompt.tools])
        golds = _json([_call(call) for call in prompt.golds])
        goal = golds if prompt.goal is prompt.golds else _json([_call(c) for c in prompt.goal])
        last = prompt.ids, _integers(prompt.ids, *last)
        yield (
            f'{{"id":{_json(prompt.id)},"ids":[{last[1]}],'
            f'"text":{_json(prompt.text)},"tools":{written},"golds":{golds},'
            f'"tags":{_json(dict(prompt.tags))},"reply_tokens":{prompt.reply_tokens},'
            f'"goal":{goal},"reply":{_json(prompt.reply)}}}\n'
        )


def prompt_from_json(row: dict[str, Any]) -> Prompt:
    """Build a Prompt from a row of ``prompt_lines``."""
    return Prompt(
        id=row["id"],
        ids=row["ids"],
        text=row["text"],
        tools=tuple(tool_from_json(tool) for tool in row["tools"]),
        golds=_calls(row["golds"]),
        tags=row["tags"],
        reply_tokens=row["reply_tokens"],
        goal=_calls(row["goal"]),
        reply=row["reply"],
    )


def read_prompts(path: str | os.PathLike[str]) -> Iterator[Prompt]:
    """Read a ``prompts.jsonl`` or ``validation_prompts.jsonl`` lazily."""
    with open(path, encoding="utf-8") as stream:
        for line in stream:
            yield prompt_from_json(json.loads(line))


def _call(call: ToolCall) -> dict[str, Any]:
    return {"name": call.name, "arguments": dict(call.arguments)}


def _calls(rows: Iterable[dict[str, Any]]) -> tuple[ToolCall, ...]:
    return tuple(ToolCall(call["name"], call["arguments"]) for call in rows)


def _integers(ids: list[int], begun: list[int], text: str) -> str:
    """Return ids as text, with the text of others where they go on from those: most prompts do."""
    size = len(begun)
    if not size or ids[:size] != begun:
        return _written(ids)
    return f"{text},{_written(ids[size:])}" if len(ids) > size else text


def _written(ids: Sequence[int]) -> str:
    try:
        return ",".join(map(_WRITTEN.__getitem__, ids))
    except IndexError:
        _WRITTEN.extend(map(str, range(len(_WRITTEN), max(ids) + 1)))
        return _written(ids)
