"""Read model output as one call, without evaluating anything."""

from __future__ import annotations

from tl_jax.calls.call import ToolCall
from tl_jax.calls.python_style import parse_python
from tl_jax.calls.syntax import MAX_LENGTH, REASONS, CallSyntaxError

__all__ = ["REASONS", "STYLES", "CallSyntaxError", "parse_call"]

_PARSERS = {"python": parse_python}
STYLES = tuple(_PARSERS)
"""Call styles that ``parse_call`` reads."""


def parse_call(text: str, style: str = "python") -> ToolCall:
    """Parse ``text`` as exactly one call.

    Blanks and newlines around the call are ignored; any other text before or after it, a second
    call, an argument without a name and a repeated name are errors. One parser reads both
    renderings of ``render.render_call``. Tuples come back as lists.

    Args:
      text: What the model wrote, without special tokens.
      style: One of ``STYLES``.

    Returns:
      The call; its argument values are str, int, float, bool, None, list and dict.

    Raises:
      CallSyntaxError: The text is not one call; ``reason`` is a key of ``REASONS``.
      ValueError: ``style`` is unknown.
    """
    if style not in _PARSERS:
        raise ValueError(f"unknown call style {style!r}; known: {', '.join(STYLES)}")
    if len(text) > MAX_LENGTH:
        raise CallSyntaxError("too_long", MAX_LENGTH)
    _check_characters(text)
    return _PARSERS[style](text)


def _check_characters(text: str) -> None:
    # Lone surrogates would only fail later, when the call is written as UTF-8.
    nul = text.find("\0")
    if nul >= 0:
        raise CallSyntaxError("bad_character", nul)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise CallSyntaxError("bad_character", error.start) from None
