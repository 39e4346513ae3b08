"""Comparison of free-text values, such as a final answer or a question to the user."""

from __future__ import annotations

import dataclasses
import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Collection

MATCHES = ("normalised", "token_f1", "exact")

# One token per CJK character, per number with its sign and unit, else per word; "don't" is one.
_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_LETTER = rf"[^\W_{_CJK}]"
_SIGN = r"[$\u20ac\xa3\xa5%\xb0]"
_NUMBER = r"(?<!\w)[-\u2212]?[0-9]++(?:[.,:/][0-9]++)*+"
_TOKEN = re.compile(rf"[{_CJK}]|{_SIGN}|{_NUMBER}|{_LETTER}++(?:'{_LETTER}++)*+")
_SENTENCE_END = re.compile(r"(?:[.!?:]\s|\n)[\s\"'(\[*-]*\Z")
_NEGATIONS = frozenset({"no", "not", "never", "none", "nothing", "without", "cannot"})


@dataclasses.dataclass(frozen=True)
class FreeText:
    """Which strings are free text, and how much of a free text must be the same.

    Attributes:
      names: A tool's name, for all its string arguments, or ``"tool.parameter"``.
      match: ``"exact"``: nothing but equal strings; ``"normalised"``: the same words in the same
        order, whatever their case and the punctuation; ``"token_f1"``: about the same words, of
        which a long text may have one too many or too few.
      min_f1: Least F1 of the words for ``"token_f1"``.
    """

    names: frozenset[str]
    match: str = MATCHES[0]
    min_f1: float = 0.85

    def covers(self, tool: str, parameter: str) -> bool:
        """Tell whether strings of this parameter are free text."""
        return tool in self.names or f"{tool}.{parameter}" in self.names

    def same(self, prediction: str, gold: str) -> bool:
        """Tell whether two free texts say the same."""
        if self.match == "exact":
            return prediction == gold
        if self.match == "normalised":
            return same_words(prediction, gold)
        return same_free_text(prediction, gold, min_f1=self.min_f1)


def free_text(names: Collection[str], match: str, min_f1: float) -> FreeText:
    """Return the policy.

    Raises:
      ValueError: ``match`` is unknown.
    """
    if match not in MATCHES:
        raise ValueError(f"unknown comparison of free text {match!r}; known: {', '.join(MATCHES)}")
    return FreeText(frozenset(names), match, min_f1)


def same_words(prediction: str, gold: str) -> bool:
    """Tell whether two texts have the same tokens in the same order (see ``same_free_text``)."""
    left, right = _tokens(prediction), _gold_tokens(gold)
    return prediction == gold or (bool(left) and left == right)


def same_free_text(prediction: str, gold: str, *, min_f1: float) -> bool:
    """Tell whether two free texts say the same as far as words can tell.

    They do if their tokens (NFKC, lower case, punctuation dropped) overlap with an F1 of at least
    ``min_f1``; if tokens are only added or only left out, as one that stands in another's place
    may be another answer; if those that turn a statement round, numbers, signs and negations, are
    the same and in the same order; and if each has the names of the other: the words other than
    "I" that have a capital inside a sentence. Texts without any token must be equal.
    """
    if prediction == gold:
        return True
    left, right = _tokens(prediction), _gold_tokens(gold)
    if not left or not right or _decisive(left) != _decisive(right):
        return False
    if not (_names(prediction) <= set(right) and _gold_names(gold) <= set(left)):
        return False
    common = sum((Counter(left) & Counter(right)).values())
    replaced = common < min(len(left), len(right))
    return not replaced and 2 * common >= min_f1 * (len(left) + len(right))


def _tokens(text: str) -> tuple[str, ...]:
    return tuple(_TOKEN.findall(_normal(text).casefold()))


def _names(text: str) -> frozenset[str]:
    """Return the lower-case words that have a capital where no sentence begins, but for "I"."""
    text = _normal(text)
    found, end = set(), 0
    for token in _TOKEN.finditer(text):
        begins = not end or _SENTENCE_END.search(text[end : token.start()]) is not None
        if token[0][0].isupper() and not begins and token[0].partition("'")[0] != "I":
            found.add(token[0].casefold())
        end = token.end()
    return frozenset(found)


# The samples of a prompt are compared with the same gold text.
_gold_tokens = functools.lru_cache(maxsize=1024)(_tokens)
_gold_names = functools.lru_cache(maxsize=1024)(_names)


def _normal(text: str) -> str:
    return unicodedata.normalize("NFKC", text).replace("\u2019", "'").replace("\u2212", "-")


def _decisive(tokens: tuple[str, ...]) -> list[str]:
    return [
        token
        for token in tokens
        if token in _NEGATIONS
        or (
            not token.isalpha()
            and (token.endswith("n't") or any(map(str.isdigit, token)) or not token[0].isalnum())
        )
    ]
