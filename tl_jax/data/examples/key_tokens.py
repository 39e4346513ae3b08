"""Prioritise key tokens: find the tokens that decide between tool names and weight them.

Key tokens of a reply are the first token of the tool name and, for every other tool whose name
shares a token prefix with it, the first token after that prefix. Mode ``extended`` adds the first
token of each parameter name, and the tokens at which the values of an enumerated parameter part.

A token that straddles the border of a name or value belongs to it (``alternatives.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from tl_jax.calls.call import ToolCall, ToolSpec
from tl_jax.data.examples.alternative_tokens import (
    AlternativeNames,
    alternative_values,
    enumerated,
    tokens_over,
)
from tl_jax.data.render.paper_template import CallSpan, ReplySpan
from tl_jax.data.tokenize.offsets import Offsets

# Characters after a piece that are written after its alternatives, too. A name is followed by the
# same mark in every call; after a value the next parameter's name matters to some tokenizers.
_AFTER_NAME, _AFTER_VALUE = 1, 8

MODES = ("off", "paper", "code", "extended")


def key_positions(
    name_ids: Sequence[int], rival_name_ids: Iterable[Sequence[int]]
) -> tuple[int, ...]:
    """Return the key positions, counted from the first token of the name, in rising order.

    An alternative that continues the whole name makes the token after the name (the opening
    bracket) a key token. Alternatives equal to the name or without a common first token add none.

    Args:
      name_ids: Tokens of the gold name.
      rival_name_ids: Tokens of the other names, tokenised in the same left context.
    """
    return tuple(sorted({0, *parting_positions(name_ids, rival_name_ids)}))


def parting_positions(ids: Sequence[int], alternatives: Iterable[Sequence[int]]) -> Iterator[int]:
    """Yield for every alternative other than ``ids`` the number of first tokens they share."""
    gold = tuple(ids)
    first = gold[:1]
    for alternative in map(tuple, alternatives):
        if alternative[:1] != first:
            yield 0
        elif alternative != gold:
            pairs = enumerate(zip(gold, alternative, strict=False))
            yield next((i for i, (a, b) in pairs if a != b), min(len(gold), len(alternative)))


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
) -> list[float]:
    """Return the loss weight of every token of a reply that is one call.

    Args:
      reply_ids: Tokens of the reply, the first of the tool name first, the end-of-sequence token
        last.
      name_ids: Tokens of the gold name.
      rival_name_ids: Tokens of the other names, tokenised in the same left context.
      w_max: Largest weight.
      mode: ``"paper"``: other tokens are all that are not key, the end-of-sequence token apart;
        ``"extended"`` counts them the same way.
        ``"code"``: other tokens are all that are neither key nor closers, the end-of-sequence
        token with them. ``"off"``: all weights are 1.
      closer_positions: Positions of the tokens that close a value (``"code"`` only).

    Source: method figure (``paper``), code/pkt/utils.py (``code``) of the TL-Training release.

    Example:
      >>> import tl_jax as tl
      >>> # The name 7 8 is told from 7 9: two key tokens and three others; 0 ends the reply.
      >>> tl.key_token_weights([7, 8, 1, 2, 3, 0], [7, 8], [[7, 9]], w_max=9.0, mode="paper")
      [1.5, 1.5, 1.0, 1.0, 1.0, 1.0]
    """
    positions = key_positions(name_ids, rival_name_ids)
    return weights_at(
        len(reply_ids), positions, w_max=w_max, mode=mode, closer_positions=closer_positions
    )


def weights_at(
    length: int,
    positions: Iterable[int],
    *,
    w_max: float,
    mode: str,
    closer_positions: Iterable[int] = (),
) -> list[float]:
    """Return the weights of ``length`` reply tokens, the end-of-sequence token among them."""
    if mode not in MODES:
        raise ValueError(f"unknown key token mode {mode!r}; known: {', '.join(MODES)}")
    weights = [1.0] * length
    key = {p for p in positions if p < length}
    if mode == "off" or not key:
        return weights
    if mode != "code":
        other = length - 1 - len(key - {length - 1})
    else:
        other = length - len(key.union(p for p in closer_positions if p < length))
    weight = key_weight(len(key), other, w_max=w_max)
    for position in key:
        weights[position] = weight
    return weights


def reply_weights(
    text: str,
    reply: ReplySpan,
    calls: Sequence[ToolCall],
    ids: Sequence[int],
    offsets: Offsets,
    tools: Sequence[ToolSpec],
    alternatives: AlternativeNames,
    *,
    mode: str,
    w_max: float,
    parameter_names: bool = True,
    enum_values: bool = True,
) -> tuple[list[float], list[int]]:
    """Weight the tokens of one rendered reply.

    Args:
      text: Rendered text that ``reply`` speaks about.
      reply: Spans of the reply.
      calls: The calls it was rendered from.
      ids: Tokens of ``text[reply.start : reply.stop]``, then the end-of-sequence token.
      offsets: Character ranges in ``text`` of the tokens without the end-of-sequence token.
      tools: Tools in the prompt.
      alternatives: Tokeniser of alternative names and values.
      mode: See ``key_token_weights``.
      w_max: Largest weight.
      parameter_names: The first token of each parameter name is key (``"extended"`` only).
      enum_values: The tokens at which the values of an enumerated parameter part are key
        (``"extended"`` only).

    Returns:
      Weights, and the key positions, both counted from the first token of the reply.
    """
    keys: set[int] = set()
    closers: set[int] = set()
    declared = {tool.name: tool for tool in tools}
    for call, spans in zip(calls, reply.calls, strict=True) if mode != "off" else ():
        gold = text[slice(*spans.name)]
        over = tokens_over(offsets, spans.name)
        others = [tool.name for tool in tools if tool.name != gold]
        beside = alternatives.beside(
            text, ids, offsets, spans.name, spans.call[0], _AFTER_NAME, others
        )
        found = key_positions(ids[over.start : over.stop], beside)
        keys.update(over.start + position for position in found)
        if mode == "extended" and parameter_names:
            keys.update(tokens_over(offsets, name).start for name, _ in spans.arguments)
        if mode == "extended" and enum_values and call.name in declared:
            keys.update(
                _enumerated_keys(text, call, spans, ids, offsets, declared[call.name], alternatives)
            )
        # A value ends at the comma or bracket after it; a call without arguments at its bracket.
        ends = [value[1] for _, value in spans.arguments] or [spans.call[1] - 1]
        for end in ends:
            closers.update(tokens_over(offsets, (end, end + 1)))
    weights = weights_at(len(ids), keys, w_max=w_max, mode=mode, closer_positions=closers)
    return weights, sorted(keys)


def _enumerated_keys(
    text: str,
    call: ToolCall,
    spans: CallSpan,
    ids: Sequence[int],
    offsets: Offsets,
    tool: ToolSpec,
    alternatives: AlternativeNames,
) -> Iterator[int]:
    """Yield the positions at which another listed value of a parameter leaves the value given."""
    for (name, gold), (name_span, span) in zip(
        call.arguments.items(), spans.arguments, strict=True
    ):
        parameter = tool.parameter(name)
        values = enumerated(parameter.schema) if parameter else ()
        others = alternative_values(gold, text[slice(*span)], values) if values else ()
        if others:
            over = tokens_over(offsets, span)
            beside = alternatives.beside(
                text, ids, offsets, span, name_span[0], _AFTER_VALUE, others
            )
            for position in parting_positions(ids[over.start : over.stop], beside):
                yield over.start + position
