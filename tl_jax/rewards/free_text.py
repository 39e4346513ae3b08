"""Comparison of free-text values, such as a final answer or a question to the user."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

# One token per CJK character, else per word; "don't" is one token.
_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_TOKEN = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+(?:'[^\W{_CJK}]+)*")
_NEGATIONS = frozenset({"no", "not", "never", "none", "nothing", "without", "cannot"})


def same_free_text(prediction: str, gold: str, *, min_f1: float) -> bool:
    """Tell whether two free texts say the same as far as words can tell.

    They do if their tokens (NFKC, lower case, punctuation dropped) overlap with an F1 of at least
    ``min_f1``, and if the tokens that turn a statement round, numbers and negations, are the same
    and in the same order. Texts without any token must be equal.
    """
    if prediction == gold:
        return True
    left, right = _tokens(prediction), _tokens(gold)
    if not left or not right or _decisive(left) != _decisive(right):
        return False
    common = sum((Counter(left) & Counter(right)).values())
    return 2 * common >= min_f1 * (len(left) + len(right))


def _tokens(text: str) -> list[str]:
    text = unicodedata.normalize("NFKC", text).replace("\u2019", "'")
    return _TOKEN.findall(text.casefold())


def _decisive(tokens: list[str]) -> list[str]:
    return [
        token
        for token in tokens
        if token in _NEGATIONS
        or (not token.isalpha() and (token.endswith("n't") or any(map(str.isdigit, token))))
    ]
