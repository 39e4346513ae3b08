"""Constrained decoding: a call can only name an offered tool and its declared parameters.

The reply is followed byte by byte through the grammar of its call style. Where a name stands, only
tokens are allowed whose text goes on with an allowed name, whatever the tokenizer: a part of a
name, a whole one, or one that reaches over its end, such as ``weather(city``. Elsewhere every token
is allowed that does not bring a wrong name with it.

Nothing is learned here about values: types, required parameters and the end of the call stay with
the model. A parameter is offered once per call, as no parser takes it twice.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import re
from collections.abc import Sequence

import numpy as np

from tl_jax.calls import styles
from tl_jax.calls.call import ToolSpec
from tl_jax.calls.json_style import JsonForm
from tl_jax.data.tokenize.tokenizer import Tokenizer
from tl_jax.sampling.json_grammar import JsonNames, json_names
from tl_jax.sampling.python_grammar import BLANK, FREE, PythonNames, State, python_names

STYLES = tuple(name for name, style in styles.STYLES.items() if style.constrained)
"""Call styles that can be constrained."""

_REMEMBERED = 512  # sets of allowed tokens


@dataclasses.dataclass(frozen=True, eq=False)
class Vocabulary:
    """What every token of a tokenizer adds to a text.

    Attributes:
      texts: Bytes by token id; ``b""`` for ids without a text.
      order: Ids of the tokens that have one, in the order of their bytes.
    """

    texts: tuple[bytes, ...]
    order: tuple[int, ...]
    _holding: dict[bytes, list[int]] = dataclasses.field(default_factory=dict, repr=False)

    @functools.cached_property
    def sorted_texts(self) -> list[bytes]:
        return [self.texts[i] for i in self.order]

    @functools.cached_property
    def alphabet(self) -> frozenset[bytes]:
        return frozenset(text for text in self.texts if len(text) <= 4)

    @functools.cached_property
    def numbers(self) -> dict[bytes, int]:
        return {self.texts[i]: i for i in self.order}

    def holding(self, some: bytes) -> list[int]:
        """Return the tokens with any of some bytes in their text."""
        if some not in self._holding:
            self._holding[some] = [i for i in self.order if not set(some).isdisjoint(self.texts[i])]
        return self._holding[some]


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
            known_bytes = all(character in _BYTES for character in token)
            texts.append(bytes(map(_BYTES.__getitem__, token)) if known_bytes else token.encode())
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
class CallConstraint:
    """A ``sampler.Constraint`` that allows the names of some tools only.

    Attributes:
      vocabulary: Of the model's tokenizer.
      grammar: Of the calls.
      stop_ids: Tokens that end a reply; not allowed where a name is due.
    """

    vocabulary: Vocabulary
    grammar: PythonNames | JsonNames
    stop_ids: tuple[int, ...]

    @property
    def start(self) -> State:
        return self.grammar.start

    def advance(self, state: State, token: int) -> State:
        """Return the state after an allowed token."""
        after = _after(self.grammar, state, self.vocabulary.texts[token])
        assert after is not None
        return after

    def allowed(self, state: State) -> np.ndarray | None:
        """Return which tokens may come next, or None if all may."""
        return None if state == FREE else _allowed(self, state)

    def likely(self, state: State) -> int | None:
        """Return the longest token of the only text that may follow, but for blanks."""
        return None if state == FREE else _likely(self, state)


def make_constraint(
    vocabulary: Vocabulary,
    tools: Sequence[ToolSpec],
    stop_ids: tuple[int, ...],
    style: str = "python",
) -> CallConstraint:
    """Build the constraint for the tools of a prompt.

    Args:
      vocabulary: Of the model's tokenizer.
      tools: Those of the prompt.
      stop_ids: Tokens that end a reply.
      style: One of ``STYLES``.

    Raises:
      ValueError: No tool can be called, or the tokenizer cannot spell a call.
    """
    grammar: PythonNames | JsonNames
    form = styles.STYLES[style].form
    grammar = json_names(tools, form) if isinstance(form, JsonForm) else python_names(tools)
    # With a token for every character no state is a dead end.
    spelt = {c for name, keys in grammar.names for text in (name, *keys) for c in text.decode()}
    for character in sorted(spelt | set(grammar.needed)):
        text = character.encode()
        alphabet = vocabulary.alphabet
        if text not in alphabet and not all(bytes([byte]) in alphabet for byte in text):
            raise ValueError(f"this tokenizer has no token for {character!r} alone")
    return CallConstraint(vocabulary, grammar, stop_ids)


def _after(grammar: PythonNames | JsonNames, state: State | None, text: bytes) -> State | None:
    for byte in text:
        if state is None or state == FREE:
            break
        state = grammar.step(state, byte)
    return state


@functools.lru_cache(maxsize=_REMEMBERED)
def _allowed(constraint: CallConstraint, state: State) -> np.ndarray:
    vocabulary, grammar = constraint.vocabulary, constraint.grammar
    turns = grammar.turns(state)
    if turns is None:
        allowed = np.zeros(len(vocabulary.texts), bool)
        allowed[_spelling(vocabulary, grammar, state, 0, 0, len(vocabulary.order))] = True
    else:
        allowed = np.ones(len(vocabulary.texts), bool)
        for token in vocabulary.holding(turns):
            allowed[token] = _after(grammar, state, vocabulary.texts[token]) is not None
    allowed[list(constraint.stop_ids)] = grammar.may_end(state)
    allowed.flags.writeable = False
    return allowed


@functools.lru_cache(maxsize=_REMEMBERED)
def _likely(constraint: CallConstraint, state: State) -> int | None:
    vocabulary, grammar = constraint.vocabulary, constraint.grammar
    text, best = b"", None
    after: State | None = state
    while after is not None and after != FREE and grammar.turns(after) is None:
        if grammar.may_end(after):
            break
        known = {byte: grammar.step(after, byte) for byte in range(256) if byte not in BLANK}
        possible = [byte for byte, found in known.items() if found is not None]
        if len(possible) != 1:
            break
        text += bytes(possible)
        best = vocabulary.numbers.get(text, best)
        after = known[possible[0]]
    return best


def _spelling(
    vocabulary: Vocabulary,
    grammar: PythonNames | JsonNames,
    state: State,
    size: int,
    low: int,
    high: int,
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
        # Behind the texts that begin so; no token is a run of the greatest byte.
        end = bisect.bisect_right(texts, start + b"\xff" * 64, low, high)
        after = grammar.step(state, start[-1])
        if after == FREE:
            found.extend(vocabulary.order[low:end])
        elif after is not None:
            found.extend(_spelling(vocabulary, grammar, after, size + 1, low, end))
        low = end
    return found
