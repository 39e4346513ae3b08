"""Assistant turns that name a tool and carry its arguments as JSON text."""

from __future__ import annotations

import json
from typing import Any

from tl_jax.calls.call import ToolCall
from tl_jax.calls.render import render_call
from tl_jax.data.schema import Message


def assistant_turn(text: str, name: str, arguments: str, thought: str = "") -> Message:
    """Return the turn with a structured call, or with its plain text if there is no sound call.

    Args:
      text: The whole turn as found; kept as content when the call cannot be used.
      name: Tool name as found.
      arguments: JSON text of the argument object.
      thought: Text before the call.

    Returns:
      A message with one call; or, where the arguments are no JSON object or the name cannot be
      written in a call, a message without calls and with status ``"error"``.
    """
    try:
        values = json.loads(arguments, parse_constant=_no_constant)
        if not isinstance(values, dict):
            raise ValueError("arguments must be an object")
        call = ToolCall(name.strip(), values)
        render_call(call)
    except (ValueError, RecursionError):
        return unparsable_turn(text)
    return Message("assistant", thought, (call,))


def unparsable_turn(text: str) -> Message:
    """Return a turn that should hold a call but does not: plain text with status ``"error"``."""
    return Message("assistant", text, status="error")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
