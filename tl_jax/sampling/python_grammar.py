"""Follow a reply in the style of Python calls, byte by byte, and hold its names to the tools.

A Python call has no mark in front of it, so the reply must begin with one: plain text could not be
told from the start of a name.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import NamedTuple

from tl_jax.calls.call import ToolSpec
from tl_jax.calls.call_text import NAME_PATTERN

Names = tuple[tuple[bytes, tuple[bytes, ...]], ...]
"""Tools and their parameters, as calls spell them."""

BLANK = b" \t\r\n"
_SAME_LINE = b" \t"
_NAME = re.compile(NAME_PATTERN)


class State(NamedTuple):
    """Where in the reply the next byte stands.

    Attributes:
      kind: What is there, by the names of the style's own list.
      tool: Number of the tool, once it is known.
      used: Numbers of its parameters so far.
      text: Of the name, or of the mark, so far.
      depth: Open brackets in the value.
      quote: The quote of the open string in the value, or 0.
      escaped: Whether the last byte was the backslash of an escape.
      ended: Whether a whole call stands before.
      at: Number of the part that is due, of those that are always the same.
    """

    kind: str
    tool: int = -1
    used: frozenset[int] = frozenset()
    text: bytes = b""
    depth: int = 0
    quote: int = 0
    escaped: bool = False
    ended: bool = False
    at: int = 0


FREE = State("free")
"""Nothing that follows can be a call any more."""


def spelt(text: bytes, byte: int, among: dict[int, bytes]) -> tuple[bytes, int | None]:
    """Add a byte to a name.

    Returns:
      ``(longer, None)`` if an allowed name goes on so; else ``(b"", number)`` of the name that
      ends before the byte; else ``(b"", None)``.
    """
    longer = text + bytes([byte])
    if any(name.startswith(longer) for name in among.values()):
        return longer, None
    return b"", next((number for number, name in among.items() if name == text), None)


def keys_left(names: Names, state: State) -> dict[int, bytes]:
    """Return the parameters of the tool that the call has not named yet."""
    return {i: key for i, key in enumerate(names[state.tool][1]) if i not in state.used}


@dataclasses.dataclass(frozen=True)
class PythonNames:
    """The grammar of Python calls. Kinds of states: ``before`` a call, in its ``name``, ``opening``
    bracket due, ``key`` due, in the ``keyname``, ``equals`` due, in a ``value``, ``after`` a call
    on its line, ``free``.

    Attributes:
      names: What may be called.
    """

    names: Names
    start = State("before")
    needed = "(=)"

    def turns(self, state: State) -> bytes | None:
        """Return the bytes without which a token is always allowed; None if there are no such."""
        return {"value": b",)", "after": b"\n"}.get(state.kind)

    def may_end(self, state: State) -> bool:
        """Whether the reply may end here."""
        return state.ended or state.kind in ("value", "after", "free")

    def step(self, state: State, byte: int) -> State | None:
        """Return the state after one more byte, or None if it spells no allowed name."""
        kind = state.kind
        if kind == "value":
            return _in_value(state, byte)
        if kind == "after":
            if byte == ord("\n"):
                return State("before", ended=True)
            return state if byte in BLANK else FREE
        if kind == "before" and byte in BLANK:
            return state
        if kind in ("before", "name"):
            text, tool = spelt(state.text, byte, dict(enumerate(name for name, _ in self.names)))
            if text:
                return State("name", text=text)
            return None if tool is None else self.step(State("opening", tool), byte)
        if kind == "opening":
            if byte == ord("("):
                return State("key", state.tool)
            return state if byte in _SAME_LINE else None
        if kind == "key" and byte in BLANK:
            return state
        if kind == "key" and byte == ord(")"):
            return State("after")
        if kind in ("key", "keyname"):
            text, key = spelt(state.text, byte, keys_left(self.names, state))
            if text:
                return state._replace(kind="keyname", text=text)
            if key is None:
                return None
            return self.step(State("equals", state.tool, state.used | {key}), byte)
        if kind == "equals":
            if byte == ord("="):
                return state._replace(kind="value")
            return state if byte in BLANK else None
        return state


def _in_value(state: State, byte: int) -> State:
    if state.escaped:
        return state._replace(escaped=False)
    if state.quote:
        if byte == ord("\\"):
            return state._replace(escaped=True)
        return state._replace(quote=0) if byte == state.quote else state
    if byte in b"'\"":
        return state._replace(quote=byte)
    if byte in b"([{":
        return state._replace(depth=state.depth + 1)
    if byte in b")]}":
        if state.depth:
            return state._replace(depth=state.depth - 1)
        return State("after") if byte == ord(")") else state
    if byte == ord(",") and not state.depth:
        return State("key", state.tool, state.used)
    return state


def python_names(tools: Sequence[ToolSpec]) -> PythonNames:
    """Return the grammar for some tools.

    Names that no Python call can be written with are left out.

    Raises:
      ValueError: No tool remains.
    """
    names = tuple(
        (tool.name.encode(), tuple(p.name.encode() for p in tool.parameters if _writable(p.name)))
        for tool in tools
        if _writable(tool.name)
    )
    if not names:
        raise ValueError("no tool is offered whose name a Python call can be written with")
    return PythonNames(names)


def _writable(name: str) -> bool:
    return _NAME.fullmatch(name) is not None
