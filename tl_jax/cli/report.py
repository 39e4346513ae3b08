"""report: one self-contained page about the run; `report mae`, `report gain`, `report suites`.

`report` writes <run_dir>/report.html (no network needed to read it) and report.png from what is in
the run directory: scores, curves, error categories, what MAE kept and dropped, the worst sampled
calls, throughput, configuration and versions.
`report mae` prints the calls of the prepared data by kind of error and draws them into
<run_dir>/mae.png. With --data=FILE it judges that file by the settings in config.mae (or their
defaults: --config is not needed), prepares nothing, and draws into mae.png in the current folder.
`report gain --runs=DIR,DIR,DIR` compares, task by task, the supervised model of each run with the
same after reward training, and gives the gains of every run and their mean, with intervals, in
gain.html, gain.png and gain.json in the current folder. It needs no --config.
`report suites --results=PATH,NAME=PATH` shows results of `tl-jax evaluate --suite` side by side in
suites.html in the current folder: files or directories of them, by system, suite and noise; those
of one NAME are of one system. It needs no --config.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tl_jax.config import RunConfig
from tl_jax.data.importers import BadRow, Source
from tl_jax.data.mae.labels import LabelCounts, label_turns
from tl_jax.data.mae.policy import policy_of
from tl_jax.data.prepare.files import REPORT
from tl_jax.data.prepare.sources import open_sources, parse_source
from tl_jax.data.tokenize.tokenizer import Tokenizer
from tl_jax.errors import ConfigError, TlJaxError
from tl_jax.evaluate.compare_runs import compare
from tl_jax.evaluate.scores import METRICS
from tl_jax.parallel import processes
from tl_jax.report import mae
from tl_jax.report.gains import write_gains
from tl_jax.report.read import labelled_sets, read_json
from tl_jax.report.run import write_report
from tl_jax.report.suites import read_results, write_suites
from tl_jax.run.directory import Run

CHART = "mae.png"
GAIN = "gain"
"""Name of the files of ``report gain``, without an ending."""
SUITES = "suites.html"

FLAGS = {
    "topic": (("", "mae", "gain", "suites"), "`report mae` is short for --topic=mae"),
    "data": ("", "with mae, the FILE[:FORMAT] to judge"),
    "runs": ([], "with gain, the directories of runs, by commas"),
    "results": ([], "with suites, results of evaluations, as PATH or NAME=PATH, by commas"),
}
WITHOUT_RUN = ("data", "runs", "results", "topic=gain", "topic=suites")

_RULES_SHOWN = 12


def main(
    run: Run | None,
    console: Console,
    topic: str = "",
    data: str = "",
    runs: Sequence[str] = (),
    results: Sequence[str] = (),
) -> None:
    """Write the report and print its path.

    Args:
      run: The run; may be None where ``data`` or ``runs`` are given.
      console: Where to print.
      topic: ``"mae"`` for the table of errors, ``"gain"`` for the gains of ``runs``, ``"suites"``
        for ``results`` side by side, else empty.
      data: A trajectory file to judge, as ``FILE`` or ``FILE:FORMAT``.
      runs: Run directories.
      results: Result files or directories.
    """
    _check(topic, data, runs, results)
    if processes.is_first():
        if topic == "mae":
            _show_mae(run, console, data)
        elif topic == "gain":
            _show_gain(runs, console)
        elif topic == "suites":
            path = write_suites(read_results(results), Path(SUITES))
            console.print(f"report: {path}", markup=False)
        elif run is not None:
            path = write_report(run.run_dir, _tokenizer(run))
            console.print(f"report: {path}", markup=False)
    processes.wait_for_all("report")


def _tokenizer(run: Run) -> Tokenizer | None:
    """Return the tokenizer of the model; None where the model is not at hand."""
    try:
        return run.tokenizer
    except (TlJaxError, OSError):
        return None


def show_plan(
    run: Run | None,
    console: Console,
    topic: str = "",
    data: str = "",
    runs: Sequence[str] = (),
    results: Sequence[str] = (),
) -> None:
    """Print what would be judged or compared and where the result would go; see ``main``."""
    _check(topic, data, runs, results)
    if runs or results:
        files = SUITES if results else f"{GAIN}.*"
        text = f"plan of tl-jax report {topic}\nof: {', '.join((*runs, *results))}\nfiles: {files}"
        console.print(text, markup=False)
        return
    config = run.config if run is not None else RunConfig()
    rows, known = _rows(data, config), parse_source(data)[0]
    if isinstance(rows, Source):
        known += f" ({rows.format}; {rows.reason})"
    text = (
        f"plan of tl-jax report {topic}\ndata:  {known}\nrules: {config.mae.rules}\nchart: {CHART}"
    )
    console.print(text, markup=False)


def _check(topic: str, data: str, runs: Sequence[str], results: Sequence[str]) -> None:
    if data and topic != "mae":
        raise ConfigError("--data is for `tl-jax report mae`")
    if bool(runs) != (topic == "gain"):
        raise ConfigError("--runs=DIR,DIR,... is for `tl-jax report gain`, which needs it")
    if bool(results) != (topic == "suites"):
        raise ConfigError("--results=PATH,... is for `tl-jax report suites`, which needs it")


def judge(text: str, config: RunConfig) -> dict[str, Any]:
    """Return the MAE counts of a trajectory file, as ``LabelCounts.report`` with ``bad_rows``.

    Beside their number stands what is wrong with the first of them.

    Args:
      text: ``FILE`` or ``FILE:FORMAT``.
      config: Its ``mae`` section is the policy.
    """
    policy = policy_of(config.mae)
    counts, bad, first = LabelCounts(), 0, ""
    for row in _rows(text, config):
        if isinstance(row, BadRow):
            bad += 1
            first = first or f"row {row.line + 1}: {row.reason}"
        else:
            counts.add(label_turns(row, policy))
    return {**counts.report(), "bad_rows": bad, "first_bad_row": first}


def _rows(text: str, config: RunConfig) -> Any:
    path, form, _ = parse_source(text)
    data = dataclasses.replace(config.data, sources=(), path=path, format=form)
    return open_sources(data, config.seed)[0].rows


def _show_mae(run: Run | None, console: Console, data: str) -> None:
    if data:
        config = run.config if run is not None else RunConfig()
        report, chart, name = judge(data, config), Path(CHART), parse_source(data)[0]
    else:
        assert run is not None, "without a file of data there is a run"
        report, chart = read_json(run.data_dir / REPORT), run.run_dir / CHART
        name = str(run.run_dir)
    rows = mae.category_rows(report)
    if not rows and report.get("first_bad_row"):
        raise ConfigError(
            f"{name}: no calls to judge, and {report['bad_rows']:,} rows could not be read; "
            f"{report['first_bad_row']}"
        )
    if not rows and data:
        raise ConfigError(f"{name}: no calls to judge; its rows call no tools")
    if not rows:
        raise ConfigError(
            f"{name} has no judged calls; run `tl-jax prepare` first, or give --data=FILE"
        )
    share = mae.error_share(report)
    table = Table(title=escape(f"calls by kind of error: {name}"))
    for heading in ("", "calls", "%"):
        table.add_column(heading, justify="right" if heading else "left")
    for label, count, percent in rows:
        table.add_row(escape(label), f"{count:,}", f"{percent:.2f}")
    console.print(table)
    reasons = Table(title="not trained in full, by rule")
    for heading in ("", "turns", "%"):
        reasons.add_column(heading, justify="right" if heading else "left")
    for label, count, percent in mae.reason_rows(report)[:_RULES_SHOWN]:
        reasons.add_row(escape(label), f"{count:,}", f"{percent:.2f}")
    console.print(reasons)
    mae.write_chart(report, chart, f"Wrong calls: {share:.1f} % of {sum(r[1] for r in rows):,}")
    console.print(
        f"{share:.2f} % of the calls are wrong; {report['trajectories_with_error']:,} trajectories "
        f"hold one; {report['bad_rows']:,} rows could not be read\nchart: {chart}",
        markup=False,
    )


def _show_gain(runs: Sequence[str], console: Console) -> None:
    content = compare(runs)
    table = Table(title="percent right before and after reward training")
    table.add_column("set")
    for title in ("calls", "", "before", "after", "gain", "95 % interval"):
        table.add_column(title, justify="right")
    for name, entry in labelled_sets(content["mean"]).items():
        for metric in METRICS:
            first = (escape(name), str(entry["items"])) if metric == METRICS[0] else ("", "")
            table.add_row(*first, metric.upper(), *_gain(entry[metric]))
    console.print(table)
    paths = write_gains(content, Path(GAIN))
    console.print(f"report: {', '.join(map(str, paths))}", markup=False)


def _gain(entry: Mapping[str, float]) -> tuple[str, ...]:
    interval = f"{entry['low']:+.1f} to {entry['high']:+.1f}"
    return f"{entry['before']:.1f}", f"{entry['after']:.1f}", f"{entry['gain']:+.1f}", interval
