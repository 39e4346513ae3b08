"""Follow a reply in the JSON call styles, byte by byte, and hold its names to the tools.

Most calls stand behind a mark such as ``<tool_call>``; before it the text is free. Llama and bare
calls have none, so a reply must begin with one. Once a call has begun its fields come in the order
``name``, ``arguments``, as the tool must be known before its parameters.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from tl_jax.calls.call import ToolSpec
from tl_jax.calls.json_style import JsonForm
from tl_jax.sampling.python_grammar import BLANK, FREE, Names, State, keys_left, spelt


@dataclasses.dataclass(frozen=True)
class JsonNames:
    """The grammar of JSON calls. Kinds of states: ``seek`` the mark, a list may ``open``, the
    ``head`` up to the name, the ``name``, the ``rest`` up to the arguments, ``key`` due, in the
    ``keyname``, ``colon`` due, in a ``value``, in the ``tail`` behind the arguments, ``after`` the
    call, ``free``.

    Attributes:
      names: What may be called, as JSON strings spell it.
      form: How calls are written.
    """

    names: Names
    form: JsonForm

    @property
    def start(self) -> State:
        """State before the reply."""
        return State("seek") if self._mark else State("open")

    @property
    def needed(self) -> str:
        """Characters of the calls beside the names."""
        return "".join(part.decode() for part in (*self._head, *self._rest)) + "}"

    @property
    def _head(self) -> tuple[bytes, ...]:
        return b"{", json.dumps(self.form.name).encode(), b":", b'"'

    @property
    def _again(self) -> bytes:
        """Return the bytes after a call that come before another one."""
        between = self.form.separator.strip() + self.form.between
        return (("," if self.form.lists else "") + between).encode()

    @property
    def _unmarked(self) -> bool:
        """Whether another call may follow with nothing before it."""
        return self.form.objects and not self.form.before and not self.form.separator.strip()

    @property
    def _mark(self) -> bytes:
        return self.form.mark.encode()

    @property
    def _rest(self) -> tuple[bytes, ...]:
        return b",", json.dumps(self.form.arguments).encode(), b":", b"{"

    def turns(self, state: State) -> bytes | None:
        """Return the bytes without which a token is always allowed; None if there are no such."""
        mark = self._mark[-1:]
        after = self._again + (b"{" if self._unmarked else b"") + mark
        return {"seek": mark, "value": b",}", "tail": b"}", "after": after}.get(state.kind)

    def may_end(self, state: State) -> bool:
        """Whether the reply may end here."""
        return state.kind in ("seek", "value", "tail", "after", "free")

    def step(self, state: State, byte: int) -> State | None:
        """Return the state after one more byte, or None if it spells no allowed name."""
        kind = state.kind
        if kind == "seek":
            return self._sought(state, byte)
        if kind in ("value", "tail"):
            return self._in_text(state, byte)
        if kind in ("open", "head", "rest"):
            return self._due(state, byte)
        if kind == "name":
            text, tool = spelt(state.text, byte, dict(enumerate(name for name, _ in self.names)))
            if text:
                return State("name", text=text)
            return None if tool is None or byte != _QUOTE else State("rest", tool)
        if kind == "keyname":
            text, key = spelt(state.text, byte, keys_left(self.names, state))
            if text:
                return state._replace(text=text)
            if key is None or byte != _QUOTE:
                return None
            return State("colon", state.tool, state.used | {key})
        if kind == "free" or byte in BLANK:
            return state
        if kind == "key":
            if byte == _QUOTE and keys_left(self.names, state):
                return state._replace(kind="keyname")
            return State("tail") if byte == ord("}") and not state.used else None
        if kind == "colon":
            return state._replace(kind="value") if byte == ord(":") else None
        if byte in self._again:
            return State("head")
        if self._unmarked and byte in b"{]":
            return state if byte == ord("]") else self._due(State("head"), byte)
        return self._sought(State("seek"), byte) if self._mark else FREE

    def _sought(self, state: State, byte: int) -> State:
        text = state.text + bytes([byte])
        if text == self._mark:
            return State("open")
        while not self._mark.startswith(text):
            text = text[1:]
        return State("seek", text=text)

    def _due(self, state: State, byte: int) -> State | None:
        """Step through what is always the same, with blanks between its parts."""
        if not state.text and byte in BLANK:
            return state
        if state.kind == "open":
            if byte == ord("[") and self.form.lists:
                return State("head")
            state = State("head")
        parts = self._rest if state.kind == "rest" else self._head
        text = state.text + bytes([byte])
        if not parts[state.at].startswith(text):
            return None
        if text != parts[state.at]:
            return state._replace(text=text)
        if state.at + 1 < len(parts):
            return state._replace(text=b"", at=state.at + 1)
        return State("key", state.tool) if state.kind == "rest" else State("name")

    def _in_text(self, state: State, byte: int) -> State | None:
        if state.escaped:
            return state._replace(escaped=False)
        if state.quote:
            if byte == ord("\\"):
                return state._replace(escaped=True)
            return state._replace(quote=0) if byte == _QUOTE else state
        if byte == _QUOTE:
            return state._replace(quote=_QUOTE)
        if byte in b"[{":
            return state._replace(depth=state.depth + 1)
        if byte in b"]}" and state.depth:
            return state._replace(depth=state.depth - 1)
        if byte == ord("}"):
            return State("tail" if state.kind == "value" else "after")
        if byte == ord(",") and not state.depth and state.kind == "value":
            # JSON knows no comma behind the last pair.
            key = State("key", state.tool, state.used)
            return key if keys_left(self.names, key) else None
        return state


_QUOTE = ord('"')


def json_names(tools: Sequence[ToolSpec], form: JsonForm) -> JsonNames:
    """Return the grammar for some tools.

    Raises:
      ValueError: There is no tool.
    """
    names = tuple(
        (_spelt(tool.name), tuple(_spelt(p.name) for p in tool.parameters)) for tool in tools
    )
    if not names:
        raise ValueError("no tool is offered")
    return JsonNames(names, form)


def _spelt(name: str) -> bytes:
    return json.dumps(name, ensure_ascii=False)[1:-1].encode()
