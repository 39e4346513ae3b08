"""Prioritise key tokens: find the tokens that decide between tool names and weight them.

Key tokens of a reply are the first token of the tool name and, for every other tool whose name
shares a token prefix with it, the first token after that prefix.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from tl_jax.data.templates import ReplySpan, Span
from tl_jax.data.tokenizer import Offsets, Tokenizer

MODES = ("off", "paper", "code")


def key_positions(
    name_ids: Sequence[int], rival_name_ids: Iterable[Sequence[int]]
) -> tuple[int, ...]:
    """Return the key positions, counted from the first token of the name, in rising order.

    A rival that continues the whole name makes the token after the name (the opening bracket) a
    key token. Rivals equal to the name and rivals without a common first token add none.

    Args:
      name_ids: Tokens of the gold name.
      rival_name_ids: Tokens of the other names, tokenised in the same left context.
    """
    name = tuple(name_ids)
    positions = {0}
    for rival in map(tuple, rival_name_ids):
        if rival == name:
            continue
        common = 0
        for left, right in zip(name, rival, strict=False):
            if left != right:
                break
            common += 1
        if common:
            positions.add(common)
    return tuple(sorted(positions))


def key_weight(key: int, other: int, *, w_max: float) -> float:
    """Return ``clip(other / key, 1, w_max)``, the weight of a key token.

    Source: PKT objective of the paper; the published code has the same value for its own counts.
    """
    return min(max(other / key, 1.0), float(w_max)) if key else 1.0


def key_token_weights(
    reply_ids: Sequence[int],
    name_ids: Sequence[int],
    rival_name_ids: Iterable[Sequence[int]],
    *,
    w_max: float,
    mode: str,
    closer_positions: Iterable[int] = (),
    eos_included: bool = True,
) -> list[float]:
    """Return the loss weight of every token of a reply that is one call.

    Args:
      reply_ids: Tokens of the reply, the first of the tool name first.
      name_ids: Tokens of the gold name.
      rival_name_ids: Tokens of the other names, tokenised in the same left context.
      w_max: Largest weight.
      mode: ``"paper"``: other tokens are all that are not key, the end-of-sequence token apart.
        ``"code"``: other tokens are all that are neither key nor closers, the end-of-sequence
        token with them. ``"off"``: all weights are 1.
      closer_positions: Positions of the tokens that close a value (``"code"`` only).
      eos_included: Whether the last of ``reply_ids`` is the end-of-sequence token.

    Source: method figure (``paper``), code/pkt/utils.py (``code``) of the TL-Training release.
    """
    return weights_at(
        len(reply_ids),
        key_positions(name_ids, rival_name_ids),
        w_max=w_max,
        mode=mode,
        closer_positions=closer_positions,
        eos_included=eos_included,
    )


def weights_at(
    length: int,
    positions: Iterable[int],
    *,
    w_max: float,
    mode: str,
    closer_positions: Iterable[int] = (),
    eos_included: bool = True,
) -> list[float]:
    """Return the weights of ``length`` reply tokens with the given key positions."""
    if mode not in MODES:
        raise ValueError(f"unknown key token mode {mode!r}; known: {', '.join(MODES)}")
    weights = [1.0] * length
    key = {p for p in positions if p < length}
    if mode == "off" or not key:
        return weights
    if mode == "paper":
        counted = range(length - eos_included)
        other = sum(p not in key for p in counted)
    else:
        closers = set(closer_positions)
        other = sum(p not in key and p not in closers for p in range(length))
    weight = key_weight(len(key), other, w_max=w_max)
    for position in key:
        weights[position] = weight
    return weights


def tokens_over(offsets: Offsets, span: Span) -> range:
    """Return the positions of the tokens that overlap a character span."""
    start, end = span
    first = next((i for i, (_, e) in enumerate(offsets) if e > start), len(offsets))
    last = first
    while last < len(offsets) and offsets[last][0] < end:
        last += 1
    return range(first, last)


@dataclasses.dataclass(frozen=True)
class NameTokens:
    """Tokens of tool names in a given left context, remembered."""

    tokenizer: Tokenizer
    known: dict[tuple[str, str], tuple[int, ...]] = dataclasses.field(default_factory=dict)

    def __call__(self, left: str, name: str) -> tuple[int, ...]:
        """Return the tokens that overlap ``name`` when ``left``, ``name``, ``(`` is written."""
        found = self.known.get((left, name))
        if found is None:
            ids, offsets = self.tokenizer.encode_continuation(f"{left}{name}(")
            over = tokens_over(offsets, (len(left), len(left) + len(name)))
            found = tuple(ids[i] for i in over)
            # Only the first call of a reply has a left context that comes again (a blank).
            if left == " ":
                self.known[left, name] = found
        return found


def reply_weights(
    text: str,
    reply: ReplySpan,
    ids: Sequence[int],
    offsets: Offsets,
    tool_names: Iterable[str],
    names: NameTokens,
    *,
    mode: str,
    w_max: float,
    eos_included: bool = True,
) -> tuple[list[float], list[int]]:
    """Weight the tokens of one rendered reply.

    A token that straddles the border of the name (``_(`` after a name that ends in an underscore)
    counts as part of it; rivals are cut the same way.

    Args:
      text: Rendered text that ``reply`` speaks about.
      reply: Spans of the reply.
      ids: Tokens of ``text[reply.start : reply.stop]``, then the end-of-sequence token if
        ``eos_included``.
      offsets: Character ranges in ``text`` of the tokens without the end-of-sequence token.
      tool_names: Names of all tools in the prompt.
      names: Tokeniser of names.
      mode: See ``key_token_weights``.
      w_max: Largest weight.
      eos_included: Whether ``ids`` ends with the end-of-sequence token.

    Returns:
      Weights, and the key positions, both counted from the first token of the reply.
    """
    keys: set[int] = set()
    closers: set[int] = set()
    tool_names = tuple(tool_names) if mode != "off" else ()
    for call in reply.calls if mode != "off" else ():
        left = text[reply.start : call.name[0]]
        gold = text[slice(*call.name)]
        over = tokens_over(offsets, call.name)
        rivals = (names(left, rival) for rival in tool_names if rival != gold)
        keys.update(over.start + p for p in key_positions([ids[i] for i in over], rivals))
        # A value ends at the comma or bracket after it; a call without arguments at its bracket.
        ends = [value[1] for _, value in call.arguments] or [call.call[1] - 1]
        for end in ends:
            closers.update(tokens_over(offsets, (end, end + 1)))
    weights = weights_at(
        len(ids),
        keys,
        w_max=w_max,
        mode=mode,
        closer_positions=closers,
        eos_included=eos_included,
    )
    return weights, sorted(keys)
