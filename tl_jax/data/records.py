"""JSON-lines files of examples and prompts, written and read one row at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

from tl_jax.calls.call import ToolCall, tool_from_schema, tool_to_schema
from tl_jax.data.examples import Example, Prompt


def example_to_json(example: Example) -> dict[str, Any]:
    """Return a JSON-ready dict, a row that ``pipeline.make_loader`` reads."""
    return {
        "id": example.id,
        "ids": example.ids,
        "weights": example.weights,
        "tags": dict(example.tags),
    }


def prompt_to_json(prompt: Prompt) -> dict[str, Any]:
    """Return a JSON-ready dict; inverse of ``prompt_from_json``."""
    return {
        "id": prompt.id,
        "ids": prompt.ids,
        "text": prompt.text,
        "tools": [tool_to_schema(tool) for tool in prompt.tools],
        "golds": [{"name": c.name, "arguments": dict(c.arguments)} for c in prompt.golds],
        "tags": dict(prompt.tags),
    }


def prompt_from_json(row: dict[str, Any]) -> Prompt:
    """Build a Prompt from ``prompt_to_json`` output."""
    return Prompt(
        id=row["id"],
        ids=row["ids"],
        text=row["text"],
        tools=tuple(tool_from_schema(tool) for tool in row["tools"]),
        golds=tuple(ToolCall(call["name"], call["arguments"]) for call in row["golds"]),
        tags=row["tags"],
    )


def read_prompts(path: str | os.PathLike[str]) -> Iterator[Prompt]:
    """Read a ``prompts.jsonl`` or ``validation_prompts.jsonl`` lazily."""
    with open(path, encoding="utf-8") as stream:
        for line in stream:
            yield prompt_from_json(json.loads(line))
