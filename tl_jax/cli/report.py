"""report: one self-contained page about the run.

Writes <run_dir>/report.html (no network needed to read it) and report.png from what is in the run
directory: scores, curves, error categories, what MAE kept and dropped, the worst sampled calls,
throughput, configuration and versions.
"""

from __future__ import annotations

from rich.console import Console

from tl_jax.cli.workspace import Workspace
from tl_jax.parallel import processes
from tl_jax.report.run import write_report


def main(workspace: Workspace, console: Console) -> None:
    """Write the report and print its path."""
    if processes.is_first():
        console.print(f"report: {write_report(workspace.run_dir)}", markup=False)
    processes.wait_for_all("report")
