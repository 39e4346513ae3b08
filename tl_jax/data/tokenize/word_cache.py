"""Tokens of the pieces between blanks, remembered: most words of a text have come before.

A piece that is new, such as JSON without blanks, is mostly made of words that are not: where it is
plain ASCII it is cut into words as the tokenizer cuts it, and only new words are encoded.
"""

from __future__ import annotations

import array
import collections
import dataclasses
import json
import re
from collections.abc import Collection, Mapping
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

_PLAIN = re.compile(r"[\t\n\r -~]*")
"""Text that the patterns below cut as the tokenizer does."""
_MOST_WORDS = 1 << 17
"""Words remembered; when there are more, all are forgotten."""


def _like_llama(digits: str) -> str:
    return (
        r"'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])|[^\r\nA-Za-z0-9]?[A-Za-z]+|"
        rf"{digits}| ?[^\sA-Za-z0-9]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


_SHORT = "'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+"
_WORDS = {
    (f"Split {_CUTTING[1]}", "ByteLevel"): _like_llama("[0-9]{1,3}"),
    (f"Split {_CUTTING[2]}", "ByteLevel"): _like_llama("[0-9]"),
    ("ByteLevel regex",): rf"{_SHORT}| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+",
    # A digit ends what comes before it as the end of the text does.
    ("Digits", "ByteLevel regex"): (rf"[0-9]|{_SHORT}| ?[^\sA-Za-z0-9]+|\s+(?![^\s0-9])|\s+"),
    (rf"Split {_CUTTING[0]}", f"Split {_CUTTING_ELSEWHERE[0]}", "Digits", "ByteLevel"): (
        r"\s+|[^\w\s]+|_|[0-9]|[A-Za-z]+"
    ),
}
"""For declared steps, what cuts plain text into the words in which they leave it."""


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
        self._cut = _cut_into_words(backend) if self._usable else None
        self._known: dict[str, dict[str, bytes]] = {"": {}, " ": {}}
        self._words: dict[str, bytes] = {}
        self._recent: collections.OrderedDict[str, Tokens] = collections.OrderedDict()
        self._room = _REMEMBERED

    def border(self, text: str) -> int:
        """Return the last place before which a text can be encoded apart; 0 if there is none."""
        at = text.rfind(" ", 0, -1) if self._usable else 0
        while at > 0 and _BLANK.match(text, at) is None:
            at = text.rfind(" ", 0, at)
        return max(at, 0)

    def count(self, text: str) -> int:
        """Return how many tokens ``text`` has."""
        if not self._usable:
            return len(self.encode(text)[0])
        first, *rest = _BLANK.split(text)
        found = (*self._found([first], ""), *self._found(rest, " "))
        return sum(map(len, found)) // _TOKEN_BYTES

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
        known = self._found(pieces[:1], "") + self._found(rest, " ")
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
        missing, at = [], -1
        for _ in range(found.count(None)):
            at = found.index(None, at + 1)
            missing.append(at)
        if missing:
            new = list(dict.fromkeys(map(pieces.__getitem__, missing)))
            size = sum(map(len, new))
            if size > self._room:
                for pieces_known in self._known.values():
                    pieces_known.clear()
                self._room = _REMEMBERED
            self._room -= size
            self._add(new, before)
            for at in missing:
                found[at] = known[pieces[at]]
        return cast(list[bytes], found)

    def _add(self, pieces: list[str], before: str) -> None:
        """Encode pieces that are not known yet: as one text, as that gives the same tokens."""
        cut = self._cut
        plain: list[str] = []
        if cut is not None and cut.knows(" ".join(pieces)):
            plain, pieces = pieces, []
        elif cut is not None:
            plain = [piece for piece in pieces if cut.knows(piece)]
            pieces = [piece for piece in pieces if not cut.knows(piece)]
        for group, add in ((plain, self._add_words), (pieces, self._add_all)):
            together: list[str] = []
            for piece in group:
                # Only the last piece of a text may end with another character.
                if before and "!" <= piece[-1] <= "~":
                    together.append(piece)
                else:
                    add([piece], before)
            if together:
                add(together, before)

    def _add_words(self, pieces: list[str], before: str) -> None:
        """Put pieces together from the tokens of their words."""
        assert self._cut is not None
        words = self._cut.words(before + before.join(pieces))
        if not words:  # the empty text
            self._known[before][pieces[0]] = b""
            return
        found = list(map(self._words.get, words))
        if None in found:
            self._encode_words({word for word, at in zip(words, found, strict=True) if at is None})
            found = list(map(self._words.__getitem__, words))
        known = cast(list[bytes], found)
        sizes = np.fromiter(map(len, words), np.int32, len(words))
        ends = sizes.cumsum(dtype=np.int32)
        counts = np.fromiter(map(len, known), np.int64, len(words))
        lengths = np.fromiter(map(len, pieces), np.int32, len(pieces)) + np.int32(len(before))
        piece_ends = lengths.cumsum(dtype=np.int32)
        lasts = ends.searchsorted(piece_ends)
        tokens = np.frombuffer(b"".join(known), np.int32).reshape(-1, 3).copy()
        tokens[:, 1:] += (ends - sizes).repeat(counts // _TOKEN_BYTES)[:, None]
        stops = counts.cumsum()[lasts].tolist()
        of_pieces = np.zeros(len(tokens), np.int32)
        for start, stop, begin in zip(stops, stops[1:], piece_ends.tolist(), strict=False):
            of_pieces[start // _TOKEN_BYTES : stop // _TOKEN_BYTES] = begin
        tokens[:, 1:] -= of_pieces[:, None]
        data = tokens.tobytes()
        kept = self._known[before]
        for piece, start, stop in zip(pieces, [0, *stops], stops, strict=False):
            kept[piece] = data[start:stop]

    def _encode_words(self, words: Collection[str]) -> None:
        if len(self._words) + len(words) > _MOST_WORDS:
            self._words.clear()
        for word in words:
            encoding = self._backend.encode(word, add_special_tokens=False)
            offsets = zip(encoding.ids, encoding.offsets, strict=True)
            numbers = [number for token, (a, b) in offsets for number in (token, a, b)]
            self._words[word] = array.array("i", numbers).tobytes()

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


@dataclasses.dataclass(frozen=True)
class _Cut:
    """How a tokenizer cuts plain text into words.

    Attributes:
      pattern: Matches every word.
      added: Matches the tokens that are found before the text is cut.
    """

    pattern: re.Pattern[str]
    added: re.Pattern[str]

    def knows(self, piece: str) -> bool:
        """Return whether a piece is cut as the pattern says."""
        return _PLAIN.fullmatch(piece) is not None and self.added.search(piece) is None

    def words(self, text: str) -> list[str]:
        """Return the words of a text, one behind the other."""
        return self.pattern.findall(text)


def _cut_into_words(backend: tokenizers.Tokenizer) -> _Cut | None:
    """Return how a tokenizer with independent pieces cuts them; None where it is not known."""
    pattern = _WORDS.get(tuple(_step_name(step) for step in _steps(backend)))
    if pattern is None:
        return None
    contents = [
        token.content
        for token in backend.get_added_tokens_decoder().values()
        if token.content and not (token.special and backend.encode_special_tokens)
    ]
    added = re.compile("|".join(map(re.escape, contents)) or "(?!)")
    return _Cut(re.compile(pattern, re.ASCII), added)


def _step_name(step: Mapping[str, Any]) -> str:
    if step["type"] == "Split":
        return f"Split {step['pattern'].get('Regex', '')}"
    if step["type"] == "ByteLevel" and step["use_regex"]:
        return "ByteLevel regex"
    if step["type"] == "Digits" and not step["individual_digits"]:
        return "Digits together"
    return step["type"]


def _steps(backend: tokenizers.Tokenizer) -> list[dict[str, Any]]:
    """Return the declared steps that cut a text."""
    if backend.pre_tokenizer is None:
        return []
    step = json.loads(backend.pre_tokenizer.__getstate__())
    return step["pretokenizers"] if step["type"] == "Sequence" else [step]


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
    steps = _steps(backend)
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
