"""Read model output as calls, without evaluating anything."""

from __future__ import annotations

from collections.abc import Sequence

from tl_jax.calls import styles
from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.calls.syntax import MAX_CALLS, MAX_LENGTH, REASONS, CallSyntaxError

__all__ = [
    "REASONS",
    "STYLES",
    "CallSyntaxError",
    "parse_call",
    "parse_calls",
    "parse_turn",
    "reply_call_text",
]

STYLES = tuple(styles.STYLES)
"""Call styles that ``parse_call`` and ``parse_calls`` read."""


def parse_call(text: str, style: str = "python", tools: Sequence[ToolSpec] = ()) -> ToolCall:
    """Parse ``text`` as exactly one call.

    Blanks and newlines around the call are ignored; any other text before or after it, a second
    call, an argument without a name and a repeated name are errors. What ``render.render_call``
    writes is read back as an equal call; tuples come back as lists.

    Args:
      text: What the model wrote, without special tokens, but with the marks of the style
        (``<tool_call>``, ``[TOOL_CALLS]``) even where they are special tokens.
      style: One of ``STYLES``.
      tools: Those that are offered. Where a style writes values without quotes, a parameter that
        is declared as a string is read as one; otherwise what looks like JSON is read as JSON.

    Returns:
      The call; its argument values are str, int, float, bool, None, list and dict.

    Raises:
      CallSyntaxError: The text is not one call; ``reason`` is a key of ``REASONS``.
      ValueError: ``style`` is unknown.
    """
    return _parse(text, style, 1, tools)[0]


def parse_calls(
    text: str, style: str = "python", tools: Sequence[ToolSpec] = ()
) -> tuple[ToolCall, ...]:
    """Parse ``text`` as one call or several.

    Python calls stand on lines of their own or in one bracketed list, Hermes calls in tags of
    their own or in a list between tags, Llama calls are separated by ``;``, Mistral calls stand
    in a list or each after its own mark. An empty list is no call.

    Args:
      text: As for ``parse_call``.
      style: One of ``STYLES``.
      tools: As for ``parse_call``.

    Returns:
      The calls in order, at least one and at most ``syntax.MAX_CALLS``.

    Raises:
      CallSyntaxError: The text is anything but calls; ``reason`` is a key of ``REASONS``.
      ValueError: ``style`` is unknown.

    Example:
      >>> import tl_jax as tl
      >>> [call.arguments["city"] for call in tl.parse_calls("f(city='Rome')\\nf(city='Oslo')")]
      ['Rome', 'Oslo']
    """
    return _parse(text, style, MAX_CALLS, tools)


def parse_turn(
    text: str, style: str = "python", tools: Sequence[ToolSpec] = ()
) -> tuple[ToolCall, ...]:
    """Parse ``text`` as the calls of a turn: one as ``parse_call`` reads it, or several.

    The trial of templates, rewards, evaluation and chats all read with this, so that what a
    template writes is never punished: a list of one, ``[f(a=1)]``, is a call where the style writes
    lists, and nowhere else.

    Args:
      text: As for ``parse_call``.
      style: One of ``STYLES``.
      tools: As for ``parse_call``.

    Returns:
      The calls in order, at least one.

    Raises:
      CallSyntaxError: The text is anything else; ``reason`` is a key of ``REASONS``.
      ValueError: ``style`` is unknown.
    """
    try:
        return (parse_call(text, style, tools),)
    except CallSyntaxError:
        calls = parse_calls(text, style, tools)
        if len(calls) == 1:
            raise
        return calls


def reply_call_text(text: str, style: str = "python") -> str:
    """Return what a reply has from its first call mark on, without the thought before it.

    A thought ends with its closing tag, whether its opening tag stands in the reply or in the
    prompt; what it quotes is no call. Where neither tag stands, words may come before the first
    mark; a style without a mark must then be calls from the start, as words could not be told from
    them. What follows must be calls and nothing else, as ``parse_call`` sees to; the positions in
    its errors are counted from there.

    Args:
      text: A reply, as for ``parse_call``.
      style: One of ``STYLES``.
    """
    if style not in STYLES:
        return text
    mark = styles.STYLES[style].mark
    opening, closing = styles.STYLES[style].thoughts
    thought, tag, rest = text.partition(closing)
    if tag:
        opened = thought.lstrip().startswith(opening)
        whole = text[max(text.find(mark), 0) :]
        # A call may quote the tag.
        if opened or not _is_calls(whole, style):
            rest = rest.lstrip(" \t\r\n")
            return rest[max(rest.find(mark), 0) :]
    return text[max(text.find(mark), 0) :]


def _is_calls(text: str, style: str) -> bool:
    try:
        return bool(_parse(text, style, MAX_CALLS, ()))
    except CallSyntaxError:
        return False


def _parse(text: str, style: str, most: int, tools: Sequence[ToolSpec]) -> tuple[ToolCall, ...]:
    if style not in STYLES:
        raise ValueError(f"unknown call style {style!r}; known: {', '.join(STYLES)}")
    if len(text) > MAX_LENGTH:
        raise CallSyntaxError("too_long", MAX_LENGTH)
    _check_characters(text)
    return styles.STYLES[style].parse(text, most, tools)


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
