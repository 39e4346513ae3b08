"""Remember where the replies of a dialogue are in the texts that are written of it.

To find a reply a chat template writes the turns through it twice. Without a memory that would be
done again for every longer or shortened text that begins with the same turns.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable

from tl_jax.data.render.paper_template import CallSpan


@dataclasses.dataclass(frozen=True)
class CachedReply:
    """Where a reply is in a text of the turns through it.

    Attributes:
      start, stop, end: First character of the reply, of its stop token, and of what follows.
      digest: Of the text before ``end``; a text that begins with it has the reply in this place.
      text: The reply with its stop token.
      calls: Its calls, in characters of the reply without marks.
    """

    start: int
    stop: int
    end: int
    digest: bytes
    text: str
    calls: tuple[CallSpan, ...]


class ReplyCache:
    """The places of one dialogue's replies, for one template and one list of tools.

    Attributes:
      known: The reply by the number of the turns through it, or why it cannot be written.
    """

    def __init__(self) -> None:
        self.known: dict[int, CachedReply | str] = {}
        self._numbers: dict[tuple[int | str, int], int] = {}

    def numbers(self, mark: str, turns: Iterable[int]) -> list[int]:
        """Return for each turn the number of the turns through it: of all that begin a text.

        Args:
          mark: The mark in the control tokens of the text.
          turns: What tells each turn of the text from the others of the dialogue.
        """
        numbers: list[int] = []
        before: int | str = mark
        for turn in turns:
            before = self._numbers.setdefault((before, turn), len(self._numbers))
            numbers.append(before)
        return numbers


def digests_before(text: str, ends: Iterable[int]) -> dict[int, bytes]:
    """Return a digest of the text before each of ``ends``; what is beyond the text is left off."""
    running, at = hashlib.sha256(), 0
    found = {}
    for end in sorted(set(ends)):
        running.update(text[at:end].encode("utf-8", "surrogatepass"))
        found[end] = running.digest()
        at = end
    return found
