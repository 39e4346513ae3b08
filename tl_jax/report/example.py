"""One prepared example as a person reads it: what is trained, what is key, what MAE left out."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from tl_jax.data.examples import annotations
from tl_jax.data.examples.annotations import TurnAnnotation
from tl_jax.data.examples.build import DROPPED_TAG, ELIDED_TAG, Example
from tl_jax.data.tokenize.tokenizer import Tokenizer
from tl_jax.report import html
from tl_jax.screen import visible

_CONTEXT_KEPT = 300

KINDS = ("untrained", "trained", "key", "masked")
LEVELS = (1.0, 2.0, 4.0, 7.0)
"""A key token is on the level of how many of these its strength exceeds."""

CSS = """
:root { --dim: #78828e; --text: #10181f; --gone: #b42318; --gone-back: #fdecea;
  --key0: #fdf6d8; --key1: #fdeaa0; --key2: #fbcf4a; --key3: #f9ae22; --key4: #f28b1d; }
@media (prefers-color-scheme: dark) { :root { --dim: #8c97a3; --text: #f1f4f7; --gone: #f2a29b;
  --gone-back: #46231f; --key0: #39342022; --key1: #4a3f16; --key2: #6b5410; --key3: #8a5a0b;
  --key4: #a8530a; } }
.sample { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0;
  font: 13px/1.6 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.untrained { color: var(--dim); }
.trained { color: var(--text); }
.masked { color: var(--gone); background: var(--gone-back); text-decoration: line-through; }
.key { color: var(--text); font-weight: 700; border-radius: 3px; }
.level0 { background: var(--key0); }
.level1 { background: var(--key1); }
.level2 { background: var(--key2); }
.level3 { background: var(--key3); }
.level4 { background: var(--key4); }
.control { outline: 1px solid #829ab1; border-radius: 3px; }
.legend span { display: inline-block; margin-right: 14px; }
"""


@dataclasses.dataclass(frozen=True)
class Piece:
    """Text of neighbouring tokens that are treated alike.

    Attributes:
      text: What to show; control characters and the line ends of key tokens are written out.
      kind: One of ``KINDS``.
      weight: Loss weight of its tokens, the largest of a character of several tokens.
      strength: That weight over the least one trained in its turn.
      tokens: How many tokens it is.
      control: Whether it is a control token, not text that spells one.
      turn: The judged turn it belongs to.
    """

    text: str
    kind: str
    weight: float = 0.0
    strength: float = 1.0
    tokens: int = 1
    control: bool = False
    turn: TurnAnnotation | None = None

    @property
    def level(self) -> int:
        """How strongly to colour a key token, from 0."""
        return sum(self.strength > limit for limit in LEVELS)


@dataclasses.dataclass(frozen=True)
class Sample:
    """An example, ready to be shown.

    Attributes:
      title: Which one it is.
      origin: Where it comes from.
      pieces: Its text in order.
      turns: Rows of ``TURN_COLUMNS``.
      totals: Names and values.
    """

    title: str
    origin: str
    pieces: tuple[Piece, ...]
    turns: tuple[tuple[str, ...], ...]
    totals: tuple[tuple[str, str], ...]


TURN_COLUMNS = ("turn", "outcome", "tokens", "key", "weight of key", "category", "decided by")


def describe(
    title: str,
    origin: str,
    texts: Sequence[str],
    weights: Sequence[float],
    keys: Collection[int],
    turns: Sequence[TurnAnnotation],
    control: Collection[int] = (),
) -> Sample:
    """Gather what is to be shown of an example.

    Args:
      title: Which example it is.
      origin: Where it comes from.
      texts: Text of every token; empty for the first tokens of a character of several.
      weights: Loss weight of every token.
      keys: Positions of key tokens.
      turns: Turns that are trained or left out.
      control: Positions of control tokens.
    """
    rows = []
    for turn in turns:
        span = range(turn.start, turn.end)
        heavy = sorted(weights[i] for i in span if i in keys and weights[i] > 0)
        rows.append(
            (
                str(turn.turn),
                _outcome(turn),
                str(len(span)),
                str(len(heavy)) if turn.trained else "",
                _range(heavy),
                visible(turn.category),
                visible(turn.reason),
            )
        )
    pieces = tuple(_merged(_pieces(texts, weights, keys, turns, control)))
    return Sample(
        visible(title), visible(origin), pieces, tuple(rows), _totals(weights, keys, turns)
    )


def read_sample(example: Example, number: int, tokenizer: Tokenizer) -> Sample:
    """Return what is to be shown of an example.

    Args:
      example: A prepared example.
      number: Its number, from 1.
      tokenizer: That of its run.
    """
    tags, ids = example.tags, example.ids
    added = tokenizer.backend.get_added_tokens_decoder()
    control = {token for token, what in added.items() if what.special}
    line = int(tags["line"]) + 1
    place = f", line {line}" if line else ""
    left_out = "".join(
        f"; {tags[tag]} {what} to fit"
        for tag, what in (
            (ELIDED_TAG, "tool feedbacks are shortened"),
            (DROPPED_TAG, "old messages are left out"),
        )
        if tag in tags
    )
    return describe(
        f"Example {number}: {example.id}",
        f"from {tags['source'] or 'an unnamed source'}{place}, trajectory {tags['trajectory']}"
        f"{left_out}",
        tokenizer.pieces(ids),
        example.weights,
        annotations.read_keys(tags),
        annotations.read_turns(tags),
        {position for position, token in enumerate(ids) if token in control},
    )


def write_page(sample: Sample, path: str | os.PathLike[str]) -> Path:
    """Write the example as a self-contained HTML page and return its path."""
    turns = [[html.text(cell, 200) for cell in row] for row in sample.turns]
    totals = [[html.text(name), html.text(value)] for name, value in sample.totals]
    sections = (
        html.section("Turns", html.table(TURN_COLUMNS, turns, numeric=[2, 3, 4])),
        html.section("Text", LEGEND, body(sample.pieces)),
        html.section("Totals", html.table(("", ""), totals)),
    )
    page = html.page(sample.title, sample.origin, sections, style=CSS)
    out = Path(path)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page, encoding="utf-8")
    return out


def body(pieces: Iterable[Piece]) -> str:
    """Return the text of a sample as HTML, shaded by weight."""
    return f'<pre class="sample">{"".join(map(_span, pieces))}</pre>'


def shortened(pieces: Iterable[Piece]) -> list[Piece]:
    """Return pieces whose long context lacks its middle, and says how much it lacks."""
    return [
        dataclasses.replace(piece, text=_cut(piece.text)) if piece.kind == "untrained" else piece
        for piece in pieces
    ]


def _cut(text: str) -> str:
    left_out = len(text) - 2 * _CONTEXT_KEPT
    if left_out < _CONTEXT_KEPT:
        return text
    return f"{text[:_CONTEXT_KEPT]}\n[… {left_out:,} characters …]\n{text[-_CONTEXT_KEPT:]}"


def _outcome(turn: TurnAnnotation) -> str:
    if not turn.trained:
        return "left out by MAE"
    part = " in part" if turn.verdict == "partly" else ""
    return f"trained{part}{f' at x{turn.weight:g}' if turn.weight != 1 else ''}"


def _pieces(
    texts: Sequence[str],
    weights: Sequence[float],
    keys: Collection[int],
    turns: Sequence[TurnAnnotation],
    control: Collection[int],
) -> Iterator[Piece]:
    owners = {i: turn for turn in turns for i in range(turn.start, turn.end)}
    least = {
        turn: min((w for w in weights[turn.start : turn.end] if w > 0), default=1.0)
        for turn in turns
    }
    first = 0
    for end in range(1, len(texts) + 1):
        if not texts[end - 1] and end < len(texts):
            continue
        group = range(first, end)
        first = end
        turn = owners.get(group[-1])
        weight = max(weights[i] for i in group)
        if weight > 0:
            kind = "key" if any(i in keys for i in group) else "trained"
        else:
            kind = "masked" if turn else "untrained"
        text = visible(texts[end - 1])
        yield Piece(
            text.replace("\n", "↵\n") if kind == "key" else text,
            kind,
            weight,
            weight / least[turn] if turn and weight > 0 else 1.0,
            len(group),
            group[-1] in control,
            turn,
        )


def _merged(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """Join neighbours that look the same; key and control tokens stay apart."""
    last = None
    for piece in pieces:
        if last and _alike(last, piece):
            text, tokens = last.text + piece.text, last.tokens + piece.tokens
            last = dataclasses.replace(last, text=text, tokens=tokens)
            continue
        if last:
            yield last
        last = piece
    if last:
        yield last


def _alike(last: Piece, piece: Piece) -> bool:
    if piece.kind == "key" or piece.control or last.control:
        return False
    return (last.kind, last.weight, last.turn) == (piece.kind, piece.weight, piece.turn)


def _totals(
    weights: Sequence[float], keys: Collection[int], turns: Sequence[TurnAnnotation]
) -> tuple[tuple[str, str], ...]:
    trained = sum(weight > 0 for weight in weights)
    total = sum(weights)
    keys = [key for key in keys if weights[key] > 0]
    heavy = sum(weights[key] for key in keys)
    left_out = [turn for turn in turns if not turn.trained]
    return (
        ("tokens", f"{len(weights):,}"),
        ("trained tokens", f"{trained:,} ({_percent(trained, len(weights))})"),
        ("key tokens", f"{len(keys):,} ({_percent(heavy, total)} of the loss weight)"),
        (
            "left out by MAE",
            f"{len(left_out):,} turns, {sum(t.end - t.start for t in left_out):,} tokens",
        ),
        ("sum of weights", f"{total:,.2f}"),
    )


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole if whole else 0:.1f} %"


def _range(values: Sequence[float]) -> str:
    return " to ".join(f"{value:.3g}" for value in dict.fromkeys((*values[:1], *values[-1:])))


def _span(piece: Piece) -> str:
    names = [piece.kind]
    if piece.kind == "key":
        names.append(f"level{piece.level}")
    if piece.control:
        names.append("control")
    note = f"weight {piece.weight:.4g}, {piece.tokens} tokens" if piece.weight else ""
    if piece.kind == "masked" and piece.turn:
        note = f"left out by MAE: {visible(piece.turn.category)}: {visible(piece.turn.reason)}"
    title = f' title="{html.text(note)}"' if note else ""
    return f'<span class="{" ".join(names)}"{title}>{html.text(piece.text, len(piece.text))}</span>'


def _legend() -> str:
    limits = (1, *LEVELS)
    levels = "".join(
        f'<span class="key level{level}">key, more than x{limits[level]:g}</span>'
        for level in range(1, len(LEVELS) + 1)
    )
    return (
        '<p class="legend"><span class="untrained">untrained</span>'
        f'<span class="trained">trained</span><span class="key level0">key, x1</span>{levels}'
        '<span class="masked">left out by MAE</span><span class="control">control token</span></p>'
        '<p class="note">x: how many times the least weight of its turn. Rest the pointer on a '
        "token to read its weight, or why its turn is left out.</p>"
    )


LEGEND = _legend()
"""What the shades of ``body`` mean, as HTML."""
