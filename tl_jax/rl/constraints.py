"""Constrained decoding: a call can only name an offered tool and its declared parameters.

The reply is followed byte by byte through the grammar of Python calls. Where a name stands, only
tokens are allowed whose text goes on with an allowed name, whatever the tokenizer: a part of a
name, a whole one, or one that reaches over its end, such as ``weather(city``. Inside a value, and
after a text that can no longer be a call, every token is allowed that does not bring a wrong name
with it. A Python call has no mark in front of it, so a constrained reply begins with a call: plain
text cannot be told from the start of a name.

Nothing is learned here about values: types, required parameters and the end of the call stay with
the model. A parameter is offered once per call, as no parser takes it twice.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tl_jax.calls.call import ToolSpec
from tl_jax.calls.python_style import NAME_PATTERN
from tl_jax.data.tokenizer import Tokenizer

STYLES = ("python",)
"""Call styles that can be constrained."""

Names = tuple[tuple[bytes, tuple[bytes, ...]], ...]
"""Tools and their parameters."""

_NAME = re.compile(NAME_PATTERN)
_BLANK, _SAME_LINE = b" \t\r\n", b" \t"
_REMEMBERED = 512  # sets of allowed tokens


class State(NamedTuple):
    """Where in the reply the next byte stands.

    Attributes:
      kind: ``before`` a call, in its ``name``, ``opening`` bracket due, ``key`` due, in the
        ``keyname``, ``equals`` due, in a ``value``, ``after`` a call on its line, or ``free``.
      tool: Number of the tool, from ``opening`` to ``value``.
      used: Numbers of its parameters so far.
      text: Of the name so far.
      depth: Open brackets in the value.
      quote: The quote of the open string in the value, or 0.
      escaped: Whether the last byte was the backslash of an escape.
      ended: Whether a whole call stands before.
    """

    kind: str
    tool: int = -1
    used: frozenset[int] = frozenset()
    text: bytes = b""
    depth: int = 0
    quote: int = 0
    escaped: bool = False
    ended: bool = False


START, FREE = State("before"), State("free")
_MAY_END = ("value", "after", "free")


def step(state: State, byte: int, names: Names) -> State | None:
    """Return the state after one more byte of the reply, or None if it spells no allowed name."""
    kind = state.kind
    if kind == "free":
        return state
    if kind == "value":
        return _in_value(state, byte)
    if kind == "after":
        if byte == ord("\n"):
            return State("before", ended=True)
        return state if byte in _BLANK else FREE
    if kind == "before":
        return state if byte in _BLANK else _in_name(State("name"), byte, names)
    if kind == "name":
        return _in_name(state, byte, names)
    if kind == "opening":
        if byte == ord("("):
            return State("key", state.tool)
        return state if byte in _SAME_LINE else None
    if kind == "key":
        if byte in _BLANK:
            return state
        if byte == ord(")"):
            return State("after")
        return _in_key(state._replace(kind="keyname"), byte, names)
    if kind == "keyname":
        return _in_key(state, byte, names)
    if byte == ord("="):
        return state._replace(kind="value")
    return state if byte in _BLANK else None


def _in_name(state: State, byte: int, names: Names) -> State | None:
    text = state.text + bytes([byte])
    if any(name.startswith(text) for name, _ in names):
        return state._replace(text=text)
    tool = next((i for i, (name, _) in enumerate(names) if name == state.text), None)
    return None if tool is None else step(State("opening", tool), byte, names)


def _in_key(state: State, byte: int, names: Names) -> State | None:
    text = state.text + bytes([byte])
    keys = {i: key for i, key in enumerate(names[state.tool][1]) if i not in state.used}
    if any(key.startswith(text) for key in keys.values()):
        return state._replace(text=text)
    number = next((i for i, key in keys.items() if key == state.text), None)
    if number is None:
        return None
    return step(State("equals", state.tool, state.used | {number}), byte, names)


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


@dataclasses.dataclass(frozen=True, eq=False)
class Vocabulary:
    """What every token of a tokenizer adds to a text.

    Attributes:
      texts: Bytes by token id; ``b""`` for ids without a text.
      order: Ids of the tokens that have one, in the order of their bytes.
    """

    texts: tuple[bytes, ...]
    order: tuple[int, ...]

    @functools.cached_property
    def sorted_texts(self) -> list[bytes]:
        return [self.texts[i] for i in self.order]

    @functools.cached_property
    def ending_a_value(self) -> list[int]:
        return [i for i in self.order if b"," in self.texts[i] or b")" in self.texts[i]]

    @functools.cached_property
    def ending_a_line(self) -> list[int]:
        return [i for i in self.order if b"\n" in self.texts[i]]

    @functools.cached_property
    def alphabet(self) -> frozenset[bytes]:
        return frozenset(text for text in self.texts if len(text) <= 4)


def read_vocabulary(tokenizer: Tokenizer, vocab_size: int) -> Vocabulary:
    """Return the bytes of every token.

    Args:
      tokenizer: Byte-level, with a byte for each character of a token, or any other whose text
        is that of its tokens one after the other.
      vocab_size: Of the model; ids that the tokenizer does not have are without a text.
    """
    backend = tokenizer.backend
    decoder = repr(backend.decoder)
    byte_level = "ByteLevel(" in decoder
    anchor = tokenizer.encode_continuation("a")[0][-1:]
    known = len(tokenizer.decode(anchor))
    texts = []
    for number in range(vocab_size):
        token = backend.id_to_token(number)
        if token is None:
            texts.append(b"")
        elif byte_level:
            found = [_BYTES.get(character) for character in token]
            texts.append(bytes(found) if None not in found else token.encode())  # type: ignore[arg-type]
        elif (match := re.fullmatch("<0x([0-9A-F]{2})>", token)) and "ByteFallback(" in decoder:
            texts.append(bytes([int(match[1], 16)]))
        else:
            text = tokenizer.decode([*anchor, number], keep_control=True)
            texts.append(text[known:].encode())
    order = sorted((i for i, text in enumerate(texts) if text), key=texts.__getitem__)
    return Vocabulary(tuple(texts), tuple(order))


def _byte_alphabet() -> dict[str, int]:
    """Return the byte that each character of a byte-level token stands for.

    Source: ``bytes_to_unicode`` of GPT-2: printable bytes stand for themselves, the others follow
    from 256 on.
    """
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + i): b for i, b in enumerate(others)}


_BYTES = _byte_alphabet()


@dataclasses.dataclass(frozen=True)
class CallGuide:
    """A ``sampler.Guide`` that allows the names of some tools only.

    Attributes:
      vocabulary: Of the model's tokenizer.
      names: The tools and their parameters.
      stop_ids: Tokens that end a reply; not allowed where a name is due.
    """

    vocabulary: Vocabulary
    names: Names
    stop_ids: tuple[int, ...]

    @property
    def start(self) -> State:
        return START

    def advance(self, state: State, token: int) -> State:
        """Return the state after an allowed token."""
        after = _after(state, self.vocabulary.texts[token], self.names)
        assert after is not None
        return after

    def allowed(self, state: State) -> np.ndarray | None:
        """Return which tokens may come next, or None if all may."""
        return None if state == FREE else _allowed(self, state)


def make_guide(
    vocabulary: Vocabulary, tools: Sequence[ToolSpec], stop_ids: tuple[int, ...]
) -> CallGuide:
    """Build the guide for the tools of a prompt.

    Names that no Python call can be written with are left out.

    Raises:
      ValueError: No tool remains, or the tokenizer cannot spell a name.
    """
    names = tuple(
        (tool.name.encode(), tuple(p.name.encode() for p in tool.parameters if _writable(p.name)))
        for tool in tools
        if _writable(tool.name)
    )
    if not names:
        raise ValueError("no tool is offered whose name a Python call can be written with")
    # With a token for every character no state is a dead end.
    characters = {c for name, keys in names for text in (name, *keys) for c in text.decode()}
    for character in sorted(characters | set("(=)")):
        text = character.encode()
        single = (bytes([byte]) for byte in text)
        alphabet = vocabulary.alphabet
        if text not in alphabet and not all(byte in alphabet for byte in single):
            raise ValueError(f"this tokenizer has no token for {character!r} alone")
    return CallGuide(vocabulary, names, stop_ids)


def _writable(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def _after(state: State | None, text: bytes, names: Names) -> State | None:
    for byte in text:
        if state is None or state == FREE:
            break
        state = step(state, byte, names)
    return state


@functools.lru_cache(maxsize=_REMEMBERED)
def _allowed(guide: CallGuide, state: State) -> np.ndarray:
    vocabulary, names = guide.vocabulary, guide.names
    if state.kind in ("value", "after"):
        # Other tokens cannot lead to a name.
        turns = vocabulary.ending_a_value if state.kind == "value" else vocabulary.ending_a_line
        allowed = np.ones(len(vocabulary.texts), bool)
        for token in turns:
            allowed[token] = _after(state, vocabulary.texts[token], names) is not None
    else:
        allowed = np.zeros(len(vocabulary.texts), bool)
        allowed[_spelling(vocabulary, names, state, 0, 0, len(vocabulary.order))] = True
    allowed[list(guide.stop_ids)] = state.kind in _MAY_END or state.ended
    allowed.flags.writeable = False
    return allowed


def _spelling(
    vocabulary: Vocabulary, names: Names, state: State, size: int, low: int, high: int
) -> list[int]:
    """Return the allowed ones of the tokens ``order[low:high]``.

    ``state`` is that after their first ``size`` bytes, which are the same for all.
    """
    texts, found = vocabulary.sorted_texts, []
    while low < high and len(texts[low]) == size:
        if size:
            found.append(vocabulary.order[low])
        low += 1
    while low < high:
        start = texts[low][: size + 1]
        # The last text that may begin so is followed by as many of the greatest byte as you like.
        end = bisect.bisect_right(texts, start + b"\xff" * 64, low, high)
        after = step(state, start[-1], names)
        if after == FREE:
            found.extend(vocabulary.order[low:end])
        elif after is not None:
            found.extend(_spelling(vocabulary, names, after, size + 1, low, end))
        low = end
    return found
