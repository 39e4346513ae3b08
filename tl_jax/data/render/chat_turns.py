"""Messages in the form in which a chat template reads them.

Templates differ in what they take: arguments as an object or as text, call ids of a certain form,
thoughts under one key or another. Which form a template takes is found out in its trial.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from tl_jax.data.trajectory import Message

THOUGHT_KEYS = ("reasoning_content", "reasoning", "thinking")
"""Keys under which templates read what a model thought before a turn."""
IN_CONTENT = "content"
"""Thoughts are handed over between ``<think>`` tags before the visible text."""
OPENED = "prompt"
"""The prompt opens a thought, which the template does not write; it is put before the reply."""

CALL_ID = "call{count:05d}"
"""Nine letters and digits, the only form that Mistral's templates take."""
CALL_ID_IN_TURN = "call{number:05d}"
"""The same, numbered within each turn, so that nothing depends on how many came before."""
NAMED_CALL_ID = "functions.{name}:{count}"
"""The form of templates that write the name of a call as a part of its id (Kimi)."""


@dataclasses.dataclass(frozen=True)
class TurnForm:
    """How messages are handed to a template.

    Attributes:
      text_arguments: The arguments of a call are JSON text, not an object.
      call_id: Form of the ids of calls, of the name, the number in the turn and in the dialogue.
      thoughts: Where thoughts go, one of ``THOUGHT_KEYS``, ``IN_CONTENT`` and ``OPENED``; empty:
        nowhere.
      listed_results: The content of a result is a list of parts, not a text.
    """

    text_arguments: bool = False
    call_id: str = CALL_ID
    thoughts: str = ""
    listed_results: bool = False


def as_turns(
    messages: Sequence[Message], form: TurnForm, preambles: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the turns as a template reads them; results refer to their calls.

    Args:
      messages: The dialogue.
      form: What the template takes.
      preambles: For each message the visible text that is written before its calls.
    """
    turns: list[dict[str, Any]] = []
    waiting: list[dict[str, Any]] = []
    count = 0
    for message, preamble in zip(messages, preambles, strict=True):
        turn: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.role == "assistant":
            turn["content"] = preamble if message.calls else message.content
            waiting = []
            for number, call in enumerate(message.calls):
                arguments: Any = dict(call.arguments)
                if form.text_arguments:
                    arguments = json.dumps(arguments, ensure_ascii=False)
                function = {"name": call.name, "arguments": arguments}
                call_id = form.call_id.format(name=call.name, number=number, count=count)
                waiting.append({"type": "function", "id": call_id, "function": function})
                count += 1
            if waiting:
                turn["tool_calls"] = list(waiting)
            _add_thoughts(turn, message.thoughts, form)
        elif message.role == "tool":
            if form.listed_results:
                turn["content"] = [{"type": "text", "text": message.content}]
            if waiting:
                answered = waiting.pop(0) if len(waiting) > 1 else waiting[0]
                turn["name"] = answered["function"]["name"]
                turn["tool_call_id"] = answered["id"]
        turns.append(turn)
    return turns


def _add_thoughts(turn: dict[str, Any], thoughts: str, form: TurnForm) -> None:
    if thoughts and form.thoughts == IN_CONTENT:
        turn["content"] = f"<think>\n{thoughts}\n</think>\n\n{turn['content']}"
    elif thoughts and form.thoughts in THOUGHT_KEYS:
        turn[form.thoughts] = thoughts
