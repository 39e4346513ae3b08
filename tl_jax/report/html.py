"""Pieces of a self-contained HTML page; whatever they are given is escaped."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_CSS = """
:root { color-scheme: light dark; --page: #f5f7f9; --card: #fff; --ink: #1f2933;
  --soft: #5a6775; --faint: #73808d; --edge: #e4e9ee; --rule: #cbd2d9; --row: #eef1f4;
  --mark: #2f6690; --band: #b9d0e2; --good: #1f7a4d; --good-back: #e3f4ea; --bad: #b3261e;
  --bad-back: #fdeceb; }
@media (prefers-color-scheme: dark) { :root { --page: #14191f; --card: #1d242c; --ink: #e4e9ee;
  --soft: #a9b6c3; --faint: #8d9aa7; --edge: #303a45; --rule: #46525f; --row: #2a333d;
  --mark: #8fc1e6; --band: #34536b; --good: #7fd1a4; --good-back: #1c3a2b; --bad: #f2a29b;
  --bad-back: #46231f; }
  img { filter: invert(0.89) hue-rotate(180deg); } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 1060px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 27px; line-height: 1.25; margin: 0 0 4px; letter-spacing: -0.01em;
  overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 0 0 12px; overflow-wrap: anywhere; scroll-margin-top: 12px; }
h3 { font-size: 14px; margin: 18px 0 6px; color: var(--soft); font-weight: 600; }
p { margin: 0 0 10px; max-width: 76ch; overflow-wrap: anywhere; }
.sub, .note, .absent { color: var(--soft); }
.note, .absent { font-size: 13.5px; }
.scroll + .note { margin-top: 10px; }
nav { display: flex; flex-wrap: wrap; gap: 4px 14px; margin: 14px 0 0; font-size: 13.5px; }
nav a { color: var(--mark); text-decoration: none; }
section { background: var(--card); border: 1px solid var(--edge); border-radius: 10px;
  padding: 20px 22px; margin-top: 18px; }
.pair { display: grid; gap: 10px 26px;
  grid-template-columns: repeat(auto-fit, minmax(min(420px, 100%), 1fr)); }
.pair > * { min-width: 0; }
img { display: block; width: 100%; height: auto; background: #fff; border-radius: 6px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; }
th { text-align: left; color: var(--soft); font-weight: 600;
  border-bottom: 1px solid var(--rule); padding: 5px 12px 5px 0; white-space: nowrap; }
td { border-bottom: 1px solid var(--row); padding: 5px 12px 5px 0; vertical-align: top; }
th:last-child, td:last-child { padding-right: 0; }
tr:last-child td { border-bottom: 0; }
tr.first td { border-top: 1px solid var(--rule); }
tr.group td { padding-top: 12px; font-weight: 600; }
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
del, ins { text-decoration: none; border-radius: 3px; padding: 0 2px; }
del { color: var(--bad); background: var(--bad-back); border-bottom: 2px solid var(--bad); }
ins { color: var(--good); background: var(--good-back); border-bottom: 2px dotted var(--good); }
.tag { display: inline-block; border-radius: 9px; padding: 0 8px; font-size: 12.5px;
  font-weight: 600; color: var(--bad); background: var(--bad-back); }
.good { color: var(--good); background: var(--good-back); }
.plain { color: var(--soft); background: var(--row); }
.cases { display: grid; gap: 12px;
  grid-template-columns: repeat(auto-fit, minmax(min(400px, 100%), 1fr)); }
.case { border: 1px solid var(--edge); border-radius: 8px; padding: 10px 12px; min-width: 0; }
.case p { margin: 6px 0; white-space: pre-wrap; font-size: 13.5px; max-height: 11em;
  overflow: auto; }
.case dl { margin: 0; display: grid; grid-template-columns: auto 1fr; gap: 3px 10px; }
.case dt { color: var(--faint); font-size: 12px; }
.case dd { margin: 0; min-width: 0; white-space: pre-wrap; }
.from { color: var(--faint); font-size: 12px; margin-left: 6px; overflow-wrap: anywhere; }
.bar { display: grid; grid-template-columns: 11em 1fr 9em; gap: 2px 10px; align-items: center;
  font-size: 13.5px; margin: 3px 0; }
.bar span { overflow-wrap: anywhere; min-width: 0; }
.bar i { display: block; height: 12px; min-width: 2px; border-radius: 3px;
  background: var(--mark); }
.bar.out i { background: var(--rule); }
.bar.sub i { background: var(--bad); opacity: 0.75; }
.bar.sub span:first-child { padding-left: 1em; color: var(--soft); }
details { margin-top: 10px; }
details > summary { cursor: pointer; font-size: 14px; font-weight: 600; color: var(--mark); }
.folded { margin-top: 0; }
.folded > summary { font-size: 18px; font-weight: 700; color: inherit; }
details[open] > summary { margin-bottom: 12px; }
@media (max-width: 520px) { main { padding: 20px 10px 40px; } section { padding: 14px 12px; }
  h1 { font-size: 22px; } td:first-child { overflow-wrap: anywhere; }
  td.num, th { white-space: normal; } .num .range { display: inline-block; margin-left: 3px; }
  td, th { padding-right: 8px; } .span { min-width: 56px; } .code { min-width: 130px; }
  .bar { grid-template-columns: 7.5em 1fr 8em; font-size: 12.5px; } }
@media print { :root { color-scheme: light; } body { background: #fff; }
  main { max-width: none; padding: 0; } section { border: 0; padding: 8px 0; }
  nav { display: none; }
  .scroll, .case p { overflow: visible; max-height: none; }
  details::details-content { content-visibility: visible; }
  h2, h3 { break-after: avoid; } tr, img, .case { break-inside: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
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


def share(percent: float, bounds: Sequence[float]) -> str:
    """Return a share in percent as a cell of a table, its interval as numbers and drawn to scale.

    Args:
      percent: The share.
      bounds: Its interval ``(low, high)`` in percent; NaN: there is none.
    """
    low, high = bounds
    if low != low or high != high:
        return number(percent)
    return (
        f'{number(percent)}<span class="range">{number(low)} to {number(high)}</span>'
        f"{scale(percent, bounds)}"
    )


def scale(percent: float, bounds: Sequence[float]) -> str:
    """Return a share in percent and its interval, drawn on a scale from 0 to 100."""
    parts = (percent, *bounds)
    if any(part != part for part in parts):
        return '<span class="span"></span>'
    at, low, high = (min(max(float(part), 0.0), 100.0) for part in parts)
    return (
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
      rows: Cells that are HTML already (from ``text``, ``number`` or ``score``); a row of one cell
        is the title of the group below it.
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
        if len(row) == 1 < len(head):
            body.append(f'<tr class="group"><td colspan="{len(head)}">{row[0]}</td></tr>')
            continue
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


def bars(rows: Iterable[tuple[str, float, str, str]], *, most: float) -> str:
    """Return horizontal bars on one scale.

    Args:
      rows: Name, value, what stands beside the bar, and a class of the style (``"sub"``, ``"out"``
        or nothing); texts are escaped here.
      most: Value of a bar that fills the width.
    """
    drawn = []
    for name, value, beside, kind in rows:
        width = min(max(100 * value / most, 0.0), 100.0) if most > 0 else 0.0
        drawn.append(
            f'<div class="{f"bar {kind}".strip()}"><span>{text(name, 120)}</span>'
            f'<span><i style="width:{width:.2f}%"></i></span><span>{text(beside, 60)}</span></div>'
        )
    return "".join(drawn)


def case(labels: str, asked: str, rows: Iterable[tuple[str, str]]) -> str:
    """Return a reply with what is right beside it.

    Args:
      labels: HTML of what kind of reply it is.
      asked: What it replies to, escaped here; empty: not known.
      rows: Name (escaped here) and HTML of each text.
    """
    texts = "".join(f'<dt>{text(name)}</dt><dd class="code">{cell}</dd>' for name, cell in rows)
    question = f"<p>{text(asked, 1300)}</p>" if asked else ""
    return f'<div class="case">{labels}{question}<dl>{texts}</dl></div>'


def cases(found: Sequence[str], *, open_: int) -> str:
    """Return the first cases side by side, the others behind a click."""
    shown = f'<div class="cases">{"".join(found[:open_])}</div>'
    rest = found[open_:]
    if not rest:
        return shown
    more = f'<div class="cases">{"".join(rest)}</div>'
    return f"{shown}<details><summary>{len(rest)} more</summary>{more}</details>"


def label(name: str, kind: str = "") -> str:
    """Return a small label, escaped here: ``"good"``, ``"plain"`` or, without a kind, a fault."""
    return f'<span class="{f"tag {kind}".strip()}">{text(name, 60)}</span>'


def flat(tree: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Return the leaves of nested mappings as dotted name and JSON."""
    if isinstance(tree, Mapping):
        return [
            pair
            for key, value in tree.items()
            for pair in flat(value, f"{prefix}.{key}" if prefix else str(key))
        ]
    return [(prefix, json.dumps(tree, ensure_ascii=False))]


def absent(what: str) -> str:
    """Return the line that says what the run directory does not hold."""
    return f'<p class="absent">{text(what)}</p>'


def section(title: str, *parts: str, folded: bool = False) -> str:
    """Return a titled section, closed until clicked if ``folded``."""
    content = "".join(parts)
    if folded:
        summary = f'<summary id="{_anchor(title)}">{text(title)}</summary>'
        return f'<section><details class="folded">{summary}{content}</details></section>'
    return f'<section><h2 id="{_anchor(title)}">{text(title)}</h2>{content}</section>'


def contents(sections: Iterable[str]) -> str:
    """Return links to sections, as ``section`` makes them."""
    found = [re.search(r'id="([^"]*)">([^<]*)<', section_) for section_ in sections]
    links = (f'<a href="#{match[1]}">{match[2]}</a>' for match in found if match)
    return f"<nav>{''.join(links)}</nav>"


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def page(
    title: str, subtitle: str, sections: Iterable[str], *, style: str = "", head: str = ""
) -> str:
    """Return the page; a policy in it forbids scripts and the network.

    Args:
      title: Of the page, escaped here, as is ``subtitle``.
      subtitle: Below it.
      sections: HTML from ``section``.
      style: Further style rules, not from data.
      head: HTML below the subtitle.
    """
    content = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        f"<title>{text(title)}</title><style>{_CSS}{style}</style></head><body><main>"
        f'<h1>{text(title)}</h1><p class="sub">{text(subtitle)}</p>{head}'
        f"{''.join(sections)}</main></body></html>\n"
    )
    # Half a surrogate pair has no form in UTF-8.
    return content.encode("utf-8", "replace").decode()
