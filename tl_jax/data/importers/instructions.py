"""Import rows of two texts, a question and its answer, under any of their common names.

Alpaca's ``instruction``, ``input`` and ``output``; ``query`` and ``response``; ``question`` and
``answer``; with ``history``, a list of earlier pairs, and ``system``. Rows under ``conversation``
may also be rounds of ``input`` and ``output``. What the model said earlier is trained, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tl_jax.data.importers import openai
from tl_jax.data.importers.openai_form import Entry
from tl_jax.data.importers.prompt_completion import refuse_marks
from tl_jax.data.importers.unread import changed
from tl_jax.data.trajectory import Trajectory
from tl_jax.errors import RowError

NAME = "instructions"

_PAIRS = (
    ("instruction", "output"), ("instruction", "response"), ("query", "response"),
    ("prompt", "response"), ("question", "response"), ("question", "answer"), ("input", "output"),
    ("human", "assistant"), ("user", "assistant"),
)  # fmt: skip
"""Keys of the two texts."""
_CONTEXTS = {"instruction": ("input", "context"), "question": ("context",)}
"""Keys of what an instruction or a question is about."""
_ROUNDS = ("conversation", "conversations", "dialogue", "turns")
_OF_OTHERS = frozenset(
    ("messages", "contents", "chosen", "rejected", "trajectory", "events", "steps", "answers",
     "choices", "options", "input_ids", "ground_truth", "reward_model", "label")
)  # fmt: skip
"""Keys of rows that are something else: dialogues, pairs to prefer, tests."""
_LOSS = "output_with_loss"


def recognise(row: Any) -> str:
    """Return why ``row`` looks like this format, or an empty string."""
    if not isinstance(row, Mapping) or _OF_OTHERS & row.keys():
        return ""
    if pair := _pair(row):
        return f"{pair[0]} and {pair[1]}"
    for key in _ROUNDS:
        rounds = row.get(key)
        if isinstance(rounds, list) and rounds and all(map(_pair, rounds)):
            return f"{key} in rounds of {' and '.join(_pair(rounds[0]))}"
    return ""


def trajectory(row: Mapping[str, Any], *, source: str, line: int) -> Trajectory:
    """Convert one row.

    Raises:
      RowError: No question or no answer, a history that is none, or a question that is a whole
        dialogue.
    """
    entries: list[Entry] = []
    rounds: Sequence[Any] = (row,)
    if not _pair(row):
        key = next((key for key in _ROUNDS if isinstance(row.get(key), list)), "")
        rounds = row.get(key) or ()
    for number, past in enumerate(_history(row.get("history"))):
        entries += _turns(past[0], past[1], f"history {number}")
    for one in rounds:
        pair = _pair(one)
        if not pair:
            raise RowError("no text of a question and of its answer")
        if one is not row and one.get("system"):
            entries.append({"role": "system", "content": one["system"]})
        question, answer = _turns(_question(one, pair), one[pair[1]], pair[0])
        if one.get(_LOSS) is False:
            answer["weight"] = 0
        entries += [question, answer]
    return openai.trajectory(changed(row, messages=entries), source=source, line=line)


def _pair(row: Any) -> tuple[str, str] | tuple[()]:
    """Return the keys of the two texts of a row, or nothing."""
    if not isinstance(row, Mapping):
        return ()
    for asked, answered in _PAIRS:
        if isinstance(_peek(row, asked), str) and isinstance(_peek(row, answered), str):
            return asked, answered
    return ()


def _question(row: Mapping[str, Any], pair: Sequence[str]) -> str:
    text = row[pair[0]]
    for key in _CONTEXTS.get(pair[0], ()):
        if isinstance(_peek(row, key), str):
            text = "\n".join(filter(None, (text.strip(), row[key].strip())))
    return text


def _turns(question: Any, answer: Any, key: str) -> list[Entry]:
    for text in (question, answer):
        if not isinstance(text, str) or not text.strip():
            raise RowError(f"{key}: a question or an answer that is empty or no text")
    refuse_marks(question, key)
    return [
        {"role": "user", "content": question.strip()},
        {"role": "assistant", "content": answer.strip()},
    ]


def _history(value: Any) -> list[Any]:
    if not value:
        return []
    if not isinstance(value, list) or not all(
        isinstance(pair, list) and len(pair) == 2 for pair in value
    ):
        raise RowError("'history' must be a list of pairs of a question and its answer")
    return value


def _peek(holder: Any, key: str) -> Any:
    return dict.get(holder, key) if isinstance(holder, dict) else None
