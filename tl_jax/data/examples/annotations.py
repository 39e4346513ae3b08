"""What a prepared example keeps for a person who looks at it: key tokens and judged turns.

Both are tags of the example, and nothing that trains reads them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence

from tl_jax.data.examples.alternative_tokens import tokens_over
from tl_jax.data.mae.labels import TurnLabel
from tl_jax.data.render.paper_template import ReplySpan
from tl_jax.data.tokenize.offsets import Offsets

KEYS_TAG, TURNS_TAG = "key_positions", "turn_marks"


@dataclasses.dataclass(frozen=True)
class TurnAnnotation:
    """One assistant turn of an example, trained or left out.

    Attributes:
      turn: Number of the assistant turn, from 1.
      start: Its first token in the example.
      end: The token after its last.
      trained: Whether this example trains it, or a part of it.
      weight: Factor on the loss weight of its tokens.
      verdict: See ``mae.TurnLabel``.
      category: Category of the feedback.
      reason: The rule that decided.
    """

    turn: int
    start: int
    end: int
    trained: bool
    weight: float = 1.0
    verdict: str = ""
    category: str = ""
    reason: str = ""


def annotate_turns(
    labels: Iterable[TurnLabel],
    trained: Iterable[int],
    replies: Iterable[ReplySpan],
    offsets: Offsets,
    borders: Mapping[int, tuple[int, int]],
) -> tuple[TurnAnnotation, ...]:
    """Mark the turns of a sample that it trains or that MAE left out.

    Args:
      labels: All turns of the trajectory.
      trained: Message indices of the turns that the sample trains.
      replies: Turns in the sample; kept turns that only give context are not marked.
      offsets: Character ranges of its tokens.
      borders: First token and end of the replies that are pieces of their own, by message index.
    """
    judged = {label.message: label for label in labels}
    wanted = set(trained)
    marks = []
    for reply in replies:
        label = judged[reply.message]
        if label.kept and reply.message not in wanted:
            continue
        over = tokens_over(offsets, (reply.start, reply.stop))
        start, end = borders.get(reply.message, (over.start, over.stop))
        marks.append(
            TurnAnnotation(
                label.turn,
                start,
                end,
                reply.message in wanted,
                label.weight,
                label.verdict,
                label.category,
                label.reason,
            )
        )
    return tuple(marks)


def to_tags(keys: Sequence[int], marks: Sequence[TurnAnnotation]) -> dict[str, str]:
    """Return the tags that ``read_keys`` and ``read_turns`` read."""
    rows = [list(vars(mark).values()) for mark in marks]
    return {
        KEYS_TAG: ",".join(map(str, keys)),
        TURNS_TAG: json.dumps(rows, ensure_ascii=False, separators=(",", ":")),
    }


def read_keys(tags: Mapping[str, str]) -> frozenset[int]:
    """Return the positions of the key tokens in the example."""
    return frozenset(map(int, filter(None, tags[KEYS_TAG].split(","))))


def read_turns(tags: Mapping[str, str]) -> tuple[TurnAnnotation, ...]:
    """Return the marked turns in their order."""
    return tuple(TurnAnnotation(*row) for row in json.loads(tags[TURNS_TAG]))
