"""Tokens of the pieces between blanks, remembered: most words of a text have come before."""

from __future__ import annotations

import array
import collections
import json
import re
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import tokenizers

from tl_jax.data.tokenize.offsets import Offsets

Tokens = tuple[list[int], Offsets]
"""Ids, and for each its ``(start, end)`` in characters."""

_BLANK = re.compile(r" (?=[!-~])(?<=[!-~] )")
"""A blank between two printable characters of ASCII."""
_TOKEN_BYTES = 12
_LONG, _RECENT = 64, 128
"""Characters from which on a text is kept as a whole, and how many such texts are."""
_REMEMBERED = 1 << 22
"""Characters of all pieces kept, for some 100 MB; when there are more, all are forgotten."""
_CUTTING = (
    r"\s+",
    # GPT-2 and, with its declared steps, SmolLM2 have theirs in the step ByteLevel. Llama 3:
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    # Qwen 2 to 3:
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
)
"""Patterns whose matches are never continued by a blank, so that a word ends before it."""
_CUTTING_ELSEWHERE = (r"[^\w\s]+|_",)
"""Patterns whose matches have no blank in them; a cut before the blank is left to other steps."""


class TextPieces:
    """Encode texts piece by piece, where a tokenizer gives the pieces the tokens of the whole.

    The pieces begin with the blanks between two printable characters of ASCII. They can be encoded
    apart if the tokenizer always begins a word at such a blank, and cuts what comes before and
    after it without regard to the other side. That is known of the steps and patterns listed
    here, which most byte-level tokenizers declare; with any other the text is encoded as a whole.

    Args:
      backend: The tokenizer.
    """

    def __init__(self, backend: tokenizers.Tokenizer):
        self._backend = backend
        self._usable = _pieces_are_independent(backend)
        self._known: dict[str, dict[str, bytes]] = {"": {}, " ": {}}
        self._recent: collections.OrderedDict[str, Tokens] = collections.OrderedDict()
        self._room = _REMEMBERED

    def encode(self, text: str, shift: int = 0) -> Tokens:
        """Return the tokens of ``text``, with ``shift`` added to their places."""
        if len(text) < _LONG:
            ids, offsets = self._encoded(text)
            return ids, offsets.shifted(shift)
        # A dialogue that is shortened, or cut at another turn, has most of its texts again.
        if (known := self._recent.get(text)) is None:
            known = self._recent[text] = self._encoded(text)
            if len(self._recent) > _RECENT:
                self._recent.popitem(last=False)
        else:
            self._recent.move_to_end(text)
        ids, offsets = known
        return ids.copy(), offsets.shifted(shift)

    def _encoded(self, text: str) -> Tokens:
        if not self._usable:
            encoding = self._backend.encode(text, add_special_tokens=False)
            return encoding.ids, Offsets.of(encoding.offsets)
        pieces = _BLANK.split(text)
        rest = pieces[1:]
        found = [self._known[""].get(pieces[0]), *map(self._known[" "].get, rest)]
        if None in found:
            found = [*self._found(pieces[:1], ""), *self._found(rest, " ")]
        known = cast(list[bytes], found)
        count = len(known)
        tokens = np.frombuffer(b"".join(known), np.int32).reshape(-1, 3)
        counts = np.fromiter(map(len, known), np.int64, count) // _TOKEN_BYTES
        starts = np.zeros(count, np.int32)
        if rest:
            sizes = np.fromiter(map(len, pieces), np.int32, count)[:-1]
            sizes[1:] += 1  # for the blank before each but the first
            sizes.cumsum(out=starts[1:])
        return tokens[:, 0].tolist(), Offsets(tokens[:, 1:].T + starts.repeat(counts))

    def _found(self, pieces: list[str], before: str) -> list[bytes]:
        """Return the id, start and end of every token of each piece, as int32 in bytes.

        Args:
          pieces: The pieces.
          before: A blank if one stands before each of them, which is a part of it.
        """
        known = self._known[before]
        found = list(map(known.get, pieces))
        if None not in found:
            return cast(list[bytes], found)
        new = list(dict.fromkeys(p for p, at in zip(pieces, found, strict=True) if at is None))
        size = sum(map(len, new))
        if size > self._room:
            for pieces_known in self._known.values():
                pieces_known.clear()
            self._room = _REMEMBERED
            new = list(dict.fromkeys(pieces))
            size = sum(map(len, new))
        self._room -= size
        self._add(new, before)
        return list(map(known.__getitem__, pieces))

    def _add(self, pieces: list[str], before: str) -> None:
        """Encode pieces that are not known yet: as one text, as that gives the same tokens."""
        together: list[str] = []
        for piece in pieces:
            # Only the last piece of a text may end with another character.
            if before and "!" <= piece[-1] <= "~":
                together.append(piece)
            else:
                self._add_all([piece], before)
        if together:
            self._add_all(together, before)

    def _add_all(self, pieces: list[str], before: str) -> None:
        known, size = self._known[before], len(before)
        text = before + before.join(pieces)
        encoding = self._backend.encode(text, add_special_tokens=False)
        tokens = zip(encoding.ids, encoding.offsets, strict=True)
        start, end = 0, size + len(pieces[0])
        number = 0
        numbers: list[int] = []
        for token, (a, b) in tokens:
            while a >= end and number < len(pieces) - 1:
                known[pieces[number]] = array.array("i", numbers).tobytes()
                numbers = []
                number += 1
                start, end = end, end + size + len(pieces[number])
            numbers += (token, a - start, b - start)
        known[pieces[number]] = array.array("i", numbers).tobytes()
        for piece in pieces[number + 1 :]:  # whose characters have no tokens
            known[piece] = b""


def _pieces_are_independent(backend: tokenizers.Tokenizer) -> bool:
    """Return whether the declared steps are known never to look over a border of pieces."""
    for token in backend.get_added_tokens_decoder().values():
        # Found before the text is cut: one with blanks in it may lie over a border.
        mixed = " " in token.content and not token.content.isspace()
        if mixed or token.lstrip or token.rstrip or token.single_word:
            return False
    declared = json.loads(backend.normalizer.__getstate__()) if backend.normalizer else None
    if declared and declared["type"] != "NFC":  # it changes no printable character beside a blank
        return False
    if not isinstance(backend.model, tokenizers.models.BPE) or backend.model.dropout:
        return False
    if backend.pre_tokenizer is None:
        return False
    step = json.loads(backend.pre_tokenizer.__getstate__())
    steps = step["pretokenizers"] if step["type"] == "Sequence" else [step]
    if any(step["type"] == "ByteLevel" for step in steps[:-1]):
        return False  # it writes blanks as letters, which later steps do not know
    roles = list(map(_role, steps))
    return "unknown" not in roles and "cuts" in roles


def _role(step: Mapping[str, Any]) -> str:
    """Return ``"cuts"`` if a step always begins a word at the border, ``"minds its own"`` if not.

    ``"unknown"`` is a step that may look over the border.
    """
    if step["type"] == "ByteLevel" and not step["add_prefix_space"]:
        return "cuts" if step["use_regex"] else "minds its own"
    if step["type"] == "Digits":
        return "minds its own"
    if step["type"] == "Split" and step["behavior"] == "Isolated" and not step["invert"]:
        pattern = step["pattern"].get("Regex", "")
        if pattern in _CUTTING:
            return "cuts"
        if pattern in _CUTTING_ELSEWHERE:
            return "minds its own"
    return "unknown"
