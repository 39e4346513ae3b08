"""Pieces of a self-contained HTML page; whatever they are given is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

_CSS = """
:root { color-scheme: light dark; --page: #f5f7f9; --card: #fff; --ink: #1f2933;
  --soft: #616e7c; --faint: #7b8794; --edge: #e4e9ee; --rule: #cbd2d9; --row: #eef1f4;
  --mark: #2f6690; --band: #b9d0e2; }
@media (prefers-color-scheme: dark) { :root { --page: #14191f; --card: #1d242c; --ink: #e4e9ee;
  --soft: #a3b0bd; --faint: #8d9aa7; --edge: #303a45; --rule: #46525f; --row: #2a333d;
  --mark: #8fc1e6; --band: #34536b; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 1060px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 27px; line-height: 1.25; margin: 0 0 4px; letter-spacing: -0.01em;
  overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 0 0 12px; overflow-wrap: anywhere; }
h3 { font-size: 14px; margin: 18px 0 6px; color: var(--soft); font-weight: 600; }
p { margin: 0 0 10px; max-width: 76ch; overflow-wrap: anywhere; }
.sub, .note, .absent { color: var(--soft); }
.note, .absent { font-size: 13.5px; }
section { background: var(--card); border: 1px solid var(--edge); border-radius: 10px;
  padding: 20px 22px; margin-top: 18px; }
.pair { display: grid; gap: 10px 26px;
  grid-template-columns: repeat(auto-fit, minmax(min(420px, 100%), 1fr)); }
img { display: block; width: 100%; height: auto; background: #fff; border-radius: 6px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; }
th { text-align: left; color: var(--soft); font-weight: 600;
  border-bottom: 1px solid var(--rule); padding: 5px 12px 5px 0; white-space: nowrap; }
td { border-bottom: 1px solid var(--row); padding: 5px 12px 5px 0; vertical-align: top; }
tr:last-child td { border-bottom: 0; }
tr.first td { border-top: 1px solid var(--rule); }
.num { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.range { color: var(--faint); font-size: 12px; margin-left: 6px; }
.span { display: block; position: relative; height: 5px; min-width: 90px; margin-top: 3px;
  background: var(--row); border-radius: 3px; }
.span i, .span b { position: absolute; top: 0; height: 5px; border-radius: 3px; }
.span i { background: var(--band); }
.span b { width: 3px; margin-left: -1px; background: var(--mark); }
code, .code { font: 12.5px/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  overflow-wrap: anywhere; }
.code { min-width: 210px; }
details > summary { cursor: pointer; font-size: 18px; font-weight: 700; }
details[open] > summary { margin-bottom: 12px; }
@media (max-width: 520px) { main { padding: 20px 10px 40px; } section { padding: 14px 12px; }
  td:first-child { overflow-wrap: anywhere; } td.num, th { white-space: normal; }
  .num .range { display: inline-block; margin-left: 3px; }
  td, th { padding-right: 8px; } .span { min-width: 56px; } }
@media print { :root { color-scheme: light; } body { background: #fff; }
  main { max-width: none; padding: 0; } section { border: 0; padding: 8px 0; }
  .scroll { overflow: visible; } tr, img { break-inside: avoid; } }
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


def share(percent: float, bounds: Sequence[float] | None) -> str:
    """Return a share in percent as a cell of a table, its interval as numbers and drawn to scale.

    Args:
      percent: The share.
      bounds: Its interval ``(low, high)`` in percent; None: there is none.
    """
    if bounds is None:
        return number(percent)
    low, high = (min(max(float(bound), 0.0), 100.0) for bound in bounds)
    at = min(max(percent, 0.0), 100.0)
    return (
        f'{number(percent)}<span class="range">{number(low)} to {number(high)}</span>'
        f'<span class="span"><i style="left:{low:.1f}%;width:{high - low:.1f}%"></i>'
        f'<b style="left:{at:.1f}%"></b></span>'
    )


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
