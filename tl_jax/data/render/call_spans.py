"""Find calls that are known in a text that something else has written, such as a chat template.

The text is read in the form of the call style from every place on where one could begin, until it
is the call; blanks, escapes and the order of the fields are the writer's. A call is never recovered
from the text: what is found must equal what was to be written.
"""

from __future__ import annotations

from collections.abc import Sequence

from tl_jax.calls.call import ToolCall
from tl_jax.calls.call_text import CallSpan
from tl_jax.calls.styles import STYLES


def find_calls(
    text: str, start: int, stop: int, calls: Sequence[ToolCall], style: str
) -> tuple[CallSpan, ...]:
    """Return where the calls are in ``text[start:stop]``, in order.

    The span of a call has its own tags in it; marks round several calls belong to none.

    Args:
      text: The whole text; spans are counted from its start.
      start: Where to begin.
      stop: Where to end.
      calls: The calls that were written.
      style: Call style of the text, one of ``calls.parse.STYLES``.

    Raises:
      ValueError: A call is not there.
    """
    spans = []
    for call in calls:
        span = STYLES[style].find(text, start, stop, call)
        if span is None:
            raise ValueError(f"the call of {call.name} is not in the text of its turn")
        spans.append(span)
        start = span.call[1]
    return tuple(spans)
