"""Tokens of what could have stood in place of a piece of a reply, in the same context.

Rule for borders: the tokens of a piece are all that overlap its characters. One that straddles a
border (``_(`` after a name that ends in an underscore, ``(c`` before the parameter ``city``)
belongs to the piece, and alternatives are cut the same way. Nothing else is assumed about the
tokenizer.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tl_jax.calls.call import ToolCall
from tl_jax.calls.call_text import Span
from tl_jax.calls.render import render_call
from tl_jax.data.tokenize.offsets import Offsets
from tl_jax.data.tokenize.tokenizer import Tokenizer

# Tokens by which the context of a piece is widened until the piece has in it the tokens that it
# has in the reply. The last bounds the work for a piece of a long reply.
_REACHES = (0, 2, 8, 32)
_MOST_REMEMBERED = 200_000
_DEEPEST_CHOICE = 4


def tokens_over(offsets: Offsets, span: Span) -> range:
    """Return the positions of the tokens that overlap a character span."""
    return offsets.over(*span)


@dataclasses.dataclass(frozen=True)
class AlternativeNames:
    """Tokens of alternative pieces, remembered by left context, piece and right context."""

    tokenizer: Tokenizer
    known: dict[tuple[str, str, str], tuple[int, ...]] = dataclasses.field(
        default_factory=dict, repr=False
    )

    def tokens(self, left: str, piece: str, right: str, *, keep: bool = True) -> tuple[int, ...]:
        """Return the tokens that overlap ``piece`` when it is written between the other two.

        Args:
          left: Text before it, not at the start of a sequence.
          piece: A tool name or a value.
          right: Text after it.
          keep: Remember the answer; for contexts that come again.
        """
        found = self.known.get((left, piece, right))
        if found is None:
            ids, offsets = self.tokenizer.encode_continuation(left + piece + right)
            over = tokens_over(offsets, (len(left), len(left) + len(piece)))
            found = tuple(ids[over.start : over.stop])
            if keep:
                if len(self.known) >= _MOST_REMEMBERED:
                    self.known.clear()
                self.known[left, piece, right] = found
        return found

    def beside(
        self,
        text: str,
        ids: Sequence[int],
        offsets: Offsets,
        span: Span,
        near: int,
        ahead: int,
        others: Iterable[str],
    ) -> list[tuple[int, ...]]:
        """Return the tokens of every other piece, had it been written in place of a span.

        Args:
          text: Rendered text.
          ids: Tokens of the reply.
          offsets: Character ranges in ``text`` of those tokens.
          span: The piece that is replaced.
          near: Character at which its context begins.
          ahead: Characters after the span that belong to it. Both sides are widened where the
            tokenizer needs it to give the piece the tokens that it has in the reply.
          others: What could stand in its place.
        """
        left, right, keep = self._context(text, ids, offsets, span, near, ahead)
        return [self.tokens(left, other, right, keep=keep) for other in others]

    def _context(
        self,
        text: str,
        ids: Sequence[int],
        offsets: Offsets,
        span: Span,
        near: int,
        ahead: int,
    ) -> tuple[str, str, bool]:
        """Return a short context that gives the piece its tokens, and whether to remember it."""
        over = tokens_over(offsets, span)
        piece, tokens = text[slice(*span)], tuple(ids[over.start : over.stop])
        first = tokens_over(offsets, (near - 1, near)).start
        start, stop = offsets[0][0], offsets[-1][1]
        best = text[start : span[0]], text[span[1] : stop], False
        for reach in _REACHES:
            begin = offsets[max(first - reach, 0)][0]
            end = offsets[min(over.stop - 1 + reach, len(offsets) - 1)][1]
            left, right = (
                text[begin : span[0]],
                text[span[1] : min(max(end, span[1] + ahead), stop)],
            )
            try:
                same = self.tokens(left, piece, right, keep=not reach) == tokens
            except ValueError:  # this tokenizer cannot begin a piece there
                continue
            best = left, right, not reach
            if same:
                break
        return best


def enumerated(schema: Mapping[str, Any], depth: int = 0) -> list[Any]:
    """Return the values that a parameter's schema lists, those of its alternatives included."""
    values = list(schema["enum"]) if isinstance(schema.get("enum"), (list, tuple)) else []
    if "const" in schema:
        values.append(schema["const"])
    if depth < _DEEPEST_CHOICE:
        for key in ("anyOf", "oneOf"):
            choices = schema.get(key)
            for choice in choices if isinstance(choices, (list, tuple)) else ():
                if isinstance(choice, Mapping):
                    values += enumerated(choice, depth + 1)
    return values


def alternative_values(gold: Any, written: str, values: Iterable[Any]) -> list[str]:
    """Return the other values as text, written the way the gold value is.

    Args:
      gold: The value of the call.
      written: Its text in the reply. Of the ways to write a value (Python literal, JSON with and
        without escapes, bare text) the first that gives this text is taken; if none does, as
        for a value that the template shortens, there are no alternatives.
      values: All values the parameter may take.

    Returns:
      The distinct texts but for that of the gold value, in order.
    """
    for form in _FORMS:
        if _text(form, gold) == written:
            texts = (_text(form, value) for value in values)
            return [text for text in dict.fromkeys(texts) if text and text != written]
    return []


def _python(value: Any) -> str:
    return render_call(ToolCall("f", {"v": value}), "released")[len("f(v = ") : -1]


def _bare(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


_FORMS: tuple[Callable[[Any], str], ...] = (
    _python,
    lambda value: json.dumps(value, ensure_ascii=False),
    json.dumps,
    _bare,
)


def _text(form: Callable[[Any], str], value: Any) -> str:
    """Return a value as text; empty if it has none in this form."""
    try:
        text = form(value)
        text.encode()
    except (ValueError, TypeError, RecursionError):
        return ""
    return text
