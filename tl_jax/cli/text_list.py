"""A list of texts on the command line: as short as can be typed, and with any text in it.

``a.jsonl,b.jsonl`` are two, ``date_string="1 May, 2025"`` is one, and so is ``lost: /a{1,3}/``;
``('a, b','c')`` says where each begins and ends.
"""

from __future__ import annotations

import ast

from tl_jax.errors import ConfigError

_CLOSING = {"(": ")", "[": "]", "{": "}"}


def read(name: str, text: str) -> tuple[str, ...]:
    """Return the texts of a setting.

    Args:
      name: Of the setting, for messages.
      text: A list or tuple as Python writes it, or texts by commas, which part nothing between
        quotes or brackets. A text in quotes is what Python reads there.

    Raises:
      ConfigError: It looks like a list and is none of texts.
    """
    text = text.strip()
    if text[:1] in ("(", "[") and text.endswith(_CLOSING[text[0]]):
        return _literal(name, text)
    return tuple(_unquoted(part.strip()) for part in _parts(text)) if text else ()


def _literal(name: str, text: str) -> tuple[str, ...]:
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise ConfigError(
            f"{name}={text} is no list of texts ({error}); write each text in quotes, such as "
            "('first','second')"
        ) from error
    texts = (found,) if isinstance(found, str) else found
    if not isinstance(texts, tuple | list) or not all(isinstance(one, str) for one in texts):
        raise ConfigError(f"{name}={text} must be a list of texts, such as ('first','second')")
    return tuple(texts)


def _parts(text: str) -> list[str]:
    """Part a text at its commas, but for those between quotes or brackets."""
    parts, open_until = [""], ""
    for at, letter in enumerate(text):
        if letter == "," and not open_until:
            parts.append("")
            continue
        begins = not parts[-1].strip()
        parts[-1] += letter
        if letter == open_until[-1:]:
            open_until = open_until[:-1]
        elif open_until[-1:] not in ('"', "'"):
            # A single quote within a text is an apostrophe.
            end = letter if letter == '"' or (letter == "'" and begins) else _CLOSING.get(letter)
            if end and end in text[at + 1 :]:  # what is never closed is a letter like any
                open_until += end
    return parts


def _unquoted(text: str) -> str:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        try:
            return str(ast.literal_eval(text))
        except (ValueError, SyntaxError):
            return text
    return text
