"""report: one self-contained page about the run, or `report mae`: which errors the data hold.

`report` writes <run_dir>/report.html (no network needed to read it) and report.png from what is in
the run directory: scores, curves, error categories, what MAE kept and dropped, the worst sampled
calls, throughput, configuration and versions.
`report mae` prints the calls of the prepared data by kind of error and draws them into
<run_dir>/mae.png. With --data=FILE it judges that file by the settings in config.mae (or their
defaults: --config is not needed), prepares nothing, and draws into mae.png in the current folder.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tl_jax.cli.workspace import Workspace
from tl_jax.config import RunConfig
from tl_jax.data.importers import BadRow, Source
from tl_jax.data.mae import LabelCounts, label_turns
from tl_jax.data.mae_rules import policy_of
from tl_jax.data.prepared_files import REPORT
from tl_jax.data.sources import open_sources, parse_source
from tl_jax.parallel import processes
from tl_jax.report import mae
from tl_jax.report.read import read_json
from tl_jax.report.run import write_report
from tl_jax.settings import ConfigError

CHART = "mae.png"
_RULES_SHOWN = 12


def main(workspace: Workspace | None, console: Console, topic: str = "", data: str = "") -> None:
    """Write the report and print its path.

    Args:
      workspace: The run; may be None where ``data`` is given.
      console: Where to print.
      topic: ``"mae"`` for the table of errors, else empty.
      data: A trajectory file to judge, as ``FILE`` or ``FILE:FORMAT``.
    """
    if processes.is_first():
        if topic == "mae":
            _show_mae(workspace, console, data)
        elif workspace is not None:
            console.print(f"report: {write_report(workspace.run_dir)}", markup=False)
    processes.wait_for_all("report")


def show_plan(
    workspace: Workspace | None, console: Console, topic: str = "", data: str = ""
) -> None:
    """Print what would be judged, by which rules, and where the chart would go; see ``main``."""
    config = workspace.config if workspace is not None else RunConfig()
    rows, known = _rows(data, config), parse_source(data)[0]
    if isinstance(rows, Source):
        known += f" ({rows.format}; {rows.reason})"
    text = (
        f"plan of tl-jax report {topic}\ndata:  {known}\nrules: {config.mae.rules}\nchart: {CHART}"
    )
    console.print(text, markup=False)


def judge(text: str, config: RunConfig) -> dict[str, Any]:
    """Return the MAE counts of a trajectory file, as ``LabelCounts.report`` with ``bad_rows``.

    Args:
      text: ``FILE`` or ``FILE:FORMAT``.
      config: Its ``mae`` section is the policy.
    """
    policy = policy_of(config.mae)
    counts, bad = LabelCounts(), 0
    for row in _rows(text, config):
        if isinstance(row, BadRow):
            bad += 1
        else:
            counts.add(label_turns(row, policy))
    return {**counts.report(), "bad_rows": bad}


def _rows(text: str, config: RunConfig) -> Any:
    path, form, _ = parse_source(text)
    data = dataclasses.replace(config.data, sources=(), path=path, format=form)
    return open_sources(data, config.seed)[0].rows


def _show_mae(workspace: Workspace | None, console: Console, data: str) -> None:
    if data:
        config = workspace.config if workspace is not None else RunConfig()
        report, chart, name = judge(data, config), Path(CHART), parse_source(data)[0]
    elif workspace is not None:
        report, chart = read_json(workspace.data_dir / REPORT), workspace.run_dir / CHART
        name = str(workspace.run_dir)
    rows = mae.category_rows(report)
    if not rows:
        raise ConfigError(
            f"{name} has no judged calls; run `tl-jax prepare` first, or give --data=FILE"
        )
    share = mae.error_share(report)
    table = Table(title=escape(f"calls by kind of error: {name}"))
    for heading in ("", "calls", "%"):
        table.add_column(heading, justify="right" if heading else "left")
    for label, count, percent in rows:
        table.add_row(label, f"{count:,}", f"{percent:.2f}")
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
