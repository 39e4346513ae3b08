"""Import rows of ``prompt`` and ``completion``, as TRL's: only the completion is trained.

Either is a list of messages, or a text: that of a prompt is the user's, of a completion the
assistant's. A prompt that is the text of a whole dialogue, with the marks of some template in it,
is refused: as a user's turn it would be trained inside another template.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tl_jax.data.importers import openai
from tl_jax.data.importers.openai_form import Entry
from tl_jax.data.importers.unread import changed
from tl_jax.data.trajectory import Trajectory
from tl_jax.errors import RowError

NAME = "prompt_completion"

_MARKS = re.compile(
    r"<\|[\w/ -]{1,40}\|>|\[/?INST\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>|<｜[^｜\n]{1,40}｜>"
    r"|^\s*### ?(?:Instruction|Response|Human|Assistant)\b"
    r"|^\s*(?:USER|ASSISTANT|Human|Assistant|User): ",
    re.MULTILINE,
)


def recognise(row: Any) -> str:
    """Return why ``row`` looks like this format, or an empty string."""
    if not isinstance(row, Mapping) or not {"prompt", "completion"} <= row.keys():
        return ""
    kinds = []
    for key in ("prompt", "completion"):
        value = row.get(key)
        if isinstance(value, str):
            kinds.append("text")
        elif isinstance(value, list) and all(isinstance(entry, Mapping) for entry in value):
            kinds.append("messages")
        else:
            return ""
    return f"prompt of {kinds[0]} and completion of {kinds[1]}"


def trajectory(row: Mapping[str, Any], *, source: str, line: int) -> Trajectory:
    """Convert one row.

    Raises:
      RowError: Messages or tools that cannot be read, a prompt that is a whole dialogue, or a
        completion that is marked as unwanted.
    """
    prompt = _entries(row.get("prompt"), "prompt", "user")
    completion = _entries(row.get("completion"), "completion", "assistant")
    context = [
        changed(entry, weight=0) if _is_trained(entry.get("role")) else entry for entry in prompt
    ]
    found = changed(row, messages=[*context, *completion])
    return openai.trajectory(found, source=source, line=line)


def refuse_marks(text: str, key: str) -> None:
    """Refuse a text that is a whole dialogue, written in some template.

    Raises:
      RowError: It has marks of one in it.
    """
    if found := _MARKS.search(text):
        raise RowError(
            f"'{key}' is a text with marks of a template ({found[0].strip()!r}); give its "
            "messages, as a list of role and content"
        )


def _is_trained(role: Any) -> bool:
    return str(role).lower() not in ("system", "developer", "user", "human", "tool", "function")


def _entries(value: Any, key: str, role: str) -> list[Entry]:
    if isinstance(value, str):
        if not value.strip():
            raise RowError(f"'{key}' is empty")
        refuse_marks(value, key)
        # Completions of this kind begin with the blank that stood between the two texts.
        return [{"role": role, "content": value.strip()}]
    if not isinstance(value, list) or not all(isinstance(entry, Mapping) for entry in value):
        raise RowError(f"'{key}' must be a text or a list of messages")
    return value
