"""Two texts of calls with what differs between them marked."""

from __future__ import annotations

import difflib
import html
import re
from collections.abc import Sequence

_TOKEN = re.compile(r"\s*(?:\w+|[^\w\s])|\s+")
_COMPARED = 600
"""Characters of a text that are compared; a longer one lacks its middle."""


def marked(reply: str, golds: Sequence[str]) -> tuple[str, str]:
    """Return a reply and the nearest right answer as HTML, with what only one of them has marked.

    Spaces between words do not count as a difference.

    Args:
      reply: What was replied.
      golds: The accepted answers as texts.

    Returns:
      The reply, in which ``<del>`` is what is not right, and the answer, in which ``<ins>`` is what
      the reply lacks.
    """
    first = _tokens(reply)
    answers = [_tokens(gold) for gold in golds] or [[]]
    matchers = [_matcher(first, answer) for answer in answers]
    best = max(range(len(answers)), key=lambda at: matchers[at].ratio())
    said, due = [], []
    for kind, a, b, c, d in matchers[best].get_opcodes():
        said.append(_span(first[a:b], "" if kind == "equal" else "del"))
        due.append(_span(answers[best][c:d], "" if kind == "equal" else "ins"))
    return "".join(said).strip(), "".join(due).strip()


def _tokens(text: str) -> list[str]:
    if len(text) > _COMPARED:
        half = _COMPARED // 2
        text = f"{text[:half]} … {text[-half:]}"
    return _TOKEN.findall(text.strip())


def _matcher(first: Sequence[str], second: Sequence[str]) -> difflib.SequenceMatcher[str]:
    plain = ([token.strip() for token in tokens] for tokens in (first, second))
    return difflib.SequenceMatcher(None, *plain, autojunk=False)


def _span(tokens: Sequence[str], tag: str) -> str:
    text = html.escape("".join(tokens))
    return f"<{tag}>{text}</{tag}>" if tag and text.strip() else text
