"""Show results of evaluation suites side by side, with intervals and by noise: one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tl_jax.errors import ConfigError
from tl_jax.report import html
from tl_jax.report.more_scores import pair
from tl_jax.report.read import number, read_json

CLEAN = "clean"
Result = Mapping[str, Any]
Named = tuple[str, Result]
"""A system and one of its results."""

_FACTS = ("data", "version", "prompt", "template", "style", "replies", "model", "seed")
_ABOUT = (
    "Percent with 95 % Wilson intervals, drawn on a scale from 0 to 100; what has no interval is "
    "made of several shares. In brackets is the difference to the first column. Whether two "
    "systems differ on the same items is what `tl-jax evaluate --compare` tests."
)


def read_results(entries: Sequence[str]) -> list[Named]:
    """Read the results of systems.

    Args:
      entries: Result files of ``tl-jax evaluate --suite``, or directories of them, each as ``PATH``
        or ``NAME=PATH``; without a name a system is called as the file or directory is. Results of
        one name are of one system, such as those of its noise levels.

    Raises:
      ConfigError: No such file, or one that is no result.
    """
    found = []
    for entry in entries:
        name, equals, path = entry.partition("=")
        place = Path(path if equals else entry)
        files = sorted(place.glob("*.json")) if place.is_dir() else [place]
        if not files or not all(file.is_file() for file in files):
            raise ConfigError(f"--results: no file {place}; `tl-jax evaluate --suite` writes them")
        for file in files:
            result = read_json(file)
            scores = result.get("scores")
            if not isinstance(scores, Mapping) or not all(map(_is_number, scores.values())):
                raise ConfigError(
                    f"--results: {file} is no result of `tl-jax evaluate --suite`; it has no scores"
                )
            found.append((name if equals else place.stem, result))
    return found


def write_suites(results: Sequence[Named], path: Path) -> Path:
    """Write the page.

    Args:
      results: As from ``read_results``.
      path: Where to.

    Returns:
      The path.
    """
    suites = dict.fromkeys(str(result.get("suite", "")) for _, result in results)
    systems = dict.fromkeys(name for name, _ in results)
    sections = [
        _suite(suite, [(n, r) for n, r in results if str(r.get("suite", "")) == suite])
        for suite in suites
    ]
    title = "Evaluation: " + ", ".join(suites)
    path.write_text(html.page(title, " · ".join(systems), sections), encoding="utf-8")
    return path


def _suite(suite: str, results: Sequence[Named]) -> str:
    clean = [(name, result) for name, result in results if _noise(result) == CLEAN]
    parts = []
    if clean:
        parts.append(_side_by_side([name for name, _ in clean], [result for _, result in clean]))
    noisy = [name for name, result in results if _noise(result) != CLEAN]
    for name in dict.fromkeys(noisy):
        of_system = [result for other, result in results if other == name]
        parts.append(f"<h3>{html.text(f'{name}, by noise')}</h3>{by_noise(of_system)}")
    notes = dict.fromkeys(str(r["note"]) for _, r in results if r.get("note"))
    parts += [f'<p class="note">{html.text(note, 2000)}</p>' for note in (*notes, _ABOUT)]
    return html.section(suite, *parts, _facts(results))


def by_noise(results: Sequence[Result]) -> str:
    """Return a table of results of one system on one suite, a column for each noise."""
    levels = sorted(results, key=lambda result: _noise(result) != CLEAN)
    return _side_by_side([_noise(result) for result in levels], levels)


def _side_by_side(titles: Sequence[str], results: Sequence[Result]) -> str:
    """Return a table with a row for each score and a column for each result."""
    names = dict.fromkeys(name for result in results for name in result["scores"])
    rows = []
    for name in names:
        values = [number(result["scores"].get(name)) for result in results]
        cells = []
        for value, result in zip(values, results, strict=True):
            cell = html.share(value, pair(result.get("intervals"), name))
            difference = value - values[0]
            if cells and difference == difference:
                cell += f'<span class="range">({difference:+.1f})</span>'
            cells.append(cell)
        _, count = pair(results[0].get("counts"), name)
        items = f"{count:,.0f}" if count == count else ""
        rows.append([html.text(name), items, *cells])
    numeric = list(range(1, len(titles) + 2))
    return html.table(["score", "items", *titles], rows, numeric=numeric)


def _facts(results: Sequence[Named]) -> str:
    """Return what the scores shift with, of every result."""
    shown = [fact for fact in _FACTS if any(fact in result for _, result in results)]
    rows = [
        [html.text(name), html.text(_noise(result)), *(html.text(result.get(f, "")) for f in shown)]
        for name, result in results
    ]
    table = html.table(["system", "noise", *shown], rows)
    return f"<details><summary>What was scored</summary>{table}</details>"


def _noise(result: Result) -> str:
    return str(result.get("noise", CLEAN))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
