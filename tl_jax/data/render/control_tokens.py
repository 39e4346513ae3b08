"""Keep control tokens typed by users and tools apart from those that a template writes.

A text that goes into a template gets one mark inside each control token in it; the mark is a
character that the dialogue does not have. In the rendered text a control token without a mark is
the template's own. The marks are then taken out, and where they stood the text is cut before it is
encoded, so that no control token can come of what was typed.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Iterable, Mapping, Set
from typing import Any

_PRIVATE_USE = range(0xE000, 0xF900)
_ANY_PRIVATE = re.compile("[\ue000-\uf8ff]")
_LOOKS_LIKE_CONTROL = re.compile(r"<[|｜].+[|｜]>", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class ControlTokens:
    """Control tokens as text, and the marking of texts that have one.

    Attributes:
      texts: The tokens.
    """

    texts: frozenset[str]

    @functools.cached_property
    def pattern(self) -> re.Pattern[str]:
        """Matches any of them, the longest first."""
        longest_first = sorted(self.texts, key=lambda text: (-len(text), text))
        return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")

    @functools.cached_property
    def _beginnings(self) -> frozenset[str]:
        return frozenset(text[:size] for text in self.texts for size in range(1, len(text)))

    @functools.cached_property
    def _longest(self) -> int:
        return max(map(len, self.texts), default=1)

    def mark(self, value: Any, mark: str) -> Any:
        """Return a JSON-like value with a mark in every control token of its strings.

        A string that ends like the beginning of a control token ends with a mark, so that what
        the template writes next cannot complete it.
        """
        search = self._first_characters.search

        def marked(value: Any) -> Any:
            # A list of tools has thousands of strings, few of which have such a character.
            if type(value) is str:
                return self._mark(value, mark) if search(value) else value
            if isinstance(value, Mapping):
                return {
                    self._mark(key, mark) if search(key) else key: (
                        marked(item) if type(item) is not str or search(item) else item
                    )
                    for key, item in value.items()
                }
            if isinstance(value, (list, tuple)):
                return [marked(item) for item in value]
            return self._mark(value, mark) if isinstance(value, str) else value

        return marked(value)

    @functools.cached_property
    def _first_characters(self) -> re.Pattern[str]:
        firsts = "".join(sorted({text[0] for text in self.texts}))
        return re.compile(f"[{re.escape(firsts)}]" if firsts else "(?!)")

    def _mark(self, text: str, mark: str) -> str:
        if not self._first_characters.search(text):
            return text  # as most texts are
        while self.pattern.search(text):
            text = self.pattern.sub(lambda found: f"{found[0][0]}{mark}{found[0][1:]}", text)
        tail = text[-self._longest :]
        cut = any(tail[at:] in self._beginnings for at in range(len(tail)))
        return text + mark if cut else text


def control_tokens(added: Mapping[str, bool], template: str) -> ControlTokens:
    """Return the tokens that only a template may write.

    Args:
      added: Text of every added token, and whether it is special.
      template: Source of the template. Added tokens that are not special, such as runs of blanks,
        are control tokens if the template names them or if they look it (``<|name|>``).
    """
    return ControlTokens(
        frozenset(
            text
            for text, special in added.items()
            if len(text) > 1
            and not text.isspace()
            and (special or text in template or _LOOKS_LIKE_CONTROL.fullmatch(text))
        )
    )


def unused_character(values: Iterable[Any], used: Set[str] = frozenset()) -> str:
    """Return a private-use character that none of the JSON-like values has in its strings.

    Args:
      values: The values.
      used: Private-use characters that other values have.

    Raises:
      ValueError: Every one of them is used.
    """
    used = used | private_characters(values)
    found = next((chr(code) for code in _PRIVATE_USE if chr(code) not in used), None)
    if found is None:
        raise ValueError("the text uses every private-use character; remove some")
    return found


def private_characters(values: Iterable[Any]) -> frozenset[str]:
    """Return the private-use characters that JSON-like values have in their strings."""
    texts: list[str] = []
    for value in values:
        _add_strings(value, texts)
    text = "".join(texts)
    return frozenset() if text.isascii() else frozenset(_ANY_PRIVATE.findall(text))


def _add_strings(value: Any, texts: list[str]) -> None:
    if isinstance(value, str):
        texts.append(value)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _add_strings(item, texts)
    elif isinstance(value, Mapping):
        texts.extend(value)
        for item in value.values():
            if type(item) is str:  # as most are
                texts.append(item)
            else:
                _add_strings(item, texts)


def without_marks(text: str, mark: str) -> tuple[str, tuple[int, ...]]:
    """Return the text without its marks, and where in it they stood.

    Raises:
      ValueError: The template wrote the mark as an escape.
    """
    escaped = json.dumps(mark)[1:-1]
    if escaped in text or escaped.upper().replace("\\U", "\\u") in text:
        raise ValueError(
            "the template escapes characters beyond ASCII, so that a control token in the text "
            "of this dialogue cannot be told from the template's own"
        )
    parts = text.split(mark)
    places, at = [], 0
    for part in parts[:-1]:
        at += len(part)
        places.append(at)
    return "".join(parts), tuple(dict.fromkeys(places))
