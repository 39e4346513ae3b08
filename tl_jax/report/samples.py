"""Prepared samples of a run, their tokens shaded by weight."""

from __future__ import annotations

from collections.abc import Sequence

from tl_jax.data.tokenize.tokenizer import Tokenizer
from tl_jax.report import html
from tl_jax.report.example import LEGEND, body, read_sample, shortened
from tl_jax.report.read import RunData

TITLE = "Samples, token by token"


def section(run: RunData, tokenizer: Tokenizer | None) -> str:
    """Return the section with prepared samples, their tokens shaded by weight."""
    if tokenizer is None or not run.examples:
        missing = "data/examples" if not run.examples else "tokenizer of the model"
        return html.section(TITLE, html.absent(f"No {missing} at hand."))
    parts = [LEGEND]
    for at, (index, example) in enumerate(run.examples):
        try:
            sample = read_sample(example, index + 1, tokenizer)
        except (KeyError, ValueError, IndexError, OverflowError):
            parts.append(html.absent(f"Example {index + 1} is not of this tokenizer."))
            continue
        title = f"{sample.title} ({sample.origin})"
        rows = [[html.text(cell, 200) for cell in row] for row in sample.turns]
        shown = body(shortened(sample.pieces)) + _turns(rows)
        opened = " open" if at == 0 else ""
        parts.append(
            f"<details{opened}><summary>{html.text(title, 160)}</summary>{shown}</details>"
        )
    return html.section(TITLE, *parts)


def _turns(rows: Sequence[Sequence[str]]) -> str:
    head = ("turn", "outcome", "category", "decided by")
    cells = [[row[0], row[1], row[5], row[6]] for row in rows]
    return html.table(head, cells) if cells else ""
