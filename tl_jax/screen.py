"""The one console that everything is printed on."""

from __future__ import annotations

import functools
import io
import logging
import sys
from collections.abc import Iterable
from typing import Any, TextIO

from rich.console import Console
from rich.segment import Segment

_PICTURES = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"}
_ESCAPED = (
    0x7F,
    *range(0x80, 0xA0),
    0x200E,
    0x200F,
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
)
_SHOWN = _PICTURES | {code: f"\\u{code:04x}" for code in _ESCAPED}


def visible(text: str) -> str:
    """Return a text with its control characters written out, all but line feeds and tabs.

    What data and models write may hold sequences that a terminal obeys, and characters that turn
    the order of others round.
    """
    return text.translate(_SHOWN)


class Screen(Console):
    """A console that shows the control characters of what is printed, and obeys none of them."""

    def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:
        """Render as ``Console`` does, with texts that are ``visible``."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))


class ShownLog(logging.StreamHandler[TextIO]):
    """What writes log records to the standard error, their control characters ``visible``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of a record."""
        return visible(super().format(record))


@functools.cache
def screen() -> Screen:
    """Return the console of this process: whole lines, numbers without colours.

    A character that the terminal's encoding lacks is written as its number.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    return Screen(soft_wrap=True, highlight=False)
