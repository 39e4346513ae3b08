"""inspect: show one training example, coloured by the loss weight of its tokens.

--example=N is the Nth of <run_dir>/data/examples, from 1. Context that is not trained is dim;
trained tokens are plain; key tokens (PKT) are on a background, the stronger the more they weigh;
turns that MAE left out are red and struck, and a table says by which rule. --html=PATH writes the
same as a self-contained page, where pointing at a token shows its weight. If the run has no data
yet, they are prepared first. Without a terminal, or with NO_COLOR set, brackets stand for colours.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tl_jax.cli import prepare
from tl_jax.data.examples.build import Example
from tl_jax.data.examples.shards import open_shards
from tl_jax.data.prepare.files import EXAMPLES
from tl_jax.errors import ConfigError
from tl_jax.parallel import processes
from tl_jax.report.example import LEVELS, TURN_COLUMNS, Piece, Sample, read_sample, write_page
from tl_jax.run import inputs
from tl_jax.run.directory import Run

_STYLES = {"untrained": "dim", "trained": "", "masked": "strike red"}
_KEY_STYLES = tuple(
    f"bold #10181f on {colour}"
    for colour in ("#fdf6d8", "#fdeaa0", "#fbcf4a", "#f9ae22", "#f28b1d")
)
# What stands for colours in plain text.
_BRACKETS = {"untrained": ("", ""), "trained": ("⟦", "⟧"), "masked": ("✗⟪", "⟫")}


FLAGS = {
    "example": (1, "which training example, from 1"),
    "html": ("", "write the example as a page to this file, too"),
}


def main(run: Run, console: Console, *, example: int, html: str) -> None:
    """Print one example and, if a path is given, write its page."""
    if not (run.data_dir / EXAMPLES).exists():
        prepare.main(run, console)
    if not processes.is_first():
        return
    if run.newest_phase() == "before":  # else the settings are those of the training
        inputs.check_prepared(run)
    if html and Path(html).is_dir():
        raise ConfigError(f"--html: {html} is a directory; give the path of a file")
    found = read_example(run.data_dir / EXAMPLES, example)
    sample = read_sample(found, example, run.tokenizer)
    coloured = console.color_system is not None and not console.no_color
    show(sample, console, coloured=coloured)
    if html:
        console.print(f"page: {write_page(sample, html)}", markup=False)


def read_example(path: Path, number: int) -> Example:
    """Return an example of a directory of examples, counted from 1.

    Raises:
      ConfigError: There is no such example.
      DataError: There are no examples.
    """
    if number < 1:
        raise ConfigError(f"--example: {number} is none; examples are counted from 1")
    found = open_shards(path)
    if number > len(found):
        raise ConfigError(f"--example: {number} is none; {path} has 1 to {len(found)}")
    return found.example(number - 1)


def show(sample: Sample, console: Console, *, coloured: bool) -> None:
    """Print an example: where it is from, its text, the legend, its turns and totals."""
    console.print(Text(sample.title, style="bold" if coloured else ""))
    console.print(Text(f"{sample.origin}\n"))
    console.print(_coloured(sample.pieces) if coloured else Text(bracketed(sample.pieces)))
    console.print(_legend() if coloured else Text(PLAIN_LEGEND))
    if sample.turns:
        table = Table(*TURN_COLUMNS)
        for cells in sample.turns:
            table.add_row(*map(escape, cells))
        console.print(table)
    console.print(Text("\n".join(f"{name}: {value}" for name, value in sample.totals)))


PLAIN_LEGEND = (
    "\nlegend: ⟦trained⟧, ‹key token×its weight›, ✗⟪left out by MAE⟫, ⟨control token⟩; "
    "the rest is context, untrained"
)


def bracketed(pieces: Iterable[Piece]) -> str:
    """Return the text with brackets round what is trained, key or left out."""
    parts, open_kind = [], "untrained"
    for piece in pieces:
        kind = "trained" if piece.kind == "key" else piece.kind
        if kind != open_kind:
            parts += (_BRACKETS[open_kind][1], _BRACKETS[kind][0])
            open_kind = kind
        text = f"⟨{piece.text}⟩" if piece.control else piece.text
        parts.append(f"‹{text}×{piece.weight:.3g}›" if piece.kind == "key" else text)
    return "".join([*parts, _BRACKETS[open_kind][1]])


def _coloured(pieces: Iterable[Piece]) -> Text:
    return Text.assemble(*((piece.text, _style(piece)) for piece in pieces), end="\n")


def _style(piece: Piece) -> str:
    style = _KEY_STYLES[piece.level] if piece.kind == "key" else _STYLES[piece.kind]
    return f"{style} underline" if piece.control else style


def _legend() -> Text:
    parts: list[Any] = ["\nlegend: "]
    for words, style in (
        ("untrained", _STYLES["untrained"]),
        ("trained", _STYLES["trained"]),
        *(
            (f"key, {f'more than x{LEVELS[level - 1]:g}' if level else 'x1'}", style)
            for level, style in enumerate(_KEY_STYLES)
        ),
        ("left out by MAE", _STYLES["masked"]),
        ("control token", "underline"),
    ):
        parts += [(words, style), "  "]
    return Text.assemble(*parts, "(x: times the least weight of the turn)")
