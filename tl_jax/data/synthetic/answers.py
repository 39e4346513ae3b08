"""Mark the parts of a pre-training document that follow from the text before them."""

from __future__ import annotations

import dataclasses
from typing import Any

# Round the parts that follow from the text before them; ``unmark`` takes them out again.
_OPEN, _CLOSE = "\x02", "\x03"


@dataclasses.dataclass(frozen=True)
class BaseText:
    """A document.

    Attributes:
      text: Plain text.
      answers: (start, end) of the parts that follow from the text before them, in order.
    """

    text: str
    answers: tuple[tuple[int, int], ...]


def answer(text: str) -> str:
    """Mark a text that follows from what stands before it."""
    return f"{_OPEN}{text}{_CLOSE}"


def unmark(marked: str) -> BaseText:
    """Turn the marks of a document into spans."""
    text, spans = "", []
    for piece in marked.split(_OPEN):
        inside, mark, outside = piece.partition(_CLOSE)
        if mark:
            spans.append((len(text), len(text) + len(inside)))
        text += inside + outside
    return BaseText(text, tuple(spans))


def as_words(value: Any, quoted: bool) -> str:
    """Say a value, strings between quotes or bare."""
    if isinstance(value, str):
        return f"'{value}'" if quoted else value
    if isinstance(value, list):
        return "[" + ", ".join(f"'{item}'" for item in value) + "]" if quoted else ", ".join(value)
    return str(value)
