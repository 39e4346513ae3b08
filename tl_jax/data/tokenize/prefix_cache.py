"""Tokens of the starts that many texts share, such as a list of tools before the dialogue."""

from __future__ import annotations

import collections
import json
from collections.abc import Mapping
from typing import Any

import tokenizers

from tl_jax.data.tokenize.offsets import Offsets
from tl_jax.data.tokenize.word_cache import TextPieces, Tokens

_REMEMBERED = 256
"""Starts kept; the one not used for the longest time goes first."""
_OVERLAP = 32
"""Fewest characters of a start that are encoded again with what follows it."""
_LOOKING_BACK = ("(?<", "^", "\\A", "\\G", "\\K", "\\b", "\\B")


class TextStarts:
    """Encode texts, and remember the tokens of a start when it comes for the second time.

    They are kept up to a border between words, some way before the end of the start; the rest is
    encoded with each text. A tokenizer that cuts a text into words from left to right and looks
    ahead, never back, gives the same ids for both parts as for the whole. Others are told apart by
    their declared steps, and the first use of every start is compared with the whole text. Where
    texts are encoded in pieces, the border is that of two pieces, and nothing has to be compared.

    Args:
      backend: The tokenizer; control tokens in the text are plain text to it.
      pieces: What encodes the rest of a text.
    """

    def __init__(self, backend: tokenizers.Tokenizer, pieces: TextPieces):
        self._backend = backend
        self._pieces = pieces
        declared = json.loads(backend.to_str())
        self._usable = (
            declared["normalizer"] is None
            and not declared["model"].get("dropout")
            and _looks_ahead_only(declared["pre_tokenizer"])
        )
        added = [t["content"] for t in declared["added_tokens"] if not t["special"]]
        # A token found before the text is cut may reach over the border; this one cannot.
        self._overlap = max([_OVERLAP, *(len(content) + 1 for content in added)])
        self._known: collections.OrderedDict[str, tuple[int, Tokens] | None]
        self._known = collections.OrderedDict()

    def encode(self, text: str, shared: int) -> Tokens:
        """Return the tokens of ``text``, whose first ``shared`` characters others start with."""
        start = text[:shared]
        if at := self._pieces.border(start):
            return self._apart(text, start, at)
        if not self._usable or shared <= self._overlap:
            return self._whole(text)[0]
        if (known := self._known.get(start)) is not None:
            self._known.move_to_end(start)
            return self._continued(text, *known)
        if start not in self._known:
            self._known[start] = None
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
            return self._whole(text)[0]
        tokens, words = self._whole(text)
        if (found := self._border(start, tokens, words)) is not None:
            if self._continued(text, *found) == tokens:
                self._known[start] = found
            else:
                self._usable = False
        return tokens

    def _apart(self, text: str, start: str, at: int) -> Tokens:
        """Encode a text whose pieces are independent; ``at`` is a border between two of them."""
        if (known := self._known.get(start)) is None:
            known = self._known[start] = at, self._pieces.encode(text[:at])
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(start)
        return self._continued(text, *known)

    def _whole(self, text: str) -> tuple[Tokens, tokenizers.Encoding]:
        encoding = self._backend.encode(text, add_special_tokens=False)
        return (encoding.ids, Offsets.of(encoding.offsets)), encoding

    def _continued(self, text: str, at: int, tokens: Tokens) -> Tokens:
        ids, offsets = tokens
        more_ids, more_offsets = self._pieces.encode(text[at:], at)
        return ids + more_ids, Offsets.joined([offsets, more_offsets])

    def _border(
        self, start: str, tokens: Tokens, encoding: tokenizers.Encoding
    ) -> tuple[int, Tokens] | None:
        """Return the last safe border between words of ``start``, and the tokens before it."""
        ids, offsets = tokens
        words = encoding.word_ids
        for number in range(len(ids) - 1, 0, -1):
            at = offsets[number][0]
            if (
                at <= len(start) - self._overlap
                and offsets[number - 1][1] <= at
                and None not in (words[number - 1], words[number])
                and words[number - 1] != words[number]
                and not start[at:].isspace()
            ):
                return at, (ids[:number], offsets[:number])
        return None


def _looks_ahead_only(step: Mapping[str, Any] | None) -> bool:
    """Return whether a step that cuts a text into words is known never to look back."""
    if not step:
        return False
    kind = step["type"]
    if kind == "Sequence":
        return all(_looks_ahead_only(part) for part in step["pretokenizers"])
    if kind == "ByteLevel":
        return not step["add_prefix_space"]
    if kind == "Split":
        pattern = step["pattern"].get("Regex", "^")
        looks_back = any(mark in pattern.replace("[^", "[") for mark in _LOOKING_BACK)
        return step["behavior"] == "Isolated" and not looks_back
    return kind == "Digits"
