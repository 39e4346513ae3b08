"""Pieces of a self-contained HTML page; whatever they are given is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

_CSS = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #f5f7f9; color: #1f2933;
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 1060px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 27px; line-height: 1.25; margin: 0 0 4px; letter-spacing: -0.01em; }
h2 { font-size: 18px; margin: 0 0 12px; }
h3 { font-size: 14px; margin: 18px 0 6px; color: #52606d; font-weight: 600; }
p { margin: 0 0 10px; max-width: 76ch; }
.sub, .note, .absent { color: #616e7c; }
.note, .absent { font-size: 13.5px; }
section { background: #fff; border: 1px solid #e4e9ee; border-radius: 10px;
  padding: 20px 22px; margin-top: 18px; }
.pair { display: grid; gap: 10px 26px;
  grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); }
img { display: block; width: 100%; height: auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; }
th { text-align: left; color: #616e7c; font-weight: 600; border-bottom: 1px solid #cbd2d9;
  padding: 5px 12px 5px 0; white-space: nowrap; }
td { border-bottom: 1px solid #eef1f4; padding: 5px 12px 5px 0; vertical-align: top; }
tr:last-child td { border-bottom: 0; }
tr.first td { border-top: 1px solid #cbd2d9; }
.num { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.range { color: #7b8794; font-size: 12px; margin-left: 6px; }
code, .code { font: 12.5px/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  overflow-wrap: anywhere; }
.code { min-width: 210px; }
details > summary { cursor: pointer; font-size: 18px; font-weight: 700; }
details[open] > summary { margin-bottom: 12px; }
"""


def text(value: Any, limit: int = 300) -> str:
    """Return ``value`` as escaped text of at most ``limit`` characters, cut in the middle."""
    raw = str(value)
    if len(raw) > limit:
        half = (limit - 3) // 2
        raw = f"{raw[:half]} … {raw[len(raw) - half :]}"
    return html.escape(raw)


def number(value: float, digits: int = 1) -> str:
    """Return a number for a table; a dash if it is not one."""
    return f"{value:,.{digits}f}" if value == value else "–"


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numeric: Sequence[int] = (),
    code: Sequence[int] = (),
    group_starts: Sequence[int] = (),
) -> str:
    """Return a table.

    Args:
      head: Column titles, escaped here.
      rows: Cells that are HTML already (from ``text``, ``number`` or ``score``).
      numeric: Columns set flush right.
      code: Columns set in a fixed pitch.
      group_starts: Rows that begin a group, ruled above.
    """

    def attribute(column: int) -> str:
        name = "num" if column in numeric else "code" if column in code else ""
        return f' class="{name}"' if name else ""

    titles = "".join(
        f'<th class="num">{text(title)}</th>' if i in numeric else f"<th>{text(title)}</th>"
        for i, title in enumerate(head)
    )
    body = []
    for index, row in enumerate(rows):
        ruled = ' class="first"' if index in group_starts else ""
        cells = "".join(f"<td{attribute(i)}>{cell}</td>" for i, cell in enumerate(row))
        body.append(f"<tr{ruled}>{cells}</tr>")
    return (
        f'<div class="scroll"><table><thead><tr>{titles}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def image(uri: str, alternative: str) -> str:
    """Return an embedded picture with its description."""
    return f'<img src="{html.escape(uri)}" alt="{text(alternative)}">'


def absent(what: str) -> str:
    """Return the line that says what the run directory does not hold."""
    return f'<p class="absent">{text(what)}</p>'


def section(title: str, *parts: str, folded: bool = False) -> str:
    """Return a titled section, closed until clicked if ``folded``."""
    content = "".join(parts)
    if folded:
        return f"<section><details><summary>{text(title)}</summary>{content}</details></section>"
    return f"<section><h2>{text(title)}</h2>{content}</section>"


def page(title: str, subtitle: str, sections: Iterable[str], *, style: str = "") -> str:
    """Return the page; a policy in it forbids scripts and the network.

    Args:
      title: Of the page, escaped here, as is ``subtitle``.
      subtitle: Below it.
      sections: HTML from ``section``.
      style: Further style rules, not from data.
    """
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        f"<title>{text(title)}</title><style>{_CSS}{style}</style></head><body><main>"
        f'<h1>{text(title)}</h1><p class="sub">{text(subtitle)}</p>'
        f"{''.join(sections)}</main></body></html>\n"
    )
