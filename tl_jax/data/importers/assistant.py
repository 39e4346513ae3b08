"""Assistant turns made of calls as a source gives them: a name, and arguments in any shape."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tl_jax.calls.call import ToolCall
from tl_jax.calls.render import render_call
from tl_jax.data.importers.json_text import load_json
from tl_jax.data.importers.names import writable_name
from tl_jax.data.trajectory import Message


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
    call = sound_call(name, arguments) if arguments.strip() else None
    return unparsable_turn(text) if call is None else Message("assistant", thought, (call,))


def assistant_calls(
    thought: str, found: Sequence[tuple[Any, Any]], *, keep_names: bool = False
) -> Message:
    """Return a turn of several calls, or its text with status ``"error"`` if one is not sound.

    Args:
      thought: Text before the calls.
      found: Name and arguments of every call; see ``sound_call``.
      keep_names: As for ``sound_call``.

    Returns:
      A message with the calls in order; where any cannot be used, one without calls whose content
      is the thought and, as JSON text, what was found.
    """
    calls = [sound_call(name, arguments, keep_names=keep_names) for name, arguments in found]
    if None not in calls:
        return Message("assistant", thought, tuple(call for call in calls if call))
    rows = (
        json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False, default=str)
        for name, arguments in found
    )
    return unparsable_turn("\n".join([*([thought] if thought else []), *rows]))


def sound_call(name: Any, arguments: Any, *, keep_names: bool = False) -> ToolCall | None:
    """Return the call, with names renamed by ``writable_name``, or None if it cannot be used.

    Args:
      name: Tool name as found.
      arguments: An object, its JSON text (also encoded twice), or nothing: None and blank text
        stand for no arguments.
      keep_names: Leave the names as they are, where the tools keep theirs.
    """
    rename = str.strip if keep_names else writable_name
    try:
        for _ in range(2):
            if isinstance(arguments, str):
                arguments = load_json(arguments, "arguments") if arguments.strip() else {}
        if arguments is None:
            arguments = {}
        if not isinstance(name, str) or not isinstance(arguments, Mapping):
            return None
        named = {rename(key): value for key, value in arguments.items()}
        call = ToolCall(rename(name), named)
        # The style that writes any name; a sound call can be written in it.
        render_call(call, "hermes")
    except (ValueError, RecursionError):
        return None
    return call if len(named) == len(arguments) else None


def unparsable_turn(text: str) -> Message:
    """Return a turn that should hold a call but does not: plain text with status ``"error"``."""
    return Message("assistant", text, status="error")
